"""What a visitor does on every page, and what they must never see."""

from __future__ import annotations

import contextlib
import io

from PIL import Image, ImageDraw
from playwright.sync_api import Error as PlaywrightError
from playwright.sync_api import Locator, Page, expect

expect.set_options(timeout=90_000)

MAP = "img[alt*='places that support']"
IDLE = "[data-testid=stApp][data-test-script-state=notRunning]"
PHONE = 390  # px
GRID = "Numbers under the pointer"


def photo(colour: str = "red", size: tuple[int, int] = (640, 480)) -> bytes:
    """A picture of a ball, turned by its EXIF orientation."""
    picture = Image.effect_noise(size, 60).convert("RGB")
    ImageDraw.Draw(picture).ellipse((160, 80, 480, 400), fill=colour)
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", exif=exif)
    return buffer.getvalue()


def upload(page: Page, name: str, kind: str, data: bytes, where: Locator | None = None) -> None:
    """Send a file by the only box of the page's main part, or of another part."""
    inputs = (where or page.get_by_test_id("stMain")).locator("input[type=file]")
    # While a run replaces an uploader, the stale one may stand beside it.
    expect(inputs).to_have_count(1)
    inputs.set_input_files({"name": name, "mimeType": kind, "buffer": data})


def box_in_sidebar(page: Page, title: str) -> Locator:
    """The part of the sidebar of this title, opened."""
    page.get_by_test_id("stSidebar").get_by_text(title, exact=True).click()
    return page.get_by_test_id("stSidebar").get_by_test_id("stExpander").filter(has_text=title)


def settled(page: Page) -> None:
    """Wait for the end of the run."""
    page.wait_for_timeout(400)
    expect(page.locator(IDLE)).to_be_visible()


def nothing_overflows(page: Page) -> None:
    """What is drawn is no wider than the window, as it was opened and on a desk."""
    for width in (page.viewport_size["width"], 1280):
        page.set_viewport_size({"width": width, "height": 900})
        settled(page)
        assert page.evaluate(
            "['body', '[data-testid=stMain]'].map(name => document.querySelector(name))"
            ".every(part => part.scrollWidth <= part.clientWidth)"
        )


def wait_for_map(page: Page) -> None:
    """Wait for the end of the run, then for what it has drawn; stale elements look the same."""
    page.wait_for_timeout(300)
    expect(page.locator(IDLE)).to_be_visible()
    expect(page.get_by_text(GRID)).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)


def nothing_broke(page: Page) -> None:
    expect(page.get_by_text("Traceback")).to_have_count(0)
    expect(page.locator("[data-testid=stException]")).to_have_count(0)


def cancel(page: Page) -> None:
    """Stop what runs; it may have ended meanwhile."""
    with contextlib.suppress(PlaywrightError):
        page.get_by_role("button", name="Cancel").first.click(timeout=3000)


def done(page: Page) -> None:
    """Wait for the end of what runs, jobs included."""
    settled(page)
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    settled(page)
    nothing_broke(page)
