"""Looking through exemplars, as a visitor does."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests.browser.visit import PHONE, nothing_broke, nothing_overflows, settled
from tests.datasets.piles import as_zip, pictures


def test_a_tile_shows_what_drives_its_unit_and_leads_on(server, visitor):
    page = visitor()
    page.goto(f"{server.url}/exemplars?layer=stages.2.0.conv1")
    expect(page.get_by_text("half are below")).to_be_visible()
    settled(page)
    sheet = page.locator("[data-testid=stMain] .tiles")
    box = sheet.bounding_box()
    sheet.click(position={"x": box["width"] * 0.02, "y": box["height"] * 0.98})
    heading = page.get_by_role("heading", name=re.compile(r"^Unit [1-9]\d*$"))
    expect(heading).to_be_visible()
    settled(page)
    unit = re.search(r"\d+", heading.inner_text()).group()
    assert page.get_by_alt_text(re.compile(f"Exemplar . of unit {unit}:")).count() == 9
    page.get_by_text("Guided gradients").click()
    settled(page)
    assert page.get_by_alt_text("Its guided gradient").count() == 9
    page.get_by_role("link", name="What it looks for").click()
    expect(page.get_by_role("heading", name=f"What drives unit {unit} of")).to_be_visible()
    nothing_broke(page)


def test_ones_own_pictures_are_looked_through(server, visitor, tmp_path):
    page = visitor()
    page.goto(f"{server.url}/exemplars?collection=Yours")
    expect(page.get_by_text("Drop pictures here")).to_be_visible()
    archive = as_zip(pictures(30), tmp_path / "pile.zip")
    page.locator("[data-testid=stFileUploaderDropzoneInput]").last.set_input_files(archive)
    expect(page.get_by_text("The strongest of 30 items")).to_be_visible()
    settled(page)
    with page.expect_download() as download:
        page.get_by_test_id("stDownloadButton").get_by_text("CSV").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0].startswith("file,class,")
    nothing_broke(page)


@pytest.mark.parametrize("kind", ["Picture", "Sound"])
def test_nothing_runs_over_the_edge(server, visitor, kind):
    page = visitor(PHONE)
    page.goto(f"{server.url}/exemplars?kind={kind}")
    expect(page.get_by_text("half are below")).to_be_visible()
    nothing_overflows(page)
    nothing_broke(page)
