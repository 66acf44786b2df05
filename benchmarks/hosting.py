"""Many visitors at once on one server: what each waits for, and whether anything breaks.

    python -m benchmarks.hosting [--visitors 20] [--seconds 60]
    python -m benchmarks.hosting --same [--visitors 20]

Starts the app in a process of its own, on loopback, and visits it by websockets as browsers do:
each visitor opens page after page, with a second of reading in between; half of them pages with
heavy work that nobody has asked for before, half of them light ones. A page's time runs from the
request to the end of its script.

Whether all are served alike is asked of equal work. Heavy visitors go round one list of pages, each
beginning elsewhere; what makes a page dear (its layer, its steps, its patch) is the same for all,
and what makes it new (its seed, its class, the contrast and width of its gratings) costs nothing.
Exemplars of all layers are measured once and kept for everybody, so that this page is light for all
but the first. Only whole rounds count: those begun in the given seconds, the first in any case. Who
is through goes on, uncounted, until all are, so that nobody's wait becomes shorter by others'
leaving. The figure of a visitor is the time of these pages for each second that they take somebody
who is alone on the server. The server's log, which does not tell visitors apart, adds how long all
jobs together waited for each second that was computed.

``--same`` is a lecture: all visitors ask for the same new work at the same moment; beside it stands
what one visitor who is alone waits for such work.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import random
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np

import cnnvis_core as cv
from benchmarks.hosting_clients import Server, Visitor, arrived, served

MODEL = "resnet64-tiny-imagenet"
LAYER, UNITS = "stages.2.0.conv2", 128
CONTRASTS = range(100, 0, -5)  # per cent
DIAMETERS = ("whole picture", "48", "32", "24", "16", "12", "8")
PATCH, STRIDE = 16, 2  # pixels
STEPS = 128  # of an ascent
READING = 1.0  # seconds between two pages
ALONE = 3  # times that each heavy page is opened by one visitor alone

Query = Callable[[int], Mapping[str, object]]


def _maximize(number: int) -> Mapping[str, object]:
    return {
        "layer": LAYER,
        "unit": number % UNITS,  # as long as no page before has set it
        "seed": number,
        "steps-lucid": STEPS,
    }


def _orientation(number: int) -> Mapping[str, object]:
    width, contrast = divmod(number, len(CONTRASTS))
    return {
        "layer": LAYER,
        "step": 15.0,
        "phases": 4,
        "contrast": CONTRASTS[contrast],
        "diameter-64": DIAMETERS[width % len(DIAMETERS)],
    }


def _occlude(number: int) -> Mapping[str, object]:
    classes = cv.load(MODEL).classes
    return {
        "class": classes[number % len(classes)],
        "score": "Logit",
        "patch64": PATCH,
        "stride64": STRIDE,
    }


def _unit(number: int) -> Mapping[str, object]:
    return {"layer": LAYER, "unit": number % UNITS}


HEAVY: Mapping[str, Query] = {
    "maximize": _maximize,
    "occlude": _occlude,
    "orientation": _orientation,
    "exemplars": _unit,
}
LIGHT: Mapping[str, Query] = {
    "kernels": _unit,
    "feature_maps": _unit,
    "models": lambda number: {},
}
NEW = itertools.count(1)  # no two pages with heavy work ask for the same


@dataclass
class Notes:
    """What was seen.

    Attributes
    ----------
    pages : dict of str to list of float
        Times by page, in seconds.
    rounds : dict of int to list of float
        Times of whole rounds of heavy pages, without the reading, by visitor.
    light : dict of int to list of float
        Times of light pages by visitor.
    broke : int
        Pages that broke.
    """

    pages: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    rounds: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    light: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    broke: int = 0


async def opened(visitor: Visitor, page: str, query: Mapping[str, object], notes: Notes) -> float:
    """Open a page; its time in seconds."""
    began, before = time.monotonic(), visitor.broke
    await visitor.open(page, urlencode(query))
    notes.broke += visitor.broke > before
    return time.monotonic() - began


async def visit_heavy(
    address: str, number: int, until: float, notes: Notes, through: asyncio.Event
) -> None:
    """Go round the heavy pages until somebody ends it; ``through`` tells that the rest is extra."""
    pages = list(HEAVY)
    shift = number % len(pages)
    async with arrived(address) as visitor:
        while True:
            took = []
            for page in pages[shift:] + pages[:shift]:
                took.append((page, await opened(visitor, page, HEAVY[page](next(NEW)), notes)))
                await asyncio.sleep(READING)
            if not through.is_set():
                notes.rounds[number].append(sum(seconds for _, seconds in took))
                for page, seconds in took:
                    notes.pages[page].append(seconds)
            if time.monotonic() >= until:
                through.set()


async def visit_light(address: str, number: int, notes: Notes) -> None:
    """Open light pages until somebody ends it."""
    rng, pages = random.Random(number), itertools.cycle(LIGHT)
    async with arrived(address) as visitor:
        for page in pages:
            seconds = await opened(visitor, page, LIGHT[page](rng.randrange(UNITS)), notes)
            notes.pages[page].append(seconds)
            notes.light[number].append(seconds)
            await asyncio.sleep(READING)


async def crowd(address: str, visitors: int, seconds: float) -> Notes:
    """All visitors, until each heavy one is through."""
    notes, until = Notes(), time.monotonic() + seconds
    through = [asyncio.Event() for _ in range(visitors // 2)]
    tasks: list[asyncio.Task[None]] = [
        *(
            asyncio.create_task(visit_heavy(address, n, until, notes, event))
            for n, event in enumerate(through)
        ),
        *(
            asyncio.create_task(visit_light(address, n, notes))
            for n in range(visitors - len(through))
        ),
    ]
    ends = asyncio.gather(*(event.wait() for event in through))
    waiting: list[asyncio.Future[Any]] = [*tasks, ends]
    await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        if task.done():
            task.result()  # raises: nobody leaves of their own
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return notes


async def alone(address: str) -> dict[str, float]:
    """Median time of each heavy page for one visitor whom nobody disturbs."""
    notes, times = Notes(), defaultdict(list)
    async with arrived(address) as visitor:
        # The first round loads libraries and models as well. Page after page: the address sets
        # nothing on a page that is open already.
        for _ in range(1 + ALONE):
            for page, query in HEAVY.items():
                times[page].append(await opened(visitor, page, query(next(NEW)), notes))
    return {page: statistics.median(taken[1:]) for page, taken in times.items()}


async def together(address: str, visitors: int, page: str) -> list[float]:
    """Times of one page with the same new work for all, who ask at the same moment."""
    query, notes = HEAVY[page](next(NEW)), Notes()
    async with AsyncExitStack() as stack:
        there = [await stack.enter_async_context(arrived(address)) for _ in range(visitors)]
        for visitor in there:
            await visitor.open("models")
        times = await asyncio.gather(*(opened(one, page, query, notes) for one in there))
    if notes.broke:
        raise RuntimeError(f"{notes.broke} pages broke")
    return sorted(times)


def computed(server: Server, start: int) -> tuple[int, float, float]:
    """Jobs that the log tells of behind a place in it, seconds computed, and seconds waited."""
    with server.log.open("rb") as log:
        log.seek(start)
        lines = [json.loads(line) for line in log if line.startswith(b"{")]
    lines = [line for line in lines if line["outcome"] == "done" and line["seconds"] > 0]
    return len(lines), sum(x["seconds"] for x in lines), sum(x["waited"] for x in lines)


def slowest(values: Sequence[float]) -> float:
    """The largest over the mean."""
    return max(values) / statistics.mean(values)


def measure_crowd(server: Server, visitors: int, seconds: float) -> None:
    """Print what a crowd waits for."""
    usual = asyncio.run(alone(server.address))
    asyncio.run(crowd(server.address, 2, 1))  # the light pages' first times
    start = server.log.stat().st_size
    notes = asyncio.run(crowd(server.address, visitors, seconds))
    print(f"{'page':14}{'times':>6}{'median':>9}{'95th':>9}{'alone':>9}")
    for page in (*LIGHT, *HEAVY):
        times = notes.pages[page]
        print(
            f"{page:14}{len(times):6}{statistics.median(times):7.2f} s"
            f"{np.quantile(times, 0.95):7.2f} s"
            + (f"{usual[page]:7.2f} s" if page in usual else "")
        )
    every = [seconds for page in LIGHT for seconds in notes.pages[page]]
    print(f"light pages: 95th percentile {np.quantile(every, 0.95):.2f} s")
    print(f"pages broken: {notes.broke}")
    once = sum(usual.values())
    figures = [statistics.mean(times) / once for times in notes.rounds.values()]
    print(
        f"heavy visitors: {statistics.mean(figures):.1f} s for each second alone, from "
        f"{min(figures):.1f} to {max(figures):.1f}; the slowest {slowest(figures):.2f} x the mean"
    )
    worst = {page: slowest(notes.pages[page]) for page in HEAVY if page != "exemplars"}
    page = max(worst, key=lambda page: worst[page])
    print(f"heavy pages: the slowest {worst[page]:.2f} x the mean of its kind ({page})")
    means = [statistics.mean(times) for times in notes.light.values()]
    print(f"light visitors: the slowest {slowest(means):.2f} x the mean")
    jobs, worked, waited = computed(server, start)
    print(
        f"log: {jobs} jobs, {worked:.0f} s computed, {waited:.0f} s waited, "
        f"{waited / worked:.1f} s for each second"
    )


def measure_same(server: Server, visitors: int) -> None:
    """Print what a lecture waits for."""
    usual = asyncio.run(alone(server.address))
    for page in HEAVY:
        if page == "exemplars":  # by now it is kept for everybody
            continue
        times = asyncio.run(together(server.address, visitors, page))
        print(
            f"{page}: alone {usual[page]:.2f} s; {visitors} at once: the first after "
            f"{times[0]:.2f} s, the last after {times[-1]:.2f} s"
        )


def main() -> None:
    """Print what was waited for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--visitors", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--same", action="store_true", help="all ask for the same at once")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, served(Path(folder)) as server:
        if asked.same:
            measure_same(server, asked.visitors)
        else:
            measure_crowd(server, asked.visitors, asked.seconds)


if __name__ == "__main__":
    main()
