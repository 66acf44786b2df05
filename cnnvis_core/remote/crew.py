"""The near side: hands jobs to workers, and brings back their steps, previews and results."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, Protocol

from cnnvis_core.errors import CnnvisError, LostError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.shelf import Shelf
from cnnvis_core.remote.connection import connected
from cnnvis_core.remote.packing import pack, unpack
from cnnvis_core.remote.worker import Told, Worker

LOST = "The machine that computed this was lost; try again."


class Line(Protocol):
    """Calls a worker's methods, wherever it is."""

    def call(self, method: str, *args: Any) -> Any:
        """Result of a method of `Worker`.

        Raises
        ------
        LostError
            If the worker is gone.
        """
        ...


@dataclass(frozen=True)
class Crew:
    """Workers, and how to reach them.

    Attributes
    ----------
    lines : tuple of Line
        One a worker.
    shelf : Shelf
        Networks of the catalogue that this process has loaded.
    """

    lines: tuple[Line, ...]
    shelf: Shelf

    def job(self, start: Callable[[], Job[Any, Any]], line: Line) -> Job[Any, Any]:
        """A job that is computed by a worker, a slice whenever it is asked for a step.

        Parameters
        ----------
        start : callable
            Makes the job there; networks of the catalogue that it holds are not sent.
        line : Line
            Of the worker.

        Raises
        ------
        CnnvisError
            When it is driven: what the job raises; `LostError` if the worker is gone.
        """
        return Job(self._steps(pack(start, self.shelf), line))

    def _steps(self, packed: bytes, line: Line) -> Generator[Step[Any], None, Any]:
        name = uuid.uuid4().hex
        failed = unpack(line.call("begin", name, packed), self.shelf)
        if isinstance(failed, CnnvisError):
            raise failed
        try:
            while True:
                told = unpack(line.call("advance", name), self.shelf)
                if isinstance(told, CnnvisError):
                    raise told
                if not isinstance(told, Told):
                    raise LostError(LOST)  # it was started anew and knows nothing
                if told.progress is None:
                    return told.result
                yield Step(told.progress.done, told.progress.total, told.progress.preview)
        finally:
            with contextlib.suppress(LostError):
                line.call("close", name)


class RayLine:
    """A worker that is a Ray actor.

    Parameters
    ----------
    ray : module
        Ray, connected.
    actor : ray.actor.ActorHandle
        Of `Worker`.
    """

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor

    def call(self, method: str, *args: Any) -> Any:
        """See `Line`."""
        try:
            return self._ray.get(getattr(self._actor, method).remote(*args))
        except self._ray.exceptions.RayTaskError:
            raise  # a fault of ours, not the machine's
        except self._ray.exceptions.RayError as error:
            raise LostError(LOST) from error


def ray_crew(address: str, shelf: Shelf, most: int) -> Crew:
    """Workers on a Ray cluster: one a GPU, or one a machine where there is none.

    They live as long as this process. A worker that dies is started anew.

    Parameters
    ----------
    address : str
        As ``ray.init`` takes it; "auto" for the cluster that this machine belongs to.
    shelf : Shelf
        See `Crew`.
    most : int
        Bytes of networks that stay on a worker.

    Raises
    ------
    InputError
        If Ray is not installed or there is no such cluster.
    """
    ray = connected(address)
    gpus = int(ray.cluster_resources().get("GPU", 0))
    machines = sum(bool(node["Alive"]) for node in ray.nodes())
    kind = ray.remote(
        num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=-1, scheduling_strategy="SPREAD"
    )(Worker)
    actors = [kind.remote(most) for _ in range(gpus or machines)]
    return Crew(tuple(RayLine(ray, actor) for actor in actors), shelf)
