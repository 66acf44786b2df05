"""What a server keeps of its visitors: 500 uploads and 200 cancelled runs.

    python -m benchmarks.hosting_memory [--uploads 500] [--cancelled 200] [--objects]

Starts the app in a process of its own, on loopback, and visits it by websockets as browsers do.
Visitors come, three at a time, send seven or eight files each (pictures up to 12 megapixels,
sounds, weights, whole networks, and files that are broken or no such thing), stop one run by a
click on Cancel, one by a changed control, and close their tab in the midst of a third. Every file
is another one. The server's log tells how many runs were cancelled in the end: a change that begins
a run anew cancels two, and a map of occlusion may be complete before the click arrives.

Resident memory is read after the first 50 of these actions and at the end, each time when
everybody has left, two minutes have passed, and two light visits have given the server an occasion
to clear up. What it keeps for all (networks, results on samples) is there before: every page is
opened once for every network. ``--objects`` prints of which Python types there are more than after
the first 50 actions.

A closed tab's session is dropped after 5 s here (``server.disconnectedSessionTTL``), so that
a crowd of days fits into minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlencode

import cnnvis_core as cv
from benchmarks.hosting_census import resident, watched
from benchmarks.hosting_clients import Server, Visitor, arrived
from benchmarks.hosting_files import PICTURE, SOUND, File, Sender
from cnnvis_core.programs.trials import IDLE
from cnnvis_core.ui.housekeeping import SECONDS as BETWEEN_COLLECTIONS

AT_ONCE = 3  # visitors
FIRST = 50  # actions before the first measurement
MOST_GROWTH = 10.0  # per cent, asked for
TTL = 5  # seconds for which a closed tab's session is kept
LEAVING = TTL + 12.0  # seconds until the app has seen that
EVERY_PAGE = (
    *("start", "occlude", "feature_maps", "gradients", "kernels", "maximize", "orientation"),
    *("exemplars", "transfer", "models"),
)

# Where pictures and sounds are sent from.
LOOKING = ("feature_maps", "occlude", "feature_maps", "feature_maps", "gradients")

End = Literal["click", "change", "close"]


@dataclass(frozen=True)
class Long:
    """A run that takes its time; only that of occlusion may end before it is stopped.

    Attributes
    ----------
    page : str
        Where it is.
    query : callable
        What the address says there in a visitor's turn; what was stopped is kept and not run again.
    number, slider : str
        A control that is drawn before it: a box for numbers, or a slider.
    button : str
        What begins it, if it does not by itself.
    again : bool
        Whether it begins anew by itself when the control is changed, and is waited for.
    """

    page: str
    query: Callable[[int], str]
    number: str = ""
    slider: str = ""
    button: str = ""
    again: bool = True


LONG = (
    Long("maximize", lambda turn: f"steps-lucid=2048&seed={turn}", number="Seed"),
    Long("occlude", lambda turn: f"patch64={4 + turn}&stride64=1&score=Logit", slider="Opacity",
         again=False),
    Long("orientation", lambda turn: f"step=2.5&contrast={100 - 5 * turn}", slider="Contrast"),
    Long(
        "transfer", lambda turn: f"transfer-view=Fine-tune&epochs={30 - turn}", number="Seed",
        button="Train", again=False,
    ),
)  # fmt: skip


@dataclass
class Tally:
    """What visitors did and met.

    Attributes
    ----------
    uploads, refused : int
        Files that were sent, and bad ones of which a sentence was said.
    cancelled : Counter
        Runs that were stopped, by how.
    broke : int
        Pages that broke.
    """

    uploads: int
    refused: int
    cancelled: Counter[str]
    broke: int = 0

    @classmethod
    def empty(cls) -> Tally:
        """Nothing yet."""
        return cls(0, 0, Counter())

    @property
    def actions(self) -> int:
        """Uploads and stopped runs."""
        return self.uploads + self.cancelled.total()


def page_for(file: File, number: int) -> tuple[str, str]:
    """Where a file is sent from, and what the address says there."""
    kind = f"kind={'Sound' if file.box == SOUND else 'Picture'}"
    if file.box in (PICTURE, SOUND):
        return LOOKING[number % len(LOOKING)], kind
    return ("kernels", "feature_maps")[number % 2], kind


async def send(visitor: Visitor, file: File, number: int, tally: Tally) -> None:
    """Send a file and look at what comes of it."""
    await visitor.open(*page_for(file, number))
    await visitor.send(file.box, file.name, file.data)
    await visitor.finish()
    tally.uploads += 1
    if not file.good:
        if not visitor.said:
            raise RuntimeError(f"nothing was said of {file.name}")
        tally.refused += 1


async def stop(visitor: Visitor, long: Long, turn: int, how: End, tally: Tally) -> bool:
    """Begin a run, and stop it; one that is to be closed is left running.

    Returns whether there was one.
    """
    await visitor.ask(long.page, f"kind=Picture&{long.query(turn)}")
    if long.button:
        await visitor.finish()
        await visitor.press(long.button)
    if not await visitor.until(lambda: visitor.bar > 0):
        return False
    if how == "click":
        await visitor.press("Cancel")
        await visitor.finish()
    elif how == "change":
        if long.number:
            await visitor.set_number(long.number, 100 + turn)
        else:
            await visitor.slide(long.slider, 5 if long.slider == "Contrast" else 0.5)
        if long.again:
            await visitor.until(lambda: visitor.bar > 0)
        await visitor.open("models")
    tally.cancelled[how] += 1
    return True


async def visit(
    address: str, number: int, files: Sequence[File], ends: Sequence[End], tally: Tally
) -> None:
    """One visitor's whole visit: files and stopped runs by turns, a closed tab at the end."""
    order = random.Random(number)
    acts: list[File | End] = [*files, *(end for end in ends if end != "close")]
    order.shuffle(acts)
    async with arrived(address) as visitor:
        for turn, act in enumerate([*acts, *(end for end in ends if end == "close")]):
            if isinstance(act, File):
                await send(visitor, act, number + turn, tally)
            else:
                long = LONG[(number + turn) % len(LONG)]
                done = await stop(visitor, long, turn, act, tally)
                # Somebody else may have had the same map before.
                if not done and not await stop(visitor, LONG[0], turn, act, tally):
                    raise RuntimeError(f"nothing runs; the page says {visitor.said}")
            tally.broke, visitor.broke = tally.broke + visitor.broke, 0


def share(things: int, among: int) -> list[int]:
    """Whole numbers as equal as can be that add up."""
    return [things * (n + 1) // among - things * n // among for n in range(among)]


async def service(
    address: str, sender: Sender, uploads: int, cancelled: int, tally: Tally, first: int = 0
) -> None:
    """So many uploads and cancelled runs, by visitors who come three at a time."""
    visitors = max(1, -(-cancelled // 3))
    ends: list[End] = [*("click", "change", "close")] * visitors
    plan = zip(share(uploads, visitors), range(visitors), strict=True)
    room = asyncio.Semaphore(AT_ONCE)

    async def one(count: int, number: int) -> None:
        async with room:
            files = [await asyncio.to_thread(sender.next) for _ in range(count)]
            mine = ends[3 * number : min(3 * number + 3, cancelled)]
            await visit(address, first + number, files, mine, tally)

    async with asyncio.TaskGroup() as group:
        for count, number in plan:
            group.create_task(one(count, number))


async def warm_up(address: str) -> None:
    """Open every page once for every network at hand, so that what is kept for all is there."""
    for card in cv.catalogue():
        if not card.available_offline:
            continue
        kind = "Picture" if card.modality == "image" else "Sound"
        query = {"kind": kind, f"model-{kind}": card.title}
        async with arrived(address) as visitor:
            for page in EVERY_PAGE:
                await visitor.open(page, urlencode(query))


async def light_visit(address: str) -> None:
    """Somebody looks at a page without work, and leaves."""
    async with arrived(address) as visitor:
        await visitor.open("models")


def settled(server: Server, told: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What the server holds when everybody has left."""
    # The process that tries programs ends by itself, too.
    time.sleep(LEAVING + max(BETWEEN_COLLECTIONS, IDLE))
    for _ in range(2):
        asyncio.run(light_visit(server.address))
        time.sleep(LEAVING)
    return told()


async def trace(process: int, tally: Tally) -> None:
    """Print resident memory every hundred actions, while visitors are there."""
    said = 0
    while True:
        await asyncio.sleep(1)
        if tally.actions >= said + 100:
            said = tally.actions // 100 * 100
            print(f"  while {tally.actions} actions: {resident(process):.0f} MB", flush=True)


async def run(
    server: Server, sender: Sender, uploads: int, cancelled: int, tally: Tally, first: int = 0
) -> None:
    """A part of the service, with a trace."""
    watch = asyncio.create_task(trace(server.process, tally))
    try:
        await service(server.address, sender, uploads, cancelled, tally, first)
    finally:
        watch.cancel()


def compare(before: dict[str, Any], after: dict[str, Any]) -> None:
    """Print both measurements side by side."""
    for name, value in before.items():
        if not isinstance(value, dict):
            print(f"{name:28} {value:>10} {after[name]:>10}")
    print(f"threads by name: {before['thread names']}, then {after['thread names']}")
    old, new = before["resident megabytes"], after["resident megabytes"]
    growth = 100 * (new / old - 1)
    print(f"resident memory grew by {growth:.1f} % (at most {MOST_GROWTH:.0f} % is asked for)")


def main() -> None:
    """Print what the server holds after 50 actions and after all of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--uploads", type=int, default=500)
    parser.add_argument("--cancelled", type=int, default=200)
    parser.add_argument("--objects", action="store_true", help="which types became more")
    asked = parser.parse_args()
    sender, tally, began = Sender(), Tally.empty(), time.monotonic()
    stopped_first = FIRST * asked.cancelled // (asked.uploads + asked.cancelled)
    sent_first = FIRST - stopped_first
    with tempfile.TemporaryDirectory() as folder, watched(Path(folder), TTL) as (server, told):
        asyncio.run(warm_up(server.address))
        print(f"after opening every page: {resident(server.process):.0f} MB", flush=True)
        asyncio.run(run(server, sender, sent_first, stopped_first, tally))
        before = settled(server, told)
        print(f"after {tally.actions} actions: {before['resident megabytes']} MB", flush=True)
        rest = asked.uploads - sent_first, asked.cancelled - stopped_first
        asyncio.run(run(server, sender, *rest, tally, FIRST))
        after = settled(server, told)
        cancelled = server.log.read_bytes().count(b'"outcome": "cancelled"')
    print(
        f"{tally.uploads} uploads ({tally.refused} refused), {tally.cancelled.total()} stopped "
        f"({dict(tally.cancelled)}; {cancelled} cancelled by the log), {tally.broke} broken pages, "
        f"{(time.monotonic() - began) / 60:.0f} min"
    )
    compare(before, after)
    if asked.objects:
        more = Counter(after["types"])
        more.subtract(before["types"])
        for kind, count in more.most_common(25):
            print(f"{count:+8} {kind}")


if __name__ == "__main__":
    main()
