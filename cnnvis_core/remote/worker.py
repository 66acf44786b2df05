"""The far side: holds networks, computes steps of jobs when it is asked to."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from cnnvis_core.errors import CnnvisError
from cnnvis_core.jobs import Job, Progress
from cnnvis_core.models import load
from cnnvis_core.models.shelf import Shelf
from cnnvis_core.remote.packing import pack, unpack

SLICE_SECONDS = 0.1  # one call computes for so long, or one step
SILENT_SECONDS = 900.0  # after which a job is taken for abandoned


@dataclass(frozen=True)
class Told:
    """What a worker says of a job.

    Attributes
    ----------
    progress : Progress or None
        Of its newest step; None at the end.
    result : object or None
        At the end.
    """

    progress: Progress[Any] | None
    result: Any


@dataclass
class _Running:
    job: Job[Any, Any]
    asked: float


class Worker:
    """Computes jobs, a slice of one at a time.

    Parameters
    ----------
    most : int
        Bytes of networks of the catalogue that stay here.
    """

    def __init__(self, most: int) -> None:
        self._shelf = Shelf(load, most)
        self._jobs: dict[str, _Running] = {}

    def begin(self, name: str, packed: bytes) -> bytes:
        """Take a job over.

        Parameters
        ----------
        name : str
            What it will be called.
        packed : bytes
            A callable that makes it.

        Returns
        -------
        bytes
            None, or the error that it failed with, packed.
        """
        self._forget_abandoned()
        try:
            job = unpack(packed, self._shelf)()
        except CnnvisError as error:
            return pack(error, self._shelf)
        self._jobs[name] = _Running(job, time.monotonic())
        return pack(None, self._shelf)

    def advance(self, name: str) -> bytes:
        """Compute a slice of a job.

        Returns
        -------
        bytes
            `Told` or the error that it failed with, packed; None for a job that is not here.
        """
        running = self._jobs.get(name)
        if running is None:
            return pack(None, self._shelf)
        job, began = running.job, time.monotonic()
        progress, preview = None, None
        try:
            while True:
                progress = next(job)
                preview = preview if progress.preview is None else progress.preview
                if time.monotonic() - began > SLICE_SECONDS:
                    break
            running.asked = time.monotonic()
            newest = Progress(progress.done, progress.total, progress.seconds_left, preview)
            return pack(Told(newest, None), self._shelf)
        except StopIteration:
            told: object = Told(None, job.result)
        except CnnvisError as error:
            told = error
        self.close(name)
        return pack(told, self._shelf)

    def close(self, name: str) -> None:
        """Stop a job; one that is not here is as good as stopped."""
        running = self._jobs.pop(name, None)
        if running is not None:
            running.job.close()

    def count(self) -> int:
        """How many jobs there are."""
        return len(self._jobs)

    def _forget_abandoned(self) -> None:
        """Stop the jobs of a server that has died."""
        now = time.monotonic()
        for name, running in list(self._jobs.items()):
            if now - running.asked > SILENT_SECONDS:
                self.close(name)
