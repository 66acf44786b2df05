"""Turns on a device: heavy work of many visitors in slices, one after the other."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

from cnnvis_core.errors import BusyError
from cnnvis_core.jobs import Job, Progress

Result = TypeVar("Result")
Preview = TypeVar("Preview")

RECENT = 0.2  # weight of the newest slice in how long slices take
LOOK_SECONDS = 0.25  # between two looks at the queue, at which a waiting job can be stopped


@dataclass(frozen=True)
class Place:
    """Where a job stands among others on a device.

    Attributes
    ----------
    ahead : int
        Slices of others before its own next one.
    sharing : int
        How many visitors' jobs there are, its own among them.
    seconds : float
        Until its own next slice, if slices go on taking as long as the last ones.
    """

    ahead: int
    sharing: int
    seconds: float = 0.0


class Turns:
    """Who may compute on a device now.

    Visitors take turns of one step of a job each. Next is the visitor of those who wait whose steps
    took least time so far, so that all have equal shares of the device whatever the length of their
    steps, and a short job never waits behind the end of a long one. A visitor who comes in begins
    with what the least served of the others had. (Fair queueing after A. Demers, S. Keshav and S.
    Shenker, 1989.)

    Parameters
    ----------
    most : int
        Jobs that may be there at once.
    """

    def __init__(self, most: int = 64) -> None:
        self._changed = threading.Condition()
        self._most = most
        self._there: list[_Seat] = []
        self._waiting: list[_Seat] = []
        self._holder: _Seat | None = None
        self._numbers = itertools.count()
        self._used: dict[str, float] = {}
        self._slice = 0.0  # seconds, of late
        self._began = 0.0  # when the slice that is computed now began

    def run(
        self,
        job: Job[Result, Preview],
        visitor: str,
        waiting: Callable[[Place], None] | None = None,
    ) -> Generator[Progress[Preview], None, None]:
        """The steps of a job, each computed in the visitor's turn.

        Parameters
        ----------
        job : Job
            Is not closed here.
        visitor : str
            Whose it is.
        waiting : callable, optional
            Told the job's place now and then while it waits; may raise to give up.

        Raises
        ------
        BusyError
            If there are too many jobs already.
        """
        seat = self._join(visitor)
        try:
            while True:
                self._take(seat, waiting)
                began = time.monotonic()
                try:
                    progress = next(job)
                except StopIteration:
                    return
                finally:
                    self._rest(seat, time.monotonic() - began)
                yield progress
        finally:
            self._leave(seat)

    @property
    def jobs(self) -> int:
        """How many jobs there are."""
        with self._changed:
            return len(self._there)

    def place(self, visitor: str) -> Place:
        """What a job of this visitor would find now."""
        with self._changed:
            others = {seat.visitor for seat in self._there} - {visitor}
            return Place(len(others), len(others) + 1, len(others) * self._slice)

    def _join(self, visitor: str) -> _Seat:
        with self._changed:
            if len(self._there) >= self._most:
                raise BusyError(
                    f"{self._most} computations are running here; try again in a moment."
                )
            self._used.setdefault(visitor, min(self._used.values(), default=0.0))
            seat = _Seat(visitor, next(self._numbers))
            self._there.append(seat)
            return seat

    def _leave(self, seat: _Seat) -> None:
        with self._changed:
            self._there.remove(seat)
            if all(other.visitor != seat.visitor for other in self._there):
                self._used.pop(seat.visitor, None)
            self._changed.notify_all()

    def _take(self, seat: _Seat, waiting: Callable[[Place], None] | None) -> None:
        """Wait for a turn."""
        with self._changed:
            self._waiting.append(seat)
        try:
            while True:
                with self._changed:
                    if not self._is_next(seat):
                        self._changed.wait(LOOK_SECONDS)
                    if self._is_next(seat):
                        self._holder, self._began = seat, time.monotonic()
                        return
                    place = self._place_of(seat)
                if waiting is not None:
                    waiting(place)  # outside the lock, for it may take its time or raise
        finally:
            with self._changed:
                self._waiting.remove(seat)

    def _rest(self, seat: _Seat, seconds: float) -> None:
        """Give the device back after a step."""
        with self._changed:
            self._used[seat.visitor] += seconds
            self._slice += RECENT * (seconds - self._slice)
            self._holder = None
            self._changed.notify_all()

    def _is_next(self, seat: _Seat) -> bool:
        return self._holder is None and min(self._waiting, key=self._order) is seat

    def _order(self, seat: _Seat) -> tuple[float, int]:
        return self._used[seat.visitor], seat.number

    def _place_of(self, seat: _Seat) -> Place:
        mine = self._used[seat.visitor]
        others = {s.visitor for s in self._waiting if s.visitor != seat.visitor}
        ahead = sum(self._used[visitor] < mine for visitor in others)
        everybody = {s.visitor for s in self._there}
        seconds = ahead * self._slice
        if self._holder is not None:
            seconds += max(0.0, self._slice - (time.monotonic() - self._began))
        return Place(ahead + (self._holder is not None), len(everybody), seconds)


@dataclass(frozen=True, eq=False)
class _Seat:
    """One job among the others."""

    visitor: str
    number: int
