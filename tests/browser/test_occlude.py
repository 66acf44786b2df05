"""The occlusion page as a visitor meets it, in a real browser on a real server."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import soundfile
from PIL import Image
from playwright.sync_api import Page, expect

from cnnvis_core.inputs.samples import samples
from tests.browser.visit import (
    IDLE,
    MAP,
    nothing_broke,
    nothing_overflows,
    photo,
    upload,
    wait_for_map,
)


def clip() -> bytes:
    rng = np.random.default_rng(0)
    samples = 0.2 * rng.normal(size=2 * 44100) * (np.arange(2 * 44100) % 22050 < 3000)
    buffer = io.BytesIO()
    soundfile.write(buffer, np.stack([samples, samples], 1), 44100, format="WAV")
    return buffer.getvalue()


def menu(page: Page) -> list[str]:
    links = page.locator("[data-testid=stSidebarNavLink]")
    expect(links.first).to_be_visible()
    return [text.strip() for text in links.all_inner_texts()]


def test_a_first_visit_finds_analysed_samples(server, visitor):
    page = visitor()
    page.goto(server.url)
    expect(page.get_by_role("heading", name="cnnvis")).to_be_visible()
    tiles = page.locator("img[alt*='places that support']")
    expect(tiles.nth(5)).to_be_visible()
    nothing_broke(page)
    page.get_by_role("link", name="Open flower").click()
    wait_for_map(page)
    expect(page.get_by_role("radio", name="Flower")).to_be_checked()
    # A link is heeded by what every page shares, too, also when the visitor comes back.
    page.get_by_role("link", name="Start").first.click()
    page.get_by_role("link", name="Open clock tick").click()
    wait_for_map(page)
    expect(page.get_by_role("radio", name="Sound")).to_be_checked()
    expect(page.get_by_role("radio", name="Clock tick")).to_be_checked()
    nothing_broke(page)


def test_a_deep_link_on_a_fresh_server_meets_the_router(fresh_server, visitor):
    page = visitor()
    page.goto(f"{fresh_server.url}/occlude?patch64=20&score=Logit")
    wait_for_map(page)
    assert [name.split("\n")[-1] for name in menu(page)] == [
        *("Start", "Occlusion", "Feature maps", "Gradients", "Kernels", "Maximisation"),
        *("Orientation", "Exemplars", "Transfer", "Models"),
    ]
    expect(page.get_by_role("slider", name="Patch (input px)")).to_have_value("20")
    expect(page.get_by_text(re.compile("Drop of the logit"))).to_be_visible()
    nothing_broke(page)


def test_a_photo_is_analysed_and_a_tile_shows_the_covered_picture(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    upload(page, "holiday.jpg", "image/jpeg", photo())
    expect(page.get_by_text(re.compile("turned|rotated|upright", re.IGNORECASE))).to_be_visible()
    wait_for_map(page)
    expect(page.locator(MAP)).to_be_visible()
    grid = page.locator("[data-testid=stVegaLiteChart]").nth(1)
    grid.scroll_into_view_if_needed()
    grid.locator("canvas, svg").first.click(position={"x": 200, "y": 150})
    expect(page.get_by_text(re.compile("Covered here, the probability"))).to_be_visible()
    page.wait_for_timeout(300)
    expect(page.locator(IDLE)).to_be_visible()
    with page.expect_download() as download:
        page.get_by_role("button", name="CSV").click()
    table = download.value.path().read_text().splitlines()
    assert len(table) == 1 + 14 * 14
    page.get_by_text("How faithful is this map?").click()
    for name in ("Deletion", "Insertion"):
        measured = page.get_by_text(re.compile(rf"{name} area 0\.\d+, at random 0\.\d+"))
        expect(measured).to_be_visible()
    nothing_broke(page)


def test_the_address_bar_carries_the_sample_but_no_upload(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    cat = page.get_by_role("radio", name="Cat")
    cat.click()
    expect(page).to_have_url(re.compile("sample-image=Cat"))
    page.get_by_role("slider", name="Stride (input px)").press("ArrowRight")
    expect(page).to_have_url(re.compile("stride64=5"))
    wait_for_map(page)
    expect(page).to_have_url(re.compile("sample-image=Cat"))
    upload(page, "mine.jpg", "image/jpeg", photo())
    expect(cat).not_to_be_checked()
    wait_for_map(page)
    expect(page).to_have_url(re.compile(r"sample-image=Your(\+|%20)picture"))
    expect(page).not_to_have_url(re.compile("mine"))
    cat.click()
    expect(cat).to_be_checked()
    wait_for_map(page)
    expect(page).to_have_url(re.compile("sample-image=Cat"))
    nothing_broke(page)


@pytest.mark.parametrize(("width", "first"), [(1280, "controls"), (390, "map")])
def test_the_map_comes_before_the_controls_where_they_stack(server, visitor, width, first):
    page = visitor(width)
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    shown = page.locator(MAP).bounding_box()
    box = page.locator("[data-testid=stMain] [data-testid=stFileUploader]").bounding_box()
    grid = page.locator("[data-testid=stVegaLiteChart]").nth(1).bounding_box()
    assert (box["y"] > shown["y"] + shown["height"]) == (first == "map")
    assert (box["x"] > shown["x"] + shown["width"]) == (first == "controls")
    assert grid["y"] > box["y"] + box["height"]
    nothing_overflows(page)


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_a_clip_is_analysed_and_can_be_heard(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude?kind=Sound")
    wait_for_map(page)
    upload(page, "steps.wav", "audio/wav", clip())
    expect(page.get_by_text(re.compile("channels", re.IGNORECASE)).first).to_be_visible()
    wait_for_map(page)
    expect(page.get_by_text("Play only what matters")).to_be_visible()
    expect(page.locator("audio").nth(1)).to_be_attached()
    nothing_broke(page)


def test_the_camera_s_picture_is_analysed(server, visitor):
    page = visitor()
    page.context.grant_permissions(["camera", "microphone"])
    page.goto(f"{server.url}/occlude?fill=Black")
    wait_for_map(page)
    heading = page.get_by_role("heading", name=re.compile("What carries"))
    before = heading.inner_text()
    page.get_by_text("Use the camera").click()
    # The button is there before the camera's first frame; a click then is lost.
    shutter = page.get_by_role("button", name="Take Photo")
    expect(shutter).to_be_visible()
    for _ in range(10):
        page.wait_for_timeout(2000)
        if shutter.count() == 0:
            break
        shutter.click()
    expect(heading).not_to_have_text(before)
    wait_for_map(page)
    nothing_broke(page)


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_a_recording_is_analysed(server, visitor):
    page = visitor()
    page.context.grant_permissions(["camera", "microphone"])
    page.goto(f"{server.url}/occlude?kind=Sound")
    wait_for_map(page)
    positions = page.get_by_text(re.compile(r"\d+ positions"))
    before = positions.inner_text()
    page.get_by_text("Use the microphone").click()
    recorder = page.locator("[data-testid=stAudioInput] button").first
    recorder.click()
    page.wait_for_timeout(2500)
    recorder.click()
    # A recording of another length than the sample has another number of places.
    expect(positions).not_to_have_text(before)
    wait_for_map(page)
    nothing_broke(page)


def test_cancel_stops_keeps_the_preview_and_leaves_no_hook(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude?patch64=3&stride64=1")
    expect(page.locator(MAP)).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text(re.compile(r"Cancelled after \d+%"))).to_be_visible()
    expect(page.locator(MAP)).to_be_visible()
    left = server.left_behind()
    assert left["modules"] > 10
    assert {left[k] for k in ("hooks", "gradients", "trainable", "training")} == {0}
    page.get_by_role("button", name="Run again").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    nothing_broke(page)


HOSTILE = {
    "page.png": (b"<html><script>alert(1)</script></html>", "not a supported"),
    "half.jpg": (photo()[:4000], "incomplete"),
    "blank.png": (b"", "empty"),
}


def test_a_hostile_file_gets_a_sentence_and_loses_nothing(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    for name, (data, words) in HOSTILE.items():
        upload(page, name, "image/png", data)
        expect(page.get_by_text(re.compile(words)).first).to_be_visible()
        wait_for_map(page)
        expect(page.locator(MAP)).to_be_visible()
        nothing_broke(page)


def test_two_visitors_at_once_see_their_own_pictures(fresh_server, visitor):
    # On a fresh server both of them import the app.
    pages = [visitor(), visitor()]
    for page in pages:
        page.goto(f"{fresh_server.url}/occlude?opacity=0")
    files = [photo("red"), photo("blue")]
    for page, data in zip(pages, files, strict=True):
        upload(page, "mine.jpg", "image/jpeg", data)
    for page in pages:
        expect(
            page.get_by_text(re.compile("upright|turned|rotated", re.IGNORECASE))
        ).to_be_visible()
        wait_for_map(page)
    seen = []
    for page in pages:
        source = page.locator(MAP).get_attribute("src")
        data = page.request.get(
            source if source.startswith("http") else fresh_server.url + source
        ).body()
        picture = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), float)
        height, width = picture.shape[:2]
        seen.append(
            picture[height // 2 - 20 : height // 2 + 20, width // 2 - 20 : width // 2 + 20].mean(
                (0, 1)
            )
        )
    assert seen[0][0] > seen[0][2] + 30
    assert seen[1][2] > seen[1][0] + 30
