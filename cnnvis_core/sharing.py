"""What several visitors ask for is computed once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Generator, Hashable
from dataclasses import dataclass, field
from typing import Any

from cnnvis_core.jobs import Job, Progress, Step
from cnnvis_core.weighing import held_bytes


@dataclass(eq=False)
class _Ride:
    """A job that some visitors ride on.

    Whoever comes first drives it a step further; the others find that step done.
    """

    start: Callable[[], Job[Any, Any]]
    job: Job[Any, Any] | None = None
    riders: int = 0
    steps: int = 0
    latest: Progress[Any] | None = None
    error: Exception | None = None
    driving: threading.Lock = field(default_factory=threading.Lock)

    def further(self, seen: int) -> int:
        """Go on to a step that a rider has not seen; returns its number.

        Raises
        ------
        StopIteration
            At the end.
        """
        with self.driving:
            if self.error is not None:
                raise self.error
            if self.steps == seen or self.latest is None:
                try:
                    if self.job is None:
                        self.job = self.start()
                    self.latest = next(self.job)
                except Exception as error:  # StopIteration too: all riders must meet it
                    self.error = error
                    raise
                self.steps += 1
            return self.steps


class Shared:
    """Computations that are the same for everybody, and their last results.

    Only what is no visitor's own may be shared: results stay here when their visitors are gone.

    Parameters
    ----------
    most : int
        Bytes of results that stay; the ones that were asked for longest ago go.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._lock = threading.Lock()
        self._rides: dict[Hashable, _Ride] = {}
        self._results: OrderedDict[Hashable, tuple[Any, int]] = OrderedDict()

    def job(self, key: Hashable, start: Callable[[], Job[Any, Any]]) -> Job[Any, Any]:
        """A job that ends with the result of a key, computed anew only if nobody has it.

        Parameters
        ----------
        key : hashable
            All that the result depends on.
        start : callable
            Makes the job.
        """
        return Job(self._steps(key, start))

    @property
    def running(self) -> int:
        """How many computations run."""
        with self._lock:
            return len(self._rides)

    def _steps(
        self, key: Hashable, start: Callable[[], Job[Any, Any]]
    ) -> Generator[Step[Any], None, Any]:
        with self._lock:
            if key in self._results:
                self._results.move_to_end(key)
                return self._results[key][0]
            ride = self._rides.get(key)
            if ride is None:
                ride = self._rides[key] = _Ride(start)
            ride.riders += 1
        seen = 0
        try:
            while True:
                try:
                    seen = ride.further(seen)
                except StopIteration:
                    break
                latest = ride.latest
                if latest is not None:
                    yield Step(latest.done, latest.total, latest.preview)
            with ride.driving:
                result = None if ride.job is None else ride.job.result
            with self._lock:
                self._keep(key, result)
            return result
        finally:
            self._leave(key, ride)

    def _leave(self, key: Hashable, ride: _Ride) -> None:
        """Step off; with the last rider the computation ends."""
        with self._lock:
            ride.riders -= 1
            last = ride.riders == 0
            # Who comes now starts anew, or finds the result.
            if (last or ride.error is not None) and self._rides.get(key) is ride:
                del self._rides[key]
        if last:
            with ride.driving:
                if ride.job is not None:
                    ride.job.close()

    def _keep(self, key: Hashable, result: Any) -> None:
        self._results[key] = result, held_bytes(result)
        self._results.move_to_end(key)
        while len(self._results) > 1 and self._size() > self._most:
            self._results.popitem(last=False)

    def _size(self) -> int:
        return sum(size for _, size in self._results.values())
