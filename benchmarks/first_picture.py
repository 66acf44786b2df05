"""Time what a visitor waits for: from the upload to the first preview and to the whole map.

    python -m benchmarks.first_picture http://localhost:8501 [--runs 5]

Needs a running app and chromium; uploads fresh pictures, so that nothing comes from a cache.
"""

from __future__ import annotations

import argparse
import io
import shutil
import statistics
import time

import numpy as np
from PIL import Image
from playwright.sync_api import expect, sync_playwright

MAP = "img[alt*='places that support']"


def photo(seed: int) -> bytes:
    """A 12-megapixel JPEG, as a phone makes it."""
    small = np.random.default_rng(seed).integers(0, 255, (30, 40, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(small).resize((4000, 3000)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    """Print medians over several uploads."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    preview, whole = [], []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(f"{arguments.url}/occlude")
        ready = page.get_by_text("Numbers under the pointer")
        expect(ready).to_be_visible(timeout=60_000)
        for run in range(arguments.runs):
            picture = page.locator("[data-testid=stImage] img").first
            before = picture.get_attribute("src")
            began = time.perf_counter()
            page.locator("[data-testid=stMain] input[type=file]").set_input_files(
                {"name": f"{run}.jpg", "mimeType": "image/jpeg", "buffer": photo(run)}
            )
            page.wait_for_function(
                "([selector, old]) => { const i = document.querySelector(selector);"
                " return i && i.src !== old && !i.src.endsWith(old) }",
                arg=[MAP, before],
                timeout=60_000,
                polling=20,
            )
            preview.append(time.perf_counter() - began)
            page.wait_for_function(
                "() => document.querySelectorAll('[data-testid=stProgress]').length === 0",
                timeout=60_000,
                polling=20,
            )
            expect(ready).to_be_visible(timeout=60_000)
            whole.append(time.perf_counter() - began)
        browser.close()
    print(f"first map on the screen {statistics.median(preview):.2f} s after the upload")
    print(f"whole map on the screen {statistics.median(whole):.2f} s after the upload")


if __name__ == "__main__":
    main()
