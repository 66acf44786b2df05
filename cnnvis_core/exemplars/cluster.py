"""Counting chunks on a Ray cluster; needs the optional requirement in ``requirements-ray.txt``."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from cnnvis_core.datasets import Dataset
from cnnvis_core.datasets.dataset import reopened, sample_hash
from cnnvis_core.errors import CnnvisError, InputError
from cnnvis_core.exemplars.counting import Counted, Counter
from cnnvis_core.models.model import Model
from cnnvis_core.remote.connection import connected, ray_module

AHEAD = 2  # chunks a worker has in hand, so that it never waits for the next
LOST = "The cluster's workers cannot go on ({}); the same call goes on from what was saved."
OTHER_MODEL = "A worker of the cluster has other weights of the model; give all the same ones."
OTHER_DATA = (
    "A worker of the cluster does not find the same data at the same place; put the data where "
    "all machines can read them."
)
SECONDS = 1.0  # between two looks at how far the workers are


class Worker:
    """Holds the model and counts chunks; lives on some machine of the cluster."""

    def __init__(
        self, load: Callable[[], Model], settings: tuple[tuple[str, ...], int, int]
    ) -> None:
        self._counter = Counter(load(), *settings)

    def sees(self, dataset: Dataset) -> tuple[str, str]:
        """Hashes of the model and of the data as they are on this machine."""
        model = self._counter.model
        try:
            return model.fingerprint, sample_hash(reopened(dataset))
        except (CnnvisError, OSError) as error:
            return model.fingerprint, str(error)

    def count(self, dataset: Dataset, start: int, stop: int) -> Counted:
        """Count a chunk to its end, with tallies on the CPU."""
        *_, counted = self._counter.count(dataset, start, stop)
        tallies = {layer: tally.cpu() for layer, tally in counted.tallies.items()}
        return Counted(counted.items, tallies, counted.broken)


@dataclass(frozen=True)
class Cluster:
    """A crew of Ray actors.

    A chunk is the same whoever counts it, and chunks are added up in order: the index is that of
    one machine. Ray gives the chunks of a worker that dies to another one.

    Attributes
    ----------
    address : str
        Of the cluster, as ``ray.init`` takes it; "auto" for the one that this machine belongs to.
    load : callable
        Makes the model on a worker; it is sent there, and so must be small.
    workers : int or None
        How many; by default one a GPU, or one for every two processors where there is none.
    """

    address: str
    load: Callable[[], Model]
    workers: int | None = None

    def chunks(
        self, counter: Counter, dataset: Dataset, bounds: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, Counted | None]]:
        """See `Crew`."""
        ours = not ray_module().is_initialized()
        ray = connected(self.address)
        actors: list[Any] = []
        try:
            parts = ray.cluster_resources()
            gpus = int(parts.get("GPU", 0))
            count = self.workers or gpus or max(1, int(parts.get("CPU", 1)) // 2)
            # A method that was cut off by the death of its worker is run again by a new one.
            kind = ray.remote(
                num_cpus=1, num_gpus=1 if gpus else 0, max_restarts=-1, max_task_retries=-1
            )(Worker)
            settings = counter.layers, counter.k, counter.batch
            actors = [kind.remote(self.load, settings) for _ in range(count)]
            there = ray.put(dataset)
            expected = counter.model.fingerprint, sample_hash(dataset)
            for weights, data in ray.get([actor.sees.remote(there) for actor in actors]):
                if weights != expected[0]:
                    raise InputError(OTHER_MODEL)
                if data != expected[1]:
                    raise InputError(OTHER_DATA)
            yield from self._in_order(ray, actors, there, bounds)
        except ray.exceptions.RayError as error:
            raise InputError(LOST.format(_last_line(error))) from error
        finally:
            for actor in actors:
                ray.kill(actor)
            if ours:
                ray.shutdown()

    def _in_order(
        self, ray: Any, actors: Sequence[Any], dataset: Any, bounds: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, Counted | None]]:
        """Hand out chunks to whoever is free, and give them back in their order."""
        pending = deque(enumerate(bounds))
        running: dict[Any, tuple[int, Any]] = {}
        finished: dict[int, Any] = {}
        next_out = items = 0
        free = deque(actor for _ in range(AHEAD) for actor in actors)
        most = 2 * AHEAD * len(actors)  # chunks that may wait for an earlier one
        while next_out < len(bounds):
            while pending and free and pending[0][0] < next_out + most:
                number, (start, stop) = pending.popleft()
                actor = free.popleft()
                running[actor.count.remote(dataset, start, stop)] = number, actor
            done, _ = ray.wait(list(running), num_returns=1, timeout=SECONDS)
            for reference in done:
                number, actor = running.pop(reference)
                finished[number] = reference
                free.append(actor)
            while next_out in finished:
                counted: Counted = ray.get(finished.pop(next_out))
                items += counted.items
                next_out += 1
                yield items, counted
            if not done:
                yield items, None  # a moment at which the job can be stopped


def _last_line(error: Exception) -> str:
    """The last line that says something, of an error that carries a worker's whole traceback."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
