"""The parts of a ``.pt2`` file: its graph as JSON, and its tensors; nothing in it is run.

``torch.export.load`` is not used: it unpickles what a file asks it to, evaluates expressions as
Python and calls any function of torch that the graph names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cnnvis_core.errors import InputError
from cnnvis_core.models.stored import Stored, stored_zip
from cnnvis_core.models.untrusted import check_total, read_zip

MAX_JSON = 8 << 20
MAX_NUMBERS = 1 << 29  # in all tensors together
SAVE_AGAIN = "save it again with torch.export.save(program, path)."
NOT_PROGRAM = (
    "The file is no exported program; choose a .pt2 file that torch.export.save(program, path) "
    "wrote."
)
BROKEN = f"The program is incomplete or damaged; {SAVE_AGAIN}"
OBJECTS = (
    "The program carries Python objects, which could run code, and not only plain tensors; export "
    "a module whose weights are ordinary tensors."
)

# What reading nonsense may raise.
DAMAGED = (
    KeyError,
    TypeError,
    ValueError,
    AttributeError,
    IndexError,
    ArithmeticError,
    RuntimeError,
)
# Numbers of torch's ScalarType, as the file writes them.
DTYPES: Mapping[int, torch.dtype] = {
    1: torch.uint8,
    2: torch.int8,
    3: torch.int16,
    4: torch.int32,
    5: torch.int64,
    6: torch.float16,
    7: torch.float32,
    8: torch.float64,
    12: torch.bool,
    13: torch.bfloat16,
}
OLD_GRAPH = "serialized_exported_program.json"
MAX_AXES, MAX_SIZE = 8, 1 << 40
STRIDED = 7  # torch's number of the layout of plain tensors


@dataclass(frozen=True, eq=False)
class Contents:
    """What an archive holds.

    Attributes
    ----------
    program : dict
        The graph and its signature, as in torch's schema of exported programs.
    tensors : dict
        Parameters, buffers and constants by their names, on the CPU.
    """

    program: dict[str, Any]
    tensors: dict[str, torch.Tensor]


def read_archive(data: bytes) -> Contents:
    """Take a ``.pt2`` file apart.

    Two layouts are known: an archive of raw tensors (PyTorch 2.8 and later), and one with a
    state_dict inside (2.1 to 2.7).

    Raises
    ------
    InputError
        If it is no such file, is damaged or compressed, carries objects, claims numbers that it
        does not hold, or needs more memory than there is.
    """
    stored, names, graph = _opened(data)
    try:
        program = _json(stored, names[graph])
        if graph == OLD_GRAPH:
            return Contents(program, _state_dicts(stored, names))
        title = graph.removeprefix("models/").removesuffix(".json")
        return Contents(program, _raw_tensors(stored, names, title))
    except DAMAGED as error:
        raise InputError(BROKEN) from error


def read_graph(data: bytes) -> dict[str, Any]:
    """The graph of a ``.pt2`` file alone.

    Raises
    ------
    InputError
        If it is no such file or is damaged.
    """
    stored, names, graph = _opened(data)
    return _json(stored, names[graph])


def _opened(data: bytes) -> tuple[Stored, dict[str, str], str]:
    """The archive, its files by their names without its own, and which of them is the graph."""
    if data[:4] != b"PK\x03\x04":
        raise InputError(NOT_PROGRAM)
    stored = stored_zip(data, "program", SAVE_AGAIN)
    if OLD_GRAPH in stored.sizes:
        return stored, {name: name for name in stored.sizes}, OLD_GRAPH
    names = {name.partition("/")[2]: name for name in stored.sizes}
    graphs = [name for name in names if name.startswith("models/") and name.endswith(".json")]
    if len(graphs) != 1 or len(names) != len(stored.sizes):
        raise InputError(NOT_PROGRAM)
    return stored, names, graphs[0]


def _json(stored: Stored, name: str) -> dict[str, Any]:
    if stored.sizes[name] > MAX_JSON:
        raise InputError("The program's graph is too large; export a smaller network.")
    try:
        found = json.loads(stored.read(name))
    except (ValueError, RecursionError) as error:
        raise InputError(BROKEN) from error
    if not isinstance(found, dict):
        raise InputError(BROKEN)
    return found


def _raw_tensors(stored: Stored, names: Mapping[str, str], title: str) -> dict[str, torch.Tensor]:
    """Tensors of the later layout, each a file of its bytes."""
    wanted: list[tuple[str, str, _Shape]] = []
    for folder in ("weights", "constants"):
        config = names.get(f"data/{folder}/{title}_{folder}_config.json")
        entries = _json(stored, config)["config"] if config else {}
        for name, entry in entries.items():
            if entry.get("use_pickle") or entry.get("tensor_meta") is None:
                raise InputError(OBJECTS)
            path = names[f"data/{folder}/{entry['path_name']}"]
            shape = _Shape.of(entry["tensor_meta"])
            if shape.bytes_needed > stored.sizes[path]:
                raise InputError(f"The program claims more numbers than it holds; {SAVE_AGAIN}")
            wanted.append((str(name), path, shape))
    made = {(path, shape) for _, path, shape in wanted}  # tied weights stand there once
    count = sum(shape.count for _, shape in made)
    if count > MAX_NUMBERS:
        raise InputError(f"The program holds {count:,} numbers, more than can be taken here.")
    check_total(count, count)
    paths = {path for path, _ in made}
    if len(made) > 2 * len(paths):  # hardly anybody looks at one record in several ways
        raise InputError(BROKEN)
    records = {path: stored.read(path) for path in paths}
    tensors = {(path, shape): shape.tensor(records[path]) for path, shape in made}
    return {name: tensors[path, shape] for name, path, shape in wanted}


@dataclass(frozen=True)
class _Shape:
    """How a tensor lies in its bytes."""

    dtype: torch.dtype
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int

    @classmethod
    def of(cls, meta: Mapping[str, Any]) -> _Shape:
        """Read the file's description.

        Raises
        ------
        InputError
            If it is of another kind than plain tensors.
        """
        if meta["layout"] != STRIDED or meta["dtype"] not in DTYPES:
            raise InputError(OBJECTS)
        if max(len(meta["sizes"]), len(meta["strides"])) > MAX_AXES:
            raise InputError(BROKEN)
        sizes = tuple(int(n["as_int"]) for n in meta["sizes"])
        strides = tuple(int(n["as_int"]) for n in meta["strides"])
        offset = int(meta["storage_offset"]["as_int"])
        numbers = (offset, *sizes, *strides)
        if len(sizes) != len(strides) or min(numbers) < 0 or max(numbers) > MAX_SIZE:
            raise InputError(BROKEN)
        return cls(DTYPES[meta["dtype"]], sizes, strides, offset)

    @property
    def count(self) -> int:
        """Numbers in the tensor."""
        return math.prod(self.sizes)

    @property
    def bytes_needed(self) -> int:
        """Bytes that the file must hold; no number may stand for two."""
        last = self.offset + sum(
            (n - 1) * step for n, step in zip(self.sizes, self.strides, strict=True)
        )
        return max(self.count, last + 1 if self.count else 0) * self.dtype.itemsize

    def tensor(self, data: bytes) -> torch.Tensor:
        """The tensor, with memory of its own."""
        if not self.count:
            return torch.empty(self.sizes, dtype=self.dtype)
        flat = torch.frombuffer(bytearray(data), dtype=self.dtype, count=-1)
        return flat.as_strided(self.sizes, self.strides, self.offset).clone(
            memory_format=torch.contiguous_format
        )


def _state_dicts(stored: Stored, names: Mapping[str, str]) -> dict[str, torch.Tensor]:
    """Tensors of the earlier layout, as ``torch.save`` writes them."""
    tensors: dict[str, torch.Tensor] = {}
    for name in (f"serialized_{part}.pt" for part in ("state_dict", "constants")):
        if not stored.sizes.get(names.get(name, ""), 0):
            continue
        found = read_zip(stored.read(names[name]), MAX_NUMBERS)
        if not isinstance(found, dict):
            raise InputError(OBJECTS)
        for key, value in found.items():
            if not isinstance(value, torch.Tensor) or value.layout != torch.strided:
                raise InputError(OBJECTS)
            tensors[str(key)] = value.detach()
    return tensors
