"""Datasets in Parquet files."""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from cnnvis_core.datasets.dataset import MOST_CLASSES, Labelled, content_hash, hashed, numbered
from cnnvis_core.errors import InputError

ROWS_AT_ONCE = 64  # of a Parquet file
BUFFER = 2**20  # bytes of a Parquet file that are read ahead
BYTES_COLUMNS = ("webp", "image", "img", "picture", "audio", "clip", "bytes", "file")
LABEL_COLUMNS = ("label", "class", "target", "fine_label")
NAME_COLUMNS = ("name", "file", "filename", "path", "id")


@dataclass(frozen=True, eq=False)
class ParquetDataset(Labelled):
    """Rows of Parquet files, one after the other."""

    paths: tuple[Path, ...]

    @cached_property
    def _columns(self) -> tuple[str, str | None, str | None]:
        """Columns of bytes, labels and names."""
        import pyarrow as pa

        with _opened(self.paths[0]) as file:
            schema = file.schema_arrow

        def holds_bytes(kind: Any) -> bool:
            if pa.types.is_struct(kind):
                return any(part.name == "bytes" and _is_bytes(part.type) for part in kind)
            return _is_bytes(kind)

        encoded = [part.name for part in schema if holds_bytes(part.type)]
        usual = [name for name in BYTES_COLUMNS if name in encoded]
        if not encoded:
            raise InputError(
                f"{self.paths[0].name!r} has no column of encoded pictures or clips; its columns "
                f"are {', '.join(schema.names)}."
            )
        told = [part.name for part in schema if _is_label(part.type)]
        label = next((name for name in LABEL_COLUMNS if name in told), None)
        texts = [part.name for part in schema if _is_text(part.type) and part.name != label]
        name = next((name for name in NAME_COLUMNS if name in texts), None)
        return (usual or encoded)[0], label, name

    @cached_property
    def _rows(self) -> list[int]:
        """Rows of each file; all must have the columns of the first."""
        found = []
        for path in self.paths:
            with _opened(path) as file:
                missing = {c for c in self._columns if c} - set(file.schema_arrow.names)
                if missing:
                    raise InputError(
                        f"{path.name!r} lacks the column {min(missing)!r} of "
                        f"{self.paths[0].name!r}; take it out of the folder."
                    )
                found.append(file.metadata.num_rows)
        return found

    def _read(self, column: str) -> list[Any]:
        values: list[Any] = []
        for path, _ in zip(self.paths, self._rows, strict=True):  # which are looked at first
            with _opened(path) as file:
                values += file.read(columns=[column])[column].to_pylist()
        return values

    @cached_property
    def names(self) -> list[str]:
        """Names of the rows, else their numbers."""
        _, _, column = self._columns
        if column is not None:
            return [str(value) for value in self._read(column)]
        return [f"row {index}" for index in range(sum(self._rows))]

    @cached_property
    def labelled(self) -> tuple[list[str], list[int]]:
        """Names of the classes, and the class of each item."""
        _, column, _ = self._columns
        if column is None:
            return [], [-1] * sum(self._rows)
        values = [_plain(value) for value in self._read(column)]
        if any(isinstance(value, str) for value in values):
            return numbered(["" if value is None else str(value) for value in values])
        known = {value for value in values if isinstance(value, int)}
        if len(known) > MOST_CLASSES:
            return [], [-1] * len(values)
        place = {value: index for index, value in enumerate(sorted(known))}
        titles = self._titles(column)
        classes = [titles[v] if v < len(titles) else str(v) for v in sorted(known)]
        if len(set(classes)) < len(classes):  # two classes of one name are told by their numbers
            classes = [f"{title} ({v})" for title, v in zip(classes, sorted(known), strict=True)]
        return classes, [place[value] if isinstance(value, int) else -1 for value in values]

    def _titles(self, column: str) -> list[str]:
        """Names of numbered classes, where Hugging Face's datasets library has left them."""
        with _opened(self.paths[0]) as file:
            metadata = file.schema_arrow.metadata or {}
        try:
            info = json.loads(metadata.get(b"huggingface", b"{}"))
            return [str(name) for name in info["info"]["features"][column]["names"]]
        except (ValueError, KeyError, TypeError):
            return []

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, classes and files."""
        files = tuple(content_hash(path) for path in self.paths)
        return hashed([files, tuple(self.names), tuple(self.labels), tuple(self.classes)])

    def items(self, wanted: Sequence[int]) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Dataset`."""
        first = 0
        for path, rows in zip(self.paths, self._rows, strict=True):
            if _between(wanted, first, first + rows):
                with _opened(path) as file:
                    for group in range(file.num_row_groups):
                        count = file.metadata.row_group(group).num_rows
                        here = _between(wanted, first, first + count)
                        if here:
                            yield from self._of_group(file, group, first, here)
                        first += count
            else:
                first += rows

    def _of_group(
        self, file: Any, group: int, first: int, wanted: Sequence[int]
    ) -> Iterator[tuple[int, bytes | InputError]]:
        """The wanted rows of a group that begins with the row ``first``."""
        found = 0
        try:
            for number, value in enumerate(_values(file, group, self._columns[0]), first):
                if number == wanted[found]:
                    found += 1
                    yield number, value or InputError("The row holds no bytes.")
                    if found == len(wanted):
                        return
        except _damage():
            pass
        for number in wanted[found:]:
            yield number, InputError("The part of the Parquet file that it lies in is damaged.")


def _between(wanted: Sequence[int], start: int, stop: int) -> Sequence[int]:
    """The indices from ``start`` up to ``stop``, of ascending ones."""
    return wanted[bisect_left(wanted, start) : bisect_left(wanted, stop)]


def _damage() -> tuple[type[Exception], ...]:
    """What the parts of a damaged Parquet file may raise."""
    import pyarrow as pa

    return (OSError, UnicodeDecodeError, pa.ArrowException)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A Parquet file.

    Raises
    ------
    InputError
        If it is none, or what is asked of it is damaged.
    """
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
            yield file
    except _damage() as error:
        raise InputError(
            f"{path.name!r} is no Parquet file, or a damaged one; save it again."
        ) from error


def _values(file: Any, group: int, column: str) -> Iterator[bytes | None]:
    """Bytes of the rows of a group."""
    import pyarrow as pa

    for batch in file.iter_batches(ROWS_AT_ONCE, [group], [column]):
        values = batch.column(0)
        if pa.types.is_struct(values.type):
            values = values.field("bytes")
        for value in values:
            yield value.as_py()


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _is_bytes(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def _is_label(kind: Any) -> bool:
    import pyarrow as pa

    if pa.types.is_dictionary(kind):
        return _is_label(kind.value_type)
    whole = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return bool(whole or _is_text(kind))


def _plain(value: Any) -> int | str | None:
    """A label as a whole number or a text; None for missing ones and numbers below zero."""
    if isinstance(value, bool | str):
        return str(value)
    if value is None or value != value or value < 0:
        return None
    return int(value) if value == int(value) else str(value)
