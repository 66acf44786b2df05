"""Drawing a box on the map, in a real browser."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.test_occlude import nothing_broke, wait_for_map


def test_a_drawn_box_is_measured_alone(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/occlude")
    wait_for_map(page)
    chart = page.locator("[data-testid=stVegaLiteChart]").last
    chart.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    box = chart.locator("canvas, svg").first.bounding_box()
    left, top = box["x"] + 0.35 * box["width"], box["y"] + 0.15 * box["height"]
    page.mouse.move(left, top)
    page.mouse.down()
    page.mouse.move(left + 0.3 * box["width"], top + 0.3 * box["height"], steps=8)
    page.mouse.up()
    page.get_by_role("button", name="Measure only inside this box").click()
    expect(page.get_by_text(re.compile(r"^\d+ positions$"))).not_to_have_text("196 positions")
    wait_for_map(page)
    expect(page).to_have_url(re.compile("part64=true"))
    nothing_broke(page)
