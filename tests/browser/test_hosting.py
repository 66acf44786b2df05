"""Several visitors on one server."""

from __future__ import annotations

import time

from playwright.sync_api import expect

from tests.browser.visit import MAP, nothing_broke, settled, wait_for_map


def test_a_short_map_does_not_wait_behind_a_long_training(server, visitor):
    long, short = visitor(), visitor()
    long.goto(f"{server.url}/transfer?transfer-view=Fine-tune&epochs=30")
    long.get_by_role("button", name="Train").click()
    expect(long.get_by_text("held back").last).to_be_attached()
    short.goto(f"{server.url}/occlude?score=Logit")
    wait_for_map(short)
    expect(short.locator(MAP)).to_be_visible()
    expect(long.get_by_role("button", name="Cancel")).to_be_visible()
    nothing_broke(short)
    long.get_by_role("button", name="Cancel").click()
    settled(long)
    nothing_broke(long)


def test_an_abandoned_job_ends_and_leaves_its_place(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/transfer?transfer-view=Fine-tune&epochs=30")
    page.get_by_role("button", name="Train").click()
    expect(page.locator("[data-testid=stVegaLiteChart]").first).to_be_visible()
    assert server.left_behind()["jobs"] >= 1
    page.close()
    for _ in range(60):
        left = server.left_behind()
        if left["jobs"] == 0:
            break
        time.sleep(0.5)
    assert left["jobs"] == 0
    other = visitor()
    other.goto(f"{server.url}/kernels")
    settled(other)
    nothing_broke(other)
