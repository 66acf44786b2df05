"""Many visitors at once on one server: what each waits for, and whether anything breaks.

    python -m benchmarks.hosting [--visitors 20] [--seconds 60]

Starts the app in a process of its own, on loopback, and visits it by websockets as browsers do:
each visitor opens page after page, with a second of reading in between; half of them pages with
heavy work that nobody has asked for before, half of them light ones. A page's time runs from the
request to the end of its script.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import websockets
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

ROOT = Path(__file__).resolve().parent.parent
LAYERS = [f"stages.{s}.{b}.conv{c}" for s, b, c in itertools.product((1, 2, 3), (0, 1), (1, 2))]
READING = 1.0  # seconds between two pages
FAILED = 1  # what a script that raised ends with


@contextmanager
def served() -> Iterator[str]:
    """Address of a fresh server, without its scheme."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [
        *(sys.executable, "-m", "streamlit", "run", "app.py"),
        *(f"--server.port={port}", "--server.address=localhost"),
    ]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            command, cwd=ROOT, stdout=log, stderr=log, env={**os.environ, "no_proxy": "*"}
        )
        try:
            for _ in range(300):
                try:
                    urllib.request.urlopen(f"http://localhost:{port}/_stcore/health", timeout=1)
                    break
                except OSError:
                    time.sleep(0.2)
            yield f"localhost:{port}"
        finally:
            process.terminate()
            process.wait(30)


def heavy(rng: random.Random) -> tuple[str, str]:
    """A page with work that nobody has asked for before."""
    layer, unit = rng.choice(LAYERS), rng.randrange(64)
    return rng.choice(
        [
            ("maximize", f"layer={layer}&unit={unit}&steps-lucid={rng.randrange(32, 96)}"),
            ("orientation", f"layer={layer}&unit={unit}&step=15.0&phases=4"),
            ("exemplars", f"layer={layer}&unit={unit}"),
            ("occlude", f"score=Logit&patch64={rng.randrange(8, 24)}"),
        ]
    )


def light(rng: random.Random) -> tuple[str, str]:
    """A page without work that has to wait for others."""
    layer, unit = rng.choice(LAYERS), rng.randrange(64)
    page = rng.choice(["kernels", "feature_maps", "models"])
    return page, f"layer={layer}&unit={unit}"


async def visit(
    address: str, kind: str, number: int, until: float, times: dict[str, list[float]]
) -> int:
    """One visitor; returns how many pages broke."""
    rng, broke = random.Random(number), 0
    async with websockets.connect(
        f"ws://{address}/_stcore/stream",
        subprotocols=[websockets.Subprotocol("streamlit")],
        max_size=2**28,
        origin=websockets.Origin(f"http://{address}"),
    ) as socket_:
        while time.monotonic() < until:
            page, query = (heavy if kind == "heavy" else light)(rng)
            asked = BackMsg()
            asked.rerun_script.page_name, asked.rerun_script.query_string = page, query
            began = time.monotonic()
            await socket_.send(asked.SerializeToString())
            while True:
                told = ForwardMsg()
                told.ParseFromString(bytes(await socket_.recv()))  # type: ignore[arg-type]
                element = told.delta.new_element
                broke += element.WhichOneof("type") == "exception"
                if told.WhichOneof("type") == "script_finished":
                    broke += told.script_finished == FAILED
                    if told.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        break
            times[page].append(time.monotonic() - began)
            times[f"{kind} {number}"].append(time.monotonic() - began)
            await asyncio.sleep(READING)
    return broke


async def crowd(address: str, visitors: int, seconds: float) -> tuple[dict[str, list[float]], int]:
    """Times by page and by visitor, and how many pages broke."""
    times: dict[str, list[float]] = defaultdict(list)
    until = time.monotonic() + seconds
    broke = await asyncio.gather(
        *(visit(address, "heavy" if n % 2 else "light", n, until, times) for n in range(visitors))
    )
    return times, sum(broke)


def main() -> None:
    """Print what was waited for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    asked = parser.parse_args()
    with served() as address:
        asyncio.run(crowd(address, 1, 1))  # libraries and models are loaded by the first visitor
        asyncio.run(crowd(address, 2, 5))
        times, broke = asyncio.run(crowd(address, asked.visitors, asked.seconds))
    for page in ("kernels", "feature_maps", "models", "maximize", "orientation", "exemplars",
                 "occlude"):  # fmt: skip
        if times[page]:
            print(
                f"{page}: {len(times[page])} times, median {statistics.median(times[page]):.2f} s, "
                f"95th percentile {np.quantile(times[page], 0.95):.2f} s"
            )
    every = [t for page in ("kernels", "feature_maps", "models") for t in times[page]]
    print(f"light pages: 95th percentile {np.quantile(every, 0.95):.2f} s; pages broken: {broke}")
    for kind in ("light", "heavy"):
        means = [statistics.mean(v) for name, v in times.items() if name.startswith(f"{kind} ")]
        print(f"{kind} visitors: the slowest {max(means) / statistics.mean(means):.2f} x the mean")


if __name__ == "__main__":
    main()
