"""The pages about layers and units, as a visitor meets them."""

from __future__ import annotations

import re
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Page, expect

from cnnvis_core.attribution import TITLES
from tests.browser.visit import nothing_broke, photo, settled, upload

SHEET = "[data-testid=stMain] .tiles"
# Every method, on the network and on a shuffled one: time for a visitor to change their mind.
LONG = urlencode({"methods": list(TITLES.values()), "shuffled": "true"}, doseq=True)


def choose_tile(page: Page, column: int, row: int, columns: int, rows: int) -> None:
    sheet = page.locator(SHEET).first
    expect(sheet.locator("img")).to_be_visible()
    box = sheet.bounding_box()
    sheet.click(
        position={
            "x": box["width"] * (column + 0.5) / columns,
            "y": box["height"] * (row + 0.5) / rows,
        }
    )


def test_a_kernel_is_chosen_on_the_sheet_and_opened_on_the_other_pages(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/kernels")
    expect(page.get_by_role("heading", name="32 kernels of stem.0")).to_be_visible()
    settled(page)
    # 32 square kernels: 8 a row.
    choose_tile(page, 3, 1, 8, 4)
    expect(page.get_by_role("heading", name="Kernel 11")).to_be_visible()
    expect(page).to_have_url(re.compile("unit=11"))
    settled(page)
    page.get_by_role("link", name="Its map").click()
    expect(page.get_by_role("heading", name="Unit 11")).to_be_visible()
    settled(page)
    nothing_broke(page)
    page.get_by_role("link", name="What drives it here").click()
    expect(page.get_by_role("heading", name=re.compile("unit 11 of stem.0"))).to_be_visible()
    settled(page)
    nothing_broke(page)


def test_the_keyboard_chooses_a_tile_too(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/kernels")
    settled(page)
    sheet = page.locator(SHEET).first
    expect(sheet).to_be_visible()
    settled(page)
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "Enter"):
        sheet.press(key)
    expect(page.get_by_role("heading", name="Kernel 10")).to_be_visible()
    nothing_broke(page)


@pytest.mark.parametrize("width", [1280, 390])
def test_a_layer_is_chosen_in_the_diagram_everywhere(server, visitor, width):
    page = visitor(width)
    page.goto(f"{server.url}/kernels")
    settled(page)
    page.get_by_text("The network as a diagram").click()
    boxes = page.locator("[data-testid=stVegaLiteChart] path[aria-roledescription='rect mark']")
    chart = page.locator("[data-testid=stVegaLiteChart]").first
    expect(chart).to_be_visible()
    settled(page)
    boxes.nth(3).click()
    settled(page)
    expect(page).to_have_url(re.compile("layer=stages"))
    nothing_broke(page)


def test_feature_maps_of_a_photo_of_one_s_own_follow_the_visitor(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/feature_maps")
    expect(page.get_by_role("heading", name="32 maps of stem.0")).to_be_visible()
    settled(page)
    upload(page, "mine.jpg", "image/jpeg", photo())
    expect(page.get_by_role("radio", name="Your picture")).to_be_checked()
    settled(page)
    page.get_by_role("link", name="Gradients").first.click()
    expect(page.get_by_role("radio", name="Your picture")).to_be_checked()
    settled(page)
    expect(page.get_by_text("Completeness gap").first).to_be_visible()
    nothing_broke(page)


def test_a_hostile_file_loses_nothing_on_the_new_pages(server, visitor):
    page = visitor()
    for name, heading in (("feature_maps", "32 maps of stem.0"), ("gradients", "What carries")):
        page.goto(f"{server.url}/{name}")
        expect(page.get_by_role("heading", name=re.compile(heading))).to_be_visible()
        settled(page)
        upload(page, "bad.png", "image/png", b"<html>no picture</html>")
        expect(page.get_by_text(re.compile("not a supported"))).to_be_visible()
        expect(page.get_by_role("heading", name=re.compile(heading))).to_be_visible()
        settled(page)
        nothing_broke(page)


def follow_gradients(page: Page, url: str) -> None:
    """Open the page and wait until its job runs."""
    page.goto(f"{url}/gradients?{LONG}")
    # `expect` looks too seldom.
    page.get_by_text("Following gradients").first.wait_for()
    page.get_by_role("button", name="Cancel").first.wait_for()


def nothing_is_left(server) -> None:
    left = server.left_behind()
    assert left["modules"] > 0
    assert (left["hooks"], left["gradients"], left["trainable"]) == (0, 0, 0)


def test_nothing_is_left_on_a_model_after_gradients_are_cancelled(server, visitor):
    page = visitor()
    follow_gradients(page, server.url)
    page.get_by_role("button", name="Cancel").first.click()
    expect(page.get_by_text(re.compile("Cancelled after"))).to_be_visible()
    settled(page)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    nothing_broke(page)
    # One of the two jobs was cut short, not one behind them: each whole map has its control.
    assert page.get_by_text("rank correlation with the map above").count() < len(TITLES)
    nothing_is_left(server)


def test_nothing_is_left_on_a_model_after_the_page_is_left_while_gradients_are_followed(
    server, visitor
):
    page = visitor()
    follow_gradients(page, server.url)
    page.get_by_role("link", name="Kernels").first.click()
    expect(page.get_by_role("heading", name="32 kernels of stem.0")).to_be_visible()
    settled(page)
    nothing_broke(page)
    nothing_is_left(server)
