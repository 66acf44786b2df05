"""What the server's memory comes to for the largest files that visitors are expected to send."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image
from playwright.sync_api import Page, expect

from tests.browser.visit import IDLE, nothing_broke, upload

MOST = 1.5e9  # bytes
PICTURE = (6324, 4744)  # 30 megapixels
SECONDS, RATE = 30, 44_100


def large_photo() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise(PICTURE, 40).convert("RGB").save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def long_clip() -> bytes:
    """Noise in two bursts a second."""
    count = SECONDS * RATE
    samples = 0.2 * np.random.default_rng(0).normal(size=count) * (np.arange(count) % 22_050 < 6000)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, RATE, format="FLAC")
    return buffer.getvalue()


def peak(process: int) -> int:
    """Largest resident memory of a process so far, in bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def drawn(page: Page) -> None:
    """Wait for the end of the run and of its jobs."""
    page.wait_for_timeout(300)
    expect(page.locator(IDLE)).to_be_visible()
    expect(page.get_by_role("button", name="Cancel")).to_have_count(0)
    nothing_broke(page)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="peak memory is read from /proc (Linux)"
)
def test_large_files_fit_in_the_memory_of_a_small_host(fresh_server, visitor):
    page = visitor()
    pages = page.locator("[data-testid=stSidebarNavLink]")
    peaks = {"start": peak(fresh_server.process.pid)}

    def note(step: str) -> None:
        drawn(page)
        peaks[step] = peak(fresh_server.process.pid)

    for kind, name, mime, data in (
        ("Picture", "large.jpg", "image/jpeg", large_photo()),
        ("Sound", "long.flac", "audio/flac", long_clip()),
    ):
        own = page.get_by_role("radio", name=f"Your {kind.lower()}")
        page.goto(f"{fresh_server.url}/feature_maps?kind={kind}")
        expect(page.get_by_role("heading", name=re.compile("maps of stem.0"))).to_be_visible()
        note(f"{kind}: feature maps of a sample")
        upload(page, name, mime, data)
        expect(own).to_be_checked()
        note(f"{kind}: feature maps")
        pages.filter(has_text="Gradients").click()
        expect(page.get_by_role("heading", name=re.compile("What carries"))).to_be_visible()
        expect(own).to_be_checked()
        expect(page.get_by_text("Completeness gap").first).to_be_visible()
        note(f"{kind}: gradients")
        pages.filter(has_text="Kernels").click()
        expect(page.get_by_role("heading", name=re.compile("kernels of"))).to_be_visible()
        note(f"{kind}: kernels")
    said = ", ".join(f"{step} {size / 1e9:.3f} GB" for step, size in peaks.items())
    print(said)
    assert max(peaks.values()) < MOST, said
