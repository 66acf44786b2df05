"""Turning the dial and reading a unit's tuning, as a visitor does."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from playwright.sync_api import expect

from tests.browser.visit import PHONE, nothing_broke, nothing_overflows, settled

DIAL = ".dial"


def test_the_dial_is_turned_by_pointer_and_keyboard_and_the_link_keeps_the_angle(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/orientation?step=15.0&phases=4")
    expect(page.get_by_role("heading", name="nearest to 0° first")).to_be_visible()
    settled(page)
    dial = page.locator(DIAL)
    box = dial.bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(middle[0] + 50, middle[1])
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] - 40, steps=5)
    page.mouse.up()
    expect(page.get_by_role("heading", name="nearest to 45° first")).to_be_visible()
    settled(page)
    dial.focus()
    for _ in range(3):
        page.keyboard.press("ArrowUp")
    expect(page.get_by_role("heading", name="nearest to 48° first")).to_be_visible()
    settled(page)
    assert dial.get_attribute("aria-valuenow") == "48"
    assert "angle=48" in page.url
    page.get_by_role("spinbutton", name="Angle").fill("100")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="nearest to 100° first")).to_be_visible()
    settled(page)
    expect(dial).to_have_attribute("aria-valuenow", "100")
    nothing_broke(page)


def test_a_tile_opens_its_unit_and_the_numbers_come_down(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/orientation?step=15.0&phases=4&layer=stages.1.0.conv1")
    expect(page.get_by_text("Beside the weights")).to_be_visible()
    settled(page)
    sheet = page.locator("[data-testid=stMain] .tiles")
    sheet.click(position={"x": 10, "y": 10})
    label = page.locator("[data-testid=stMain] .label").first
    unit = re.match(r"Unit (\d+)", label.inner_text()).group(1)
    expect(page.get_by_role("heading", name=f"Unit {unit}", exact=True)).to_be_visible()
    settled(page)
    with page.expect_download() as download:
        page.get_by_test_id("stDownloadButton").get_by_text("NPZ").click()
    numbers = np.load(io.BytesIO(download.value.path().read_bytes()))
    assert numbers["curves"].shape == (64, 12)
    with page.expect_download() as download:
        page.get_by_test_id("stDownloadButton").get_by_text("CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert len(lines) == 65
    assert {"preferred_deg", "selective", "weight_deg", "apart_deg"} <= set(lines[0].split(","))
    page.get_by_role("link", name="Its kernel").click()
    expect(page.get_by_role("heading", name=f"Kernel {unit}", exact=True)).to_be_visible()
    nothing_broke(page)


def test_a_long_measurement_is_cancelled_and_leaves_nothing(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/orientation?step=2.5&phases=16&layer=stages.3.1.conv2")
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    expect(page.get_by_alt_text("The ranking as it settles")).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text(re.compile("Cancelled after"))).to_be_visible()
    settled(page)
    expect(page.get_by_text(re.compile("11,520 gratings: 72 angles"))).to_be_visible()
    nothing_broke(page)
    left = server.left_behind()
    assert (left["hooks"], left["gradients"], left["trainable"]) == (0, 0, 0)


@pytest.mark.parametrize("kind", ["Picture", "Sound"])
def test_nothing_runs_over_the_edge(server, visitor, kind):
    page = visitor(PHONE)
    page.goto(f"{server.url}/orientation?kind={kind}&step=15.0&phases=4")
    expect(page.get_by_text("Peak response")).to_be_visible()
    nothing_overflows(page)
    nothing_broke(page)
