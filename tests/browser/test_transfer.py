"""Transfer, as a visitor does it."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from cnnvis_core.models.embedded import embedded_ids, parent_of
from tests.browser.visit import PHONE, nothing_broke, nothing_overflows, settled

pytestmark = pytest.mark.skipif(
    not any(parent_of(name) for name in embedded_ids()), reason="no fine-tuned model in assets"
)
LONG = 60_000  # ms


def test_a_unit_is_followed_through_the_epochs(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/transfer?layer=stem.0")
    expect(page.get_by_text("Centred kernel alignment over")).to_be_visible(timeout=LONG)
    settled(page)
    assert page.get_by_alt_text(re.compile(r"looks for: Epoch \d")).count() >= 2
    sheet = page.locator("[data-testid=stMain] .tiles").first
    box = sheet.bounding_box()
    sheet.click(position={"x": box["width"] * 0.2, "y": box["height"] * 0.5})
    settled(page)
    expect(page.get_by_text("Place 2 of 32 by responses.")).to_be_visible()
    with page.expect_download() as download:
        page.get_by_test_id("stDownloadButton").get_by_text("CSV").last.click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0].startswith("unit,weight_change,weight_noise,correlation")
    assert len(lines) == 33
    nothing_broke(page)


def test_a_training_is_cancelled_and_its_last_epoch_kept(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/transfer?transfer-view=Fine-tune&epochs=30")
    page.get_by_role("button", name="Train").click()
    # Loss and accuracy of the first epoch stand above the losses of the next one's batches.
    expect(page.locator("[data-testid=stVegaLiteChart]").nth(2)).to_be_visible(timeout=LONG)
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text("Cancelled after")).to_be_visible(timeout=LONG)
    expect(page.get_by_text("Best after epoch")).to_be_visible()
    expect(page.get_by_role("button", name="See what changed")).to_be_visible()
    nothing_broke(page)


@pytest.mark.parametrize("view", ["Compare", "Fine-tune"])
def test_nothing_runs_over_the_edge(server, visitor, view):
    page = visitor(PHONE)
    page.goto(f"{server.url}/transfer?transfer-view={view}&layer=stem.0")
    last = "Centred kernel alignment over" if view == "Compare" else "pictures of"
    expect(page.get_by_text(last)).to_be_visible(timeout=LONG)
    nothing_overflows(page)
    nothing_broke(page)
