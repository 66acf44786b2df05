"""What a run keeps on disk, so that a crash loses a chunk at most."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cnnvis_core.disk import write
from cnnvis_core.errors import InputError
from cnnvis_core.exemplars.tally import Tally

VERSION = 1
MANIFEST, STATE = "manifest.json", "state.npz"


@dataclass(frozen=True)
class Identity:
    """What an index is made of; two runs of the same identity make the same index.

    To the bit on devices of one kind; on another kind sums are rounded otherwise.

    Attributes
    ----------
    version : int
        Of the format.
    model : str
        Id of the model.
    weights : str
        Hash of it, see `Model.fingerprint`.
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


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What the folder says of itself; None where there is no manifest.

    Raises
    ------
    InputError
        If it is damaged.
    """
    try:
        found: dict[str, Any] = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        if _identity(found).version == VERSION and found.get("complete"):
            _ = found["units"], found["classes"], found["broken"], found["items"]
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


def manifest_of(identity: Identity, further: dict[str, Any]) -> dict[str, Any]:
    """What an index says of itself."""
    return {"identity": {**asdict(identity), "layers": list(identity.layers)}, **further}


def write_manifest(folder: Path, identity: Identity, further: dict[str, Any]) -> None:
    """Say what the folder holds."""
    write(folder / MANIFEST, json.dumps(manifest_of(identity, further), indent=1).encode())


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
        return _state_of(arrays)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None  # damaged by other hands: everything is counted anew


def _state_of(arrays: dict[str, Any]) -> State:
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
