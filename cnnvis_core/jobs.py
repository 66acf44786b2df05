"""Jobs: long computations that report progress and can be closed at any moment."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import Generic, TypeVar

from cnnvis_core.errors import CnnvisError

Result = TypeVar("Result")
Preview = TypeVar("Preview")
Part = TypeVar("Part")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Step(Generic[Preview]):
    """What a computation yields: how far it is, and what it can show by now.

    Attributes
    ----------
    done, total : int
        Units of work finished and in all.
    preview : object or None
        Something to show; None where nothing new can be shown.
    """

    done: int
    total: int
    preview: Preview | None = None


@dataclass(frozen=True)
class Progress(Generic[Preview]):
    """How far a job is.

    Attributes
    ----------
    done, total : int
        Units of work finished and in all; ``0 <= done <= total``.
    seconds_left : float or None
        Expected remaining seconds at the rate so far; None before anything is measured.
    preview : object or None
        The job's intermediate result, of the kind that its function documents.
    """

    done: int
    total: int
    seconds_left: float | None
    preview: Preview | None = None


class Job(Generic[Result, Preview], Iterator[Progress[Preview]]):
    """An iterator of `Progress` that computes as it is iterated.

    Closing it, or dropping it, runs the computation's ``finally`` clauses, so that hooks are
    removed and buffers freed at any step. A job is driven by one thread at a time.

    Parameters
    ----------
    steps : generator
        Yields `Step` and returns the result.
    """

    def __init__(self, steps: Generator[Step[Preview], None, Result]) -> None:
        self._steps = steps
        self._result: Result | None = None
        self._finished = self._closed = False
        self._seconds = 0.0

    def __iter__(self) -> Job[Result, Preview]:
        return self

    def __next__(self) -> Progress[Preview]:
        began = time.perf_counter()
        try:
            step = next(self._steps)
        except StopIteration as stop:
            if not self._finished and stop.value is not None:
                self._result, self._finished = stop.value, True
            raise StopIteration from None
        self._seconds += time.perf_counter() - began
        left = None
        if step.done:
            left = self._seconds * (step.total - step.done) / step.done
        return Progress(step.done, step.total, left, step.preview)

    @property
    def seconds(self) -> float:
        """How long its steps took so far."""
        return self._seconds

    @property
    def finished(self) -> bool:
        """Whether the job ran to its end."""
        return self._finished

    @property
    def result(self) -> Result:
        """The result of a finished job.

        Raises
        ------
        CnnvisError
            If the job has not run to its end, or was closed before it.
        """
        if not self._finished or self._result is None:
            if self._closed:
                raise CnnvisError("The job was closed before its end; start it anew.")
            raise CnnvisError("The job has not finished; iterate it to its end or use run(job).")
        return self._result

    def close(self) -> None:
        """Stop the computation and release what it holds; closing twice does nothing."""
        self._closed = True
        self._steps.close()

    def __enter__(self) -> Job[Result, Preview]:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def relay(
    part: Generator[Part, None, Found], told: Callable[[Part], Step[Preview]]
) -> Generator[Step[Preview], None, Found]:
    """What a part of a computation yields, told as steps of the whole; returns what it found."""
    try:
        while True:
            try:
                item = next(part)
            except StopIteration as stop:
                found: Found = stop.value
                return found
            yield told(item)
    finally:
        part.close()


def run(job: Job[Result, Preview]) -> Result:
    """Drive a job to its end and return its result; it is closed if anything goes wrong.

    Raises
    ------
    CnnvisError
        If the job was closed before its end.
    """
    with job:
        for _ in job:
            pass
    return job.result
