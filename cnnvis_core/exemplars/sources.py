"""Collections of pictures or clips: a folder, a zip, Parquet files, or bytes at hand."""

from __future__ import annotations

import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

from cnnvis_core.errors import InputError
from cnnvis_core.models.card import Modality

ENDINGS: dict[Modality, tuple[str, ...]] = {
    "image": (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    "audio": (".wav", ".flac", ".ogg", ".mp3"),
}
LARGEST_FILE = 200 * 2**20  # bytes; what is larger counts as broken
ROWS_AT_ONCE = 64  # of a Parquet file
BUFFER = 2**20  # bytes of a Parquet file that are read ahead
# What the parts of a damaged or locked zip may raise.
_ZIP_ERRORS = (
    OSError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)
BYTES_COLUMNS = ("webp", "image", "img", "picture", "audio", "clip", "bytes", "file")
LABEL_COLUMNS = ("label", "class", "target", "fine_label")
NAME_COLUMNS = ("name", "file", "filename", "path", "id")


class Source(Protocol):
    """Encoded pictures or clips in a fixed order; small, and the same wherever it is opened."""

    @property
    def names(self) -> Sequence[str]:
        """Name of each item."""

    @property
    def labels(self) -> Sequence[int]:
        """Class of each item; -1 for none."""

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""

    @property
    def fingerprint(self) -> str:
        """Hash of names, sizes and classes."""

    def items(self, start: int, stop: int) -> Iterator[tuple[int, bytes | InputError]]:
        """Index and bytes of each item from ``start`` up to ``stop``, or why it is not there."""


def open_source(where: object, modality: Modality) -> Source:
    """A collection by its place.

    Parameters
    ----------
    where : str, Path or Source
        A folder of files, of which the folder right above each is its class if there are several; a
        zip of the same; a Parquet file, or a folder of nothing else, with a column of encoded
        bytes and, if there are any, of labels and names.
    modality : {"image", "audio"}
        Which files count.

    Raises
    ------
    InputError
        If there is nothing that can be read.
    """
    if not isinstance(where, str | Path):
        return where  # type: ignore[return-value]
    path = Path(where).resolve()
    if path.is_dir():
        files = [part for part in path.iterdir() if not part.name.startswith(".")]
        tables = sorted(part for part in files if part.suffix.lower() == ".parquet")
        tables = tables if len(tables) == len(files) else []
        found: Source = ParquetSource(tuple(tables)) if tables else FolderSource(path, modality)
    elif path.suffix.lower() == ".parquet" and path.is_file():
        found = ParquetSource((path,))
    elif path.is_file() and zipfile.is_zipfile(path):
        found = ZipSource(path, modality)
    else:
        raise InputError(f"{path.name!r} is no folder, zip or Parquet file that can be read.")
    if not len(found.names):
        raise InputError(f"{path.name!r} holds no {modality} files; look into another place.")
    return found


def _hash(parts: Iterator[tuple[Any, ...]]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode())
    return digest.hexdigest()


def _classes(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Classes by the folder right above each file, and the label of each; none for fewer than 2."""
    folders = [name.rpartition("/")[0].rpartition("/")[2] for name in names]
    classes = sorted(set(folders) - {""})
    if len(classes) < 2:
        return [], [-1] * len(names)
    return classes, [classes.index(folder) if folder else -1 for folder in folders]


@dataclass(frozen=True, eq=False)
class _Files:
    """Files by name, whose classes are the folders that they lie in."""

    path: Path
    modality: Modality

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name, in order."""
        raise NotImplementedError

    @cached_property
    def names(self) -> list[str]:
        """Names in order, with slashes."""
        return list(self.sizes)

    @cached_property
    def _labelled(self) -> tuple[list[str], list[int]]:
        return _classes(self.names)

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self._labelled[0]

    @property
    def labels(self) -> list[int]:
        """Class of each item; -1 for none."""
        return self._labelled[1]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names and sizes."""
        return _hash(iter(self.sizes.items()))


@dataclass(frozen=True, eq=False)
class FolderSource(_Files):
    """The files below a folder."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name, in order."""
        endings = ENDINGS[self.modality]
        found = (p for p in self.path.rglob("*") if p.suffix.lower() in endings and p.is_file())
        return {p.relative_to(self.path).as_posix(): p.stat().st_size for p in sorted(found)}

    def items(self, start: int, stop: int) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Source`."""
        for index in range(start, min(stop, len(self.names))):
            try:
                if self.sizes[self.names[index]] > LARGEST_FILE:
                    raise InputError("The file is too large.")
                yield index, (self.path / self.names[index]).read_bytes()
            except OSError:
                yield index, InputError("The file cannot be read.")
            except InputError as error:
                yield index, error


@dataclass(frozen=True, eq=False)
class ZipSource(_Files):
    """The files in a zip; nothing is unpacked to disk."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name, in order."""
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = [info for info in archive.infolist() if _counts(info, self.modality)]
        except zipfile.BadZipFile as error:
            raise InputError(f"{self.path.name!r} is a damaged zip; pack it again.") from error
        return dict(sorted((info.filename, info.file_size) for info in infos))

    def items(self, start: int, stop: int) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Source`."""
        with zipfile.ZipFile(self.path) as archive:
            for index in range(start, min(stop, len(self.names))):
                name = self.names[index]
                if self.sizes[name] > LARGEST_FILE:
                    yield index, InputError("The file is too large.")
                    continue
                try:
                    yield index, archive.read(name)
                except _ZIP_ERRORS:
                    yield index, InputError("The file in the zip is damaged or locked.")


@dataclass(frozen=True, eq=False)
class ParquetSource:
    """Rows of Parquet files, one after the other."""

    paths: tuple[Path, ...]

    @cached_property
    def _columns(self) -> tuple[str, str | None, str | None]:
        """Columns of bytes, labels and names."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            schema = pq.read_schema(self.paths[0])
        except (OSError, pa.ArrowException) as error:
            raise InputError(f"{self.paths[0].name!r} is no Parquet file.") from error

        def holds_bytes(kind: Any) -> bool:
            if pa.types.is_struct(kind):
                return any(part.name == "bytes" and holds_bytes(part.type) for part in kind)
            return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))

        encoded = [part.name for part in schema if holds_bytes(part.type)]
        usual = [name for name in BYTES_COLUMNS if name in encoded]
        if not encoded:
            raise InputError(
                f"{self.paths[0].name!r} has no column of encoded pictures or clips; its columns "
                f"are {', '.join(schema.names)}."
            )
        whole = [p.name for p in schema if pa.types.is_integer(p.type) or _is_text(p.type)]
        label = next((name for name in LABEL_COLUMNS if name in whole), None)
        texts = [part.name for part in schema if _is_text(part.type) and part.name != label]
        name = next((name for name in NAME_COLUMNS if name in texts), None)
        return (usual or encoded)[0], label, name

    @cached_property
    def _rows(self) -> list[int]:
        import pyarrow.parquet as pq

        return [pq.read_metadata(path).num_rows for path in self.paths]

    def _read(self, column: str) -> list[Any]:
        import pyarrow.parquet as pq

        return [
            value
            for path in self.paths
            for value in pq.read_table(path, columns=[column])[column].to_pylist()
        ]

    @cached_property
    def names(self) -> list[str]:
        """Names of the rows, else their numbers."""
        _, _, column = self._columns
        if column is not None:
            return [str(value) for value in self._read(column)]
        return [f"row {index}" for index in range(sum(self._rows))]

    @cached_property
    def _labelled(self) -> tuple[list[str], list[int]]:
        _, column, _ = self._columns
        if column is None:
            return [], [-1] * sum(self._rows)
        values = self._read(column)
        known = {value for value in values if value is not None and value != -1}
        whole = all(isinstance(value, int) for value in known)
        classes = sorted(known) if whole else sorted(known, key=str)
        place = {value: index for index, value in enumerate(classes)}
        return [str(value) for value in classes], [place.get(value, -1) for value in values]

    @property
    def classes(self) -> list[str]:
        """Names of the classes, or their numbers."""
        return self._labelled[0]

    @property
    def labels(self) -> list[int]:
        """Class of each row; -1 for none."""
        return self._labelled[1]

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the files' sizes, rows and names."""
        sizes = tuple(path.stat().st_size for path in self.paths)
        rows = tuple(self._rows)
        return _hash(
            iter([(sizes, rows), tuple(self.names), tuple(self.labels), tuple(self.classes)])
        )

    def items(self, start: int, stop: int) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Source`."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        column, _, _ = self._columns
        first = 0
        for path, rows in zip(self.paths, self._rows, strict=True):
            if start < first + rows and stop > first:
                with pq.ParquetFile(path, buffer_size=BUFFER, pre_buffer=False) as file:
                    groups, before = _groups(file, start - first, stop - first)
                    index = first + before
                    for batch in file.iter_batches(ROWS_AT_ONCE, groups, [column]):
                        values = batch.column(0)
                        if pa.types.is_struct(values.type):
                            values = values.field("bytes")
                        for value in values:
                            if start <= index < stop:
                                data = value.as_py()
                                yield index, data or InputError("The row holds no bytes.")
                            index += 1
                            if index >= stop:
                                return
            first += rows


def _is_text(kind: Any) -> bool:
    import pyarrow as pa

    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _groups(file: Any, start: int, stop: int) -> tuple[list[int], int]:
    """The row groups that hold the rows from ``start`` up to ``stop``, and the rows before them."""
    groups, before, first = [], 0, 0
    for group in range(file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if first + rows <= start:
            before = first + rows
        elif first < stop:
            groups.append(group)
        first += rows
    return groups, before


@dataclass(frozen=True, eq=False)
class BytesSource:
    """Items at hand.

    Attributes
    ----------
    names : list of str
        Of the items.
    data : list of bytes
        The encoded pictures or clips.
    labels : list of int
        Class of each; -1 for none.
    classes : list of str
        Names of the classes.
    """

    names: list[str]
    data: list[bytes]
    labels: list[int]
    classes: list[str] = field(default_factory=list)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names and bytes."""
        return _hash(iter(zip(self.names, self.data, self.labels, strict=True)))

    def items(self, start: int, stop: int) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Source`."""
        for index in range(start, min(stop, len(self.names))):
            yield index, self.data[index]


MOST_BYTES = 500 * 2**20  # of a collection at hand


def bytes_source(files: Mapping[str, bytes], modality: Modality) -> BytesSource:
    """A collection of files at hand, and of the files in those that are zips.

    Parameters
    ----------
    files : mapping
        Bytes by name.
    modality : {"image", "audio"}
        Which files of a zip count.

    Raises
    ------
    InputError
        If there is nothing, or too much.
    """
    found: dict[str, bytes] = {}
    zips = [name for name, data in files.items() if zipfile.is_zipfile(io.BytesIO(data))]
    left = MOST_BYTES
    for name, data in files.items():
        if name not in zips:
            found[name] = data
            continue
        # Two zips may hold files of one name.
        before = f"{name}/" if len(zips) > 1 else ""
        for inside, content in _unpacked(name, data, modality, left):
            found[before + inside] = content
            left -= len(content)
    names = sorted(found)
    if not names:
        raise InputError(f"There are no {modality} files in it; choose others.")
    classes, labels = _classes(names)
    return BytesSource(names, [found[name] for name in names], labels, classes)


def _unpacked(name: str, data: bytes, modality: Modality, most: int) -> Iterator[tuple[str, bytes]]:
    """The files in a zip; what a header says of their sizes is not relied on."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except zipfile.BadZipFile as error:
        raise InputError(f"{name!r} is a damaged zip; pack it again.") from error
    with archive:
        for info in archive.infolist():
            if not _counts(info, modality):
                continue
            try:
                with archive.open(info) as file:
                    content = file.read(most + 1)
            except _ZIP_ERRORS:
                content = b""  # broken: counted and listed as such
            if len(content) > most:
                raise InputError(
                    f"The files in the zips take more than {MOST_BYTES // 2**20} MB; take fewer, "
                    "or use the command line."
                )
            most -= len(content)
            yield info.filename, content


def _counts(info: zipfile.ZipInfo, modality: Modality) -> bool:
    ending = Path(info.filename).suffix.lower()
    return ending in ENDINGS[modality] and not info.filename.startswith("__MACOSX")
