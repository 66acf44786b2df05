"""A real server and a real chromium."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from cnnvis_core.models.download import WeightFile

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--no-sandbox",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--use-fake-ui-for-media-stream",
    "--use-fake-device-for-media-stream",
]
PATIENCE = 90_000  # milliseconds; a shared CI machine may be slow


def pytest_collection_modifyitems(items):
    required = os.environ.get("CNNVIS_REQUIRE_BROWSER")
    for item in items:
        if Path(item.fspath).parent.name != "browser":
            continue
        item.add_marker(pytest.mark.browser)
        if not CHROMIUM and not required:
            item.add_marker(pytest.mark.skip(reason="chromium is not installed"))


@dataclass(frozen=True)
class Server:
    """A running app."""

    url: str
    process: subprocess.Popen
    report: Path

    def left_behind(self) -> dict[str, int]:
        """What the server's models carry now."""
        self.report.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        for _ in range(200):
            if self.report.exists():
                return json.loads(self.report.read_text())
            time.sleep(0.1)
        raise AssertionError("the server did not report")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


@contextlib.contextmanager
def serve(
    folder: Path,
    weights: Mapping[str, WeightFile] | None = None,
    environment: Mapping[str, str] | None = None,
    port: int | None = None,
) -> Iterator[Server]:
    """Start a fresh server and wait until it is healthy.

    Parameters
    ----------
    folder : Path
        For its log, its report and the weights that it downloads.
    weights : mapping, optional
        Where the public weights of some models come from instead.
    environment : mapping, optional
        Further variables of its environment.
    port : int, optional
        Where it listens, such as a server did that was killed; a free one if left out.
    """
    elsewhere = {name: (file.url, file.size) for name, file in (weights or {}).items()}
    port = port or free_port()
    log = (folder / "server.log").open("w")
    report = folder / "report.json"
    process = subprocess.Popen(
        [
            sys.executable,
            str(ROOT / "tests" / "browser" / "serve.py"),
            *(str(port), str(report), json.dumps(elsewhere)),
        ],
        cwd=ROOT,
        stdout=log,
        stderr=subprocess.STDOUT,
        env={
            **os.environ,
            **{"PYTHONPATH": str(ROOT), "TORCH_HOME": str(folder / "torch"), "no_proxy": "*"},
            **(environment or {}),
        },
    )
    url = f"http://localhost:{port}"
    try:
        for _ in range(600):
            with contextlib.suppress(OSError):
                if urllib.request.urlopen(f"{url}/_stcore/health", timeout=2).status == 200:
                    break
            if process.poll() is not None:
                raise AssertionError((folder / "server.log").read_text())
            time.sleep(0.1)
        yield Server(url, process, report)
    finally:
        process.terminate()
        process.wait(PATIENCE / 1000)
        log.close()


@pytest.fixture(scope="session")
def server(tmp_path_factory) -> Iterator[Server]:
    with serve(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture
def fresh_server(tmp_path) -> Iterator[Server]:
    with serve(tmp_path) as running:
        yield running


@pytest.fixture(scope="session")
def browser():
    if not CHROMIUM:
        pytest.fail("chromium is demanded (CNNVIS_REQUIRE_BROWSER) and not installed")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield running
        running.close()


@pytest.fixture
def visitor(browser):
    """A function that opens a new visitor's own window."""
    contexts = []

    def open_window(width: int = 1280):
        context = browser.new_context(viewport={"width": width, "height": 900})
        context.set_default_timeout(PATIENCE)
        contexts.append(context)
        return context.new_page()

    yield open_window
    for context in contexts:
        context.close()
