"""Many uploads and cancelled runs leave nothing on a server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks import hosting_memory
from benchmarks.hosting_census import watched
from benchmarks.hosting_clients import arrived
from benchmarks.hosting_files import SIZES, Sender
from benchmarks.hosting_memory import Tally, light_visit, service

UPLOADS, CANCELLED = 12, 6
NOTHING = ("jobs", "shared runs", "hooks", "gradients", "uploaded files")


def run(visit: Coroutine[Any, Any, Any]) -> Any:
    """Run a visit in a thread of its own; in this one, chromium may have a loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, visit).result()


@pytest.fixture(scope="module")
def forgetful(tmp_path_factory):
    """A server that forgets who left after a second, and what it holds."""
    with watched(tmp_path_factory.mktemp("long"), ttl=1) as (server, told):
        yield server.address, told


def left(address: str, told, modules: float = float("inf")) -> dict:
    """What the server holds when the last visitors are gone, and with them all but some modules."""
    for _ in range(60):
        run(light_visit(address))  # behind it, garbage is collected
        found = told()
        # The light visit's own session may be there, and the one before.
        gone = found["sessions"] <= 2 and not any(found[name] for name in NOTHING)
        if gone and found["modules"] <= modules:
            break
        time.sleep(0.5)
    return found


async def while_there(address: str, told, sender: Sender) -> dict:
    """What the server holds while a visitor is there who has sent a picture and begun a run."""
    async with arrived(address) as visitor:
        await visitor.open("feature_maps")
        file = sender.next()
        await visitor.send(file.box, file.name, file.data)
        await visitor.finish()
        await visitor.ask("maximize", "steps-lucid=2048")
        assert await visitor.until(lambda: visitor.bar > 0)
        return told()


@pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="threads are counted in /proc (Linux)"
)
def test_uploads_and_cancelled_runs_leave_nothing_behind(forgetful, monkeypatch):
    monkeypatch.setattr(hosting_memory, "LOOKING", ("feature_maps",))  # the page without jobs
    address, told = forgetful
    sender, tally = Sender(SIZES[:3]), Tally.empty()
    seen = run(while_there(address, told, sender))
    assert seen["jobs"] == seen["uploaded files"] == 1
    run(service(address, sender, 4, 3, Tally.empty()))
    before = left(address, told)
    run(service(address, sender, UPLOADS, CANCELLED, tally, first=3))
    assert tally.uploads == UPLOADS
    assert tally.refused >= UPLOADS // 8
    assert tally.cancelled == dict.fromkeys(("click", "change", "close"), CANCELLED // 3)
    assert tally.broke == 0
    after = left(address, told, before["modules"])
    assert {name: after[name] for name in NOTHING} == dict.fromkeys(NOTHING, 0)
    assert after["sessions"] <= 2
    assert after["modules"] <= before["modules"]
    # Pools of threads may fill up; one for each stopped run would be many more.
    assert after["threads"] < before["threads"] + CANCELLED
