"""What a run keeps on disk, so that a crash loses a chunk at most."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnvis_core.errors import InputError
from cnnvis_core.exemplars.tally import Tally

VERSION = 1
_UNFINISHED = re.compile(r"\.(manifest\.json|state\.npz|[a-z]+\.parquet)\.\d+")
MANIFEST, STATE, LOCK = "manifest.json", "state.npz", ".lock"


@dataclass(frozen=True)
class Identity:
    """What an index is made of; two runs of the same identity make the same index.

    Attributes
    ----------
    version : int
        Of the format.
    model : str
        Id of the model.
    weights : str
        Hash of its weights.
    data : str
        Hash of the collection.
    layers : tuple of str
        Whose units.
    k : int
        How many exemplars a unit.
    chunk : int
        Items a chunk.
    batch : int
        Inputs a pass.
    """

    version: int
    model: str
    weights: str
    data: str
    layers: tuple[str, ...]
    k: int
    chunk: int
    batch: int

    def differs(self, other: Identity) -> str | None:
        """What is not the same, in words; None if all is."""
        if self.version != other.version:
            return f"was written by another version of cnnvis (format {other.version})"
        if (self.model, self.weights) != (other.model, other.weights):
            return f"is of another model ({other.model!r}, or other weights of it)"
        if self.data != other.data:
            return "is of other data"
        return None if self == other else "was made with other settings"


@dataclass(frozen=True, eq=False)
class State:
    """Where a run stands.

    Attributes
    ----------
    done : int
        Chunks that are counted, the first ones.
    tallies : dict
        Layer -> `Tally` of these.
    broken : dict
        Index of an item that cannot be read -> why.
    """

    done: int
    tallies: dict[str, Tally]
    broken: dict[int, str]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system lets go of it when a process dies.

    Raises
    ------
    InputError
        If another run is at work there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            raise InputError(
                f"Another run is writing to {folder.name!r}; wait for it or choose another folder."
            ) from error
        for left in folder.glob(".*"):
            if _UNFINISHED.fullmatch(left.name) and left.is_file():
                left.unlink(missing_ok=True)  # by a run that was broken off while it wrote
        yield


def _lock(file: Any) -> None:
    try:
        import fcntl
    except ImportError:  # not a system of the Unix kind
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader, or a crash, finds the old one or the new one whole."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What the folder says of itself; None where there is no manifest.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        _identity(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise InputError(
            f"{folder.name!r} is no index of exemplars, or a damaged one; choose another folder."
        ) from error
    return found


def _identity(manifest: dict[str, Any]) -> Identity:
    parts = dict(manifest["identity"])
    if parts["version"] != VERSION:  # of which nothing else is known
        return Identity(int(parts["version"]), "", "", "", (), 0, 0, 0)
    return Identity(**{**parts, "layers": tuple(parts["layers"])})


def identity_of(manifest: dict[str, Any]) -> Identity:
    """What the index of a manifest is made of."""
    return _identity(manifest)


def write_manifest(folder: Path, identity: Identity, further: dict[str, Any]) -> None:
    """Say what the folder holds."""
    text = json.dumps({"identity": asdict(identity), **further}, indent=1)
    write(folder / MANIFEST, text.encode())


def save(folder: Path, state: State) -> None:
    """Keep where a run stands."""
    arrays: dict[str, Any] = {"done": np.array(state.done)}
    arrays["broken"] = np.array(json.dumps(state.broken))
    for number, (layer, tally) in enumerate(state.tallies.items()):
        arrays[f"{number} layer"] = np.array(layer)
        arrays |= {f"{number} {name}": values for name, values in tally.arrays().items()}
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write(folder / STATE, buffer.getvalue())


def restore(folder: Path) -> State | None:
    """Where a run stood when it was broken off; None if it had not come to the end of a chunk."""
    try:
        with np.load(folder / STATE, allow_pickle=False) as found:
            arrays = dict(found)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None  # damaged by other hands: everything is counted anew
    tallies: dict[str, Tally] = {}
    number = 0
    while f"{number} layer" in arrays:
        parts = {
            name.split(" ", 1)[1]: values
            for name, values in arrays.items()
            if name.startswith(f"{number} ")
        }
        tallies[str(parts.pop("layer"))] = Tally.of_arrays(parts)
        number += 1
    broken = {int(index): why for index, why in json.loads(str(arrays["broken"])).items()}
    return State(int(arrays["done"]), tallies, broken)
