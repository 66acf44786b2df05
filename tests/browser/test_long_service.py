"""Many uploads and cancelled runs leave nothing on a server."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from pathlib import Path

import pytest

from benchmarks.hosting_clients import arrived
from benchmarks.hosting_memory import SIZES, Sender, Tally, light_visit, service
from tests.browser.conftest import Server, serve

UPLOADS, CANCELLED = 30, 15
SMALL = SIZES[:3]


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """A server that forgets who left after a second."""
    environment = {"STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": "1"}
    with serve(tmp_path_factory.mktemp("long"), environment=environment) as server:
        yield server


def address(server: Server) -> str:
    return server.url.removeprefix("http://")


def held(server: Server) -> dict[str, str]:
    """Streamlit's own figures by name, such as the bytes of all uploads."""
    with urllib.request.urlopen(f"{server.url}/_stcore/metrics") as answer:
        lines = answer.read().decode().splitlines()
    return dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#") and " " in line)


def uploaded(server: Server) -> int:
    """Bytes of all uploads that the server holds."""
    return sum(int(v) for name, v in held(server).items() if "UploadedFileManager" in name)


def threads(server: Server) -> int:
    return len(list(Path(f"/proc/{server.process.pid}/task").iterdir()))


def left(server: Server) -> tuple[dict[str, int], int]:
    """What models carry and how many bytes of uploads there are when the last visitor is gone."""
    for _ in range(40):
        found = server.left_behind()
        asyncio.run(light_visit(address(server)))  # behind it, garbage is collected
        if not found["jobs"] and not uploaded(server):
            break
        time.sleep(0.5)
    return server.left_behind(), uploaded(server)


async def send_one(server: Server, sender: Sender) -> int:
    """Bytes of uploads while their visitor is there."""
    async with arrived(address(server)) as visitor:
        await visitor.open("feature_maps")
        file = sender.next()
        await visitor.send(file.box, file.name, file.data)
        await visitor.finish()
        return uploaded(server)


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="threads are counted in /proc (Linux)"
)
def test_uploads_and_cancelled_runs_leave_nothing_behind(forgetful):
    sender, tally = Sender(SMALL), Tally.empty()
    assert asyncio.run(send_one(forgetful, sender)) > 0
    asyncio.run(service(address(forgetful), sender, 4, 3, Tally.empty()))
    before, _ = left(forgetful)
    there = threads(forgetful)
    asyncio.run(service(address(forgetful), sender, UPLOADS, CANCELLED, tally, first=3))
    assert tally.uploads == UPLOADS
    assert tally.refused >= UPLOADS // 5
    assert tally.cancelled == dict.fromkeys(("click", "change", "close"), CANCELLED // 3)
    assert tally.broke == 0
    after, kept = left(forgetful)
    assert kept == 0
    assert after["jobs"] == after["hooks"] == after["gradients"] == after["trainable"] == 0
    assert after["modules"] <= before["modules"]
    # Pools of threads may fill up; one for each stopped run would be many more.
    assert threads(forgetful) < there + CANCELLED
