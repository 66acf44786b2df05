"""Weight files from anybody: what they declare is checked before a single tensor is made.

A ``.pth`` file holds a pickle, a small program. Here it is run by an unpickler that knows no code
at all, only stand-ins that note sizes; what passes is then loaded by torch with
``weights_only=True``.
"""

from __future__ import annotations

import io
import json
import math
import pickle
import pickletools
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cnnvis_core.errors import InputError
from cnnvis_core.models.stored import stored_zip

MAX_FILE = 1 << 30
MAX_HEADER = 16 << 20
MAX_AXES, MAX_SIZE = 16, 1 << 40
# What a header of nonsense may raise.
READING = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, ArithmeticError)
MAX_NAME = 100  # characters of a class
NOT_WEIGHTS = "The file is no weight file; choose a .safetensors or .pth file with a state_dict."
CODE = (
    "The file holds Python objects, which could run code, and not only weights; save "
    "model.state_dict() and choose that file."
)
BROKEN = "The weight file is incomplete or damaged; save it again."
BOMB = "The weight file claims more numbers than it holds; save model.state_dict() again."

STORAGES: Mapping[str, int] = {
    "DoubleStorage": 8,
    "FloatStorage": 4,
    "HalfStorage": 2,
    "BFloat16Storage": 2,
    "LongStorage": 8,
    "IntStorage": 4,
    "ShortStorage": 2,
    "CharStorage": 1,
    "ByteStorage": 1,
    "BoolStorage": 1,
}
SAFETENSORS: Mapping[str, int] = {
    **{"F64": 8, "F32": 4, "F16": 2, "BF16": 2},
    **{"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1},
}


def read_weights(data: bytes, most: int) -> object:
    """Return the content of a weight file, as torch or safetensors hand it over.

    Parameters
    ----------
    data : bytes
        A safetensors file or a zip that ``torch.save`` wrote, told apart by content.
    most : int
        Numbers that it may hold in all its tensors.

    Raises
    ------
    InputError
        If it is neither, is damaged, is compressed, holds more than ``most`` numbers, claims
        numbers that it does not hold, holds code, or needs more memory than there is.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"The content of a weight file is needed, not {type(data).__name__}.")
    data = bytes(data)
    if not data:
        raise InputError("The weight file is empty; choose another one.")
    if len(data) > MAX_FILE:
        raise InputError(f"The weight file is over {MAX_FILE >> 30} GB, which is too large.")
    if data[:4] == b"PK\x03\x04":
        return read_zip(data, most)
    if data[8:9] == b"{":  # first, for the length before it may begin like a pickle
        return read_safetensors(data, most)
    if data[:1] == b"\x80":
        raise InputError(
            "The file has the format of PyTorch before 1.6 or is a bare pickle; load it where it "
            "was made and save its state_dict with torch.save."
        )
    raise InputError(NOT_WEIGHTS)


def check_total(numbers: int, most: int) -> None:
    """Refuse a file before its tensors are made.

    Raises
    ------
    InputError
        If there are more than ``most`` numbers or the memory is too small for them.
    """
    if numbers > most:
        raise InputError(
            f"The file holds {numbers:,} numbers, far more than the architecture; choose the "
            "architecture it was trained with, and save only model.state_dict()."
        )
    free = available_memory()
    # The file's tensors, their float32 copies, and room for a forward pass.
    if free is not None and 12 * numbers > free:
        raise InputError("There is not enough memory left for these weights; close other models.")


def available_memory() -> int | None:
    """Bytes that can be had without swapping; None where the system does not say."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            found = next(line for line in lines if line.startswith("MemAvailable:"))
        return int(found.split()[1]) * 1024
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def read_safetensors(data: bytes, most: int) -> object:
    """Tensors of a safetensors file.

    Raises
    ------
    InputError
        As `read_weights`.
    """
    (length,) = struct.unpack("<Q", data[:8])
    if length > min(len(data) - 8, MAX_HEADER):
        raise InputError(BROKEN)
    try:
        header = json.loads(data[8 : 8 + length])
        total = 0
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            first, end = entry["data_offsets"]
            sizes = [int(n) for n in entry["shape"]]
            if len(sizes) > MAX_AXES or not all(0 <= n < MAX_SIZE for n in sizes):
                raise InputError(BROKEN)
            count = math.prod(sizes)
            if entry["dtype"] not in SAFETENSORS:
                raise InputError(
                    f"The file holds numbers of the kind {entry['dtype']}; use float32."
                )
            if count * SAFETENSORS[entry["dtype"]] != end - first:
                raise InputError(BOMB)
            total += count
    except READING as error:
        raise InputError(BROKEN) from error
    check_total(total, most)
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        return load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise InputError(BROKEN) from error


def told_classes(data: bytes, count: int) -> tuple[str, ...] | None:
    """Names of the classes that a file of our own fine-tuning tells; None where it tells none.

    Parameters
    ----------
    data : bytes
        A safetensors file that `read_weights` has taken.
    count : int
        How many there must be.
    """
    if data[8:9] != b"{":
        return None
    try:
        (length,) = struct.unpack("<Q", data[:8])
        card = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["cnnvis"])
        names = tuple(card["classes"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if len(names) != count or not all(isinstance(name, str) for name in names):
        return None
    shown = ["".join(c for c in name if c.isprintable())[:MAX_NAME].strip() for name in names]
    return tuple(name or f"class {index}" for index, name in enumerate(shown))


def read_zip(data: bytes, most: int) -> object:
    """Content of a file that ``torch.save`` wrote.

    Raises
    ------
    InputError
        As `read_weights`.
    """
    stored = stored_zip(data, "weight file", "save model.state_dict() again.")
    sizes = stored.sizes
    programs = [name for name in sizes if name.split("/")[1:] == ["data.pkl"]]
    if len(programs) != 1 or sizes[programs[0]] > MAX_HEADER:
        raise InputError(NOT_WEIGHTS)
    folder = programs[0].removesuffix("data.pkl") + "data/"
    records = {n.removeprefix(folder): s for n, s in sizes.items() if n.startswith(folder)}
    program = stored.read(programs[0])
    check_total(declared_numbers(program, records), most)
    try:
        return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(CODE) from error
    except (RuntimeError, EOFError, ValueError, KeyError, TypeError, OSError) as error:
        raise InputError(BROKEN) from error


def declared_numbers(program: bytes, records: Mapping[str, int]) -> int:
    """Numbers in all tensors that a pickle of ``torch.save`` describes, found without making one.

    Parameters
    ----------
    program : bytes
        The pickle.
    records : mapping
        Size in bytes of each record of numbers.

    Raises
    ------
    InputError
        If it names code, claims numbers that the records do not hold, or is damaged.
    """
    try:
        for operation, argument, _ in pickletools.genops(program):
            # The memo is a list: a huge index would fill the memory.
            if operation.name.endswith("BINPUT") and int(argument or 0) > len(program):
                raise InputError(BROKEN)
        reader = Inspector(program, records)
        reader.load()
    except InputError:
        raise
    except Exception as error:  # a hostile pickle can make the unpickler raise anything
        raise InputError(BROKEN) from error
    return reader.numbers


class StandIn:
    """In place of a function or class that a pickle names: notes what it is called with."""

    __slots__ = ("_name", "_reader")

    def __init__(self, name: str, reader: Inspector) -> None:
        self._name = name
        self._reader = reader

    def __call__(self, *args: Any) -> Any:
        """Make what the real one would, without its numbers."""
        if self._name == "collections.OrderedDict":
            return Table()
        if self._name == "torch._utils._rebuild_tensor_v2":
            return self._reader.note_tensor(*args)
        if self._name == "torch._utils._rebuild_parameter":
            return args[0]
        if self._name == "torch.Size":
            return tuple(args[0])
        raise InputError(CODE)

    def __setstate__(self, state: Any) -> None:
        """Refuse to be changed by the pickle."""
        raise InputError(CODE)


class Table(dict[Any, Any]):
    """An ordered dict whose attributes a pickle may set without effect."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Ignore the versions that ``state_dict`` attaches."""


@dataclass(frozen=True)
class Record:
    """A record of numbers, as a pickle describes it."""

    numbers: int


class Inspector(pickle.Unpickler):
    """Runs a pickle without any code of anybody."""

    NAMES = frozenset(
        (
            "collections.OrderedDict",
            "torch._utils._rebuild_tensor_v2",
            "torch._utils._rebuild_parameter",
            "torch.Size",
        )
    )

    def __init__(self, program: bytes, records: Mapping[str, int]) -> None:
        super().__init__(io.BytesIO(program))
        self.records = records
        self.numbers = 0

    def find_class(self, module: str, name: str) -> Any:
        """Return a stand-in for a known name; anything else ends the inspection."""
        full = f"{module}.{name}"
        if full in self.NAMES:
            return StandIn(full, self)
        if module == "torch" and name in STORAGES:
            return name
        raise InputError(CODE)

    def persistent_load(self, pid: Any) -> Record:
        """Return a record, if the file holds as many bytes as the pickle claims."""
        kind, storage, key, _, numbers = pid
        if kind != "storage" or storage not in STORAGES or numbers < 0:
            raise InputError(BROKEN)
        if self.records.get(str(key), -1) < numbers * STORAGES[storage]:
            raise InputError(BOMB)
        return Record(int(numbers))

    def note_tensor(
        self, record: Record, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
    ) -> tuple[int, ...]:
        """Check that a tensor lies inside its record and holds no number twice over."""
        if not isinstance(record, Record) or len(size) != len(stride):
            raise InputError(BROKEN)
        count = math.prod(size)
        last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
        if min((offset, *size, *stride)) < 0 or count > record.numbers:
            raise InputError(BOMB)
        if count and last >= record.numbers:
            raise InputError(BOMB)
        self.numbers += count
        return tuple(size)
