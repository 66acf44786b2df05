"""Datasets of files, whose classes are the folders that they lie in."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cnnvis_core.datasets.dataset import (
    ENDINGS,
    LARGEST_FILE,
    TOO_LARGE,
    Labelled,
    classes_of,
    content_hash,
    hashed,
)
from cnnvis_core.errors import InputError
from cnnvis_core.models.card import Modality

READERS = 4  # threads that read files for their hash
# What the parts of a damaged or locked zip may raise.
ZIP_ERRORS = (
    OSError,
    EOFError,
    KeyError,
    IndexError,
    ValueError,
    struct.error,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


@dataclass(frozen=True, eq=False)
class _Files(Labelled):
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

    def there(self, wanted: Sequence[int]) -> Iterator[int]:
        """Those indices at which there is a file."""
        return (index for index in wanted if index < len(self.names))

    @cached_property
    def labelled(self) -> tuple[list[str], list[int]]:
        """Names of the classes, and the class of each item."""
        return classes_of(self.names)


@dataclass(frozen=True, eq=False)
class FolderDataset(_Files):
    """The files below a folder."""

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name, in order."""
        endings = ENDINGS[self.modality]
        found = (p for p in self.path.rglob("*") if p.suffix.lower() in endings and p.is_file())
        return {p.relative_to(self.path).as_posix(): p.stat().st_size for p in sorted(found)}

    @cached_property
    def empty(self) -> list[str]:
        """Folders beside those of the classes in which there is nothing that counts."""
        levels = {name.count("/") for name in self.names}
        if levels != {1}:
            return []
        known = set(self.classes)
        folders = (path.name for path in self.path.iterdir() if path.is_dir())
        return sorted(name for name in folders if name not in known and not name.startswith("."))

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names and contents."""
        with ThreadPoolExecutor(READERS) as pool:
            return hashed(zip(self.sizes, pool.map(self._content, self.sizes), strict=True))

    def _content(self, name: str) -> str:
        if self.sizes[name] > LARGEST_FILE:
            return f"{self.sizes[name]} bytes"
        try:
            return content_hash(self.path / name)
        except OSError:
            return "unreadable"

    def items(self, wanted: Sequence[int]) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Dataset`."""
        for index in self.there(wanted):
            try:
                if self.sizes[self.names[index]] > LARGEST_FILE:
                    raise InputError(TOO_LARGE)
                yield index, (self.path / self.names[index]).read_bytes()
            except OSError:
                yield index, InputError("The file cannot be read.")
            except InputError as error:
                yield index, error


@dataclass(frozen=True, eq=False)
class ZipDataset(_Files):
    """The files in a zip; nothing is unpacked to disk."""

    @cached_property
    def _infos(self) -> dict[str, zipfile.ZipInfo]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                infos = [info for info in archive.infolist() if counts(info, self.modality)]
        except ZIP_ERRORS as error:
            raise InputError(f"{self.path.name!r} is a damaged zip; pack it again.") from error
        return {info.filename: info for info in sorted(infos, key=lambda info: info.filename)}

    @cached_property
    def sizes(self) -> dict[str, int]:
        """Bytes of each file, by name, in order."""
        return {name: info.file_size for name, info in self._infos.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Hash of names, sizes and the checksums that the zip keeps."""
        return hashed((name, info.file_size, info.CRC) for name, info in self._infos.items())

    def items(self, wanted: Sequence[int]) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Dataset`."""
        with zipfile.ZipFile(self.path) as archive:
            for index in self.there(wanted):
                name = self.names[index]
                if self.sizes[name] > LARGEST_FILE:
                    yield index, InputError(TOO_LARGE)
                    continue
                try:
                    yield index, archive.read(name)
                except ZIP_ERRORS:
                    yield index, InputError("The file in the zip is damaged or locked.")


def counts(info: zipfile.ZipInfo, modality: Modality) -> bool:
    """Whether a file in a zip is one of the dataset."""
    ending = Path(info.filename).suffix.lower()
    own = not info.is_dir() and not info.filename.startswith("__MACOSX")
    return own and ending in ENDINGS[modality]
