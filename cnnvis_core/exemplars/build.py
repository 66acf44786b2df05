"""Building an index of exemplars, chunk by chunk."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Protocol

from cnnvis_core.checks import whole_number
from cnnvis_core.datasets import Dataset, open_dataset
from cnnvis_core.disk import locked
from cnnvis_core.errors import InputError
from cnnvis_core.exemplars import store
from cnnvis_core.exemplars.counting import Counted, Counter
from cnnvis_core.exemplars.index import Exemplars, finish, is_whole, open_exemplars
from cnnvis_core.exemplars.store import Identity, State
from cnnvis_core.exemplars.tally import Tally
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Model

CHUNK = 512  # items; what a crash can cost
BATCH = 32
MOST_EXEMPLARS = 100


class Crew(Protocol):
    """Who counts chunks: this process, or the workers of a cluster."""

    def chunks(
        self, counter: Counter, dataset: Dataset, bounds: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, Counted | None]]:
        """For every chunk in order: items that were looked at by now, and at its end the chunk."""


class Alone:
    """Counts one chunk after the other in this process."""

    def chunks(
        self, counter: Counter, dataset: Dataset, bounds: Sequence[tuple[int, int]]
    ) -> Iterator[tuple[int, Counted | None]]:
        """See `Crew`."""
        before = 0
        for start, stop in bounds:
            counted = Counted(0, {}, {})
            for counted in counter.count(dataset, start, stop):
                yield before + counted.items, None
            before += counted.items
            yield before, counted


def build_exemplars(
    model: Model,
    images: str | Path | Dataset,
    layers: str | Sequence[str],
    k: int = 9,
    out: str | Path | None = "exemplars",
    batch: int = BATCH,
    chunk: int = CHUNK,
    crew: Crew | None = None,
) -> Job[Exemplars, None]:
    """Find the pictures or clips that drive every unit of some layers most.

    One pass over the collection keeps, of every unit, the ``k`` items of the largest maxima and of
    the largest means of its map, means by class and quantiles; memory does not depend on the number
    of items. After every chunk the folder holds what is found so far: a run that was broken off
    goes on from there, and its index is the same as that of an undisturbed one.

    Parameters
    ----------
    model : Model
        Not changed.
    images : str, Path or Dataset
        See `open_dataset`.
    layers : str or sequence of str
        Whose units.
    k : int
        How many of each kind, 1 to 100.
    out : str, Path or None
        Folder of the index; made if it is not there. None keeps it in memory alone.
    batch : int
        Inputs a pass.
    chunk : int
        Items between two savings.
    crew : Crew, optional
        Who counts; by default this process.

    Returns
    -------
    Job
        Its result is an `Exemplars`.

    Raises
    ------
    InputError
        If the collection cannot be read, the folder holds another index or another run writes
        there, or a number cannot be used.
    ModelError
        If there is no such layer.
    """
    k = whole_number("k", k, 1, MOST_EXEMPLARS)
    batch, chunk = (
        whole_number(name, value, 1, 2**20) for name, value in (("batch", batch), ("chunk", chunk))
    )
    names = tuple(dict.fromkeys([layers] if isinstance(layers, str) else layers))
    if not names:
        raise InputError("Name at least one layer.")
    for name in names:
        model.layer(name)
    dataset = open_dataset(images, model.modality)
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"{folder.name!r} is a file; choose a folder.")
    identity = Identity(
        store.VERSION,
        model.card.id,
        model.fingerprint,
        dataset.fingerprint,
        names,
        k,
        chunk,
        batch,
    )
    if folder is not None:
        _refuse_another(folder, identity)
    counter = Counter(model, names, k, batch)
    return Job(_build(counter, dataset, folder, identity, crew or Alone()))


def _refuse_another(folder: Path, identity: Identity) -> bool:
    """Whether the folder holds this very index, finished and whole.

    Raises
    ------
    InputError
        If it holds another one, or other things.
    """
    manifest = store.read_manifest(folder)
    if manifest is None:
        if folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir()):
            raise InputError(f"{folder.name!r} holds other files; choose an empty folder.")
        return False
    wrong = identity.differs(store.identity_of(manifest))
    if wrong is not None:
        raise InputError(f"The index in {folder.name!r} {wrong}; choose another folder.")
    return bool(manifest.get("complete")) and is_whole(folder)


def _build(
    counter: Counter, dataset: Dataset, folder: Path | None, identity: Identity, crew: Crew
) -> Generator[Step[None], None, Exemplars]:
    total = len(dataset.names)
    with contextlib.nullcontext() if folder is None else locked(folder):
        state = None
        if folder is not None:
            if _refuse_another(folder, identity):
                (folder / store.STATE).unlink(missing_ok=True)
                yield Step(total, total, None)
                return open_exemplars(folder)
            state = store.restore(folder)
            store.write_manifest(folder, identity, {"complete": False})
        state = state or State(0, {}, {})
        bounds = [
            (start, min(start + identity.chunk, total)) for start in range(0, total, identity.chunk)
        ]
        before = bounds[state.done][0] if state.done < len(bounds) else total
        for items, counted in crew.chunks(counter, dataset, bounds[state.done :]):
            if counted is not None:
                state = _with(state, counted)
                if folder is not None:
                    store.save(folder, state)
            yield Step(before + items, total, None)
        if not state.tallies:
            why = next(iter(state.broken.values()), "it is empty")
            raise InputError(f"Nothing in the collection can be read; the first file: {why}")
        return finish(folder, identity, dataset, state)


def _with(state: State, chunk: Counted) -> State:
    """The state after one more chunk."""
    tallies: dict[str, Tally] = dict(state.tallies)
    for layer, tally in chunk.tallies.items():
        tallies[layer] = tallies[layer].plus(tally.cpu()) if layer in tallies else tally.cpu()
    return State(state.done + 1, tallies, {**state.broken, **chunk.broken})
