"""Watching a picture form, as a visitor does."""

from __future__ import annotations

import io
import re
import time

import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.visit import PHONE, nothing_broke, nothing_overflows, settled

FORMING = "img[alt='The picture as it forms']"


def wait_for_other(page: Page, source: str | None) -> str:
    """The source of the forming picture, once it is another one."""
    page.wait_for_function(
        "([s, old]) => { const i = document.querySelector(s); return i && i.src !== old }",
        arg=[FORMING, source],
    )
    found = page.locator(FORMING).get_attribute("src")
    assert found
    return found


def test_a_picture_forms_is_cancelled_and_keeps_what_it_came_to(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/maximize?steps-lucid=2048&layer=stages.2.0.conv2&unit=5")
    seen = [wait_for_other(page, None)]
    began = time.monotonic()
    for _ in range(3):
        seen.append(wait_for_other(page, seen[-1]))
    print(f"three previews in {time.monotonic() - began:.2f} s")
    assert len(set(seen)) == 4
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text(re.compile("Cancelled after"))).to_be_visible()
    settled(page)
    expect(page.locator("img[alt*='The input that drives unit 5']")).to_be_visible()
    expect(page.get_by_text("is not known before the end")).to_be_visible()
    nothing_broke(page)
    left = server.left_behind()
    assert (left["hooks"], left["gradients"], left["trainable"]) == (0, 0, 0)


def test_a_finished_picture_is_played_back_and_downloaded(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/maximize?steps-lucid=32&layer=stages.1.0.conv2&unit=2")
    expect(page.get_by_text("of the picture itself it was")).to_be_visible()
    settled(page)
    for name, check in (("PNG", "PNG"), ("WebP", "WEBP"), ("GIF", "GIF")):
        with page.expect_download() as download:
            page.get_by_test_id("stDownloadButton").get_by_text(name, exact=True).click()
        picture = Image.open(io.BytesIO(download.value.path().read_bytes()))
        assert picture.format == check
        if name != "PNG":
            assert picture.n_frames > 10
            picture.seek(picture.n_frames - 1)
        assert np.asarray(picture.convert("RGB")).std() > 10
    with page.expect_download() as download:
        page.get_by_test_id("stDownloadButton").get_by_text("NPZ").click()
    numbers = np.load(io.BytesIO(download.value.path().read_bytes()))
    assert numbers["images"].shape == (1, 3, 64, 64)
    assert numbers["activation"].shape == (32, 1)
    nothing_broke(page)


def test_the_sheet_of_a_layer_fills_and_a_tile_is_chosen(server, visitor):
    page = visitor(390)
    page.goto(
        f"{server.url}/maximize?draw=All+units+of+a+layer&layer=stem.0&steps-all=16&size-48=32"
    )
    expect(page.get_by_text("32 of 32 pictures are finished")).to_be_visible()
    settled(page)
    sheet = page.locator("[data-testid=stMain] .tiles")
    box = sheet.bounding_box()
    sheet.click(position={"x": box["width"] * 0.99, "y": box["height"] * 0.1})
    expect(page.get_by_role("heading", name=re.compile("Unit 7 of stem.0"))).to_be_visible()
    settled(page)
    page.get_by_role("link", name="Its kernel").click()
    expect(page.get_by_role("heading", name="Kernel 7")).to_be_visible()
    nothing_broke(page)


def test_nothing_runs_over_the_edge(server, visitor):
    page = visitor(PHONE)
    page.goto(f"{server.url}/maximize?steps-lucid=16&layer=stem.0")
    expect(page.get_by_text("of the picture itself it was")).to_be_visible()
    nothing_overflows(page)
    nothing_broke(page)
