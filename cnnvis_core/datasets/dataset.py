"""What a dataset is: encoded pictures or clips in a fixed order, with or without classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
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
MOST_CLASSES = 4096  # more different labels are taken for something else, such as captions
PIECE = 4096  # bytes
TOO_LARGE = "The file is too large."


class Dataset(Protocol):
    """Encoded pictures or clips in a fixed order, the same wherever it is opened."""

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
        """Hash of names, classes and contents, or of as much of these as is read quickly."""

    def items(self, wanted: Sequence[int]) -> Iterator[tuple[int, bytes | InputError]]:
        """Index and bytes of each of these items, or why it is not there.

        The indices are ascending; those beyond the end are passed over.
        """


class Labelled:
    """Classes and labels of what tells both at once."""

    @cached_property
    def labelled(self) -> tuple[list[str], list[int]]:
        """Names of the classes, and the class of each item."""
        raise NotImplementedError

    @property
    def classes(self) -> list[str]:
        """Names of the classes."""
        return self.labelled[0]

    @property
    def labels(self) -> list[int]:
        """Class of each item; -1 for none."""
        return self.labelled[1]


def hashed(parts: Iterable[tuple[Any, ...]]) -> str:
    """Hash of tuples of plain values."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(repr(part).encode())
    return digest.hexdigest()


def reopened(dataset: Dataset) -> Dataset:
    """The dataset anew, without what it remembers of what it has read."""
    return replace(dataset)  # type: ignore[type-var]


def glimpse(path: Path, pieces: int = 2) -> str:
    """Hash of a file's size and of pieces of it, the first and the last one among them."""
    size = path.stat().st_size
    digest = hashlib.sha256(str(size).encode())
    with path.open("rb") as file:
        for number in range(pieces):
            file.seek(max(size - PIECE, 0) * number // (pieces - 1))
            digest.update(file.read(PIECE))
    return digest.hexdigest()


def numbered(values: Sequence[str]) -> tuple[list[str], list[int]]:
    """Classes in order, and the label of each value; an empty one has none, which is -1."""
    classes = sorted(set(values) - {""})
    if len(classes) > MOST_CLASSES:
        return [], [-1] * len(values)
    place = {name: index for index, name in enumerate(classes)}
    return classes, [place.get(value, -1) for value in values]


def classes_of(names: Sequence[str]) -> tuple[list[str], list[int]]:
    """Classes by the folder right above each file, and the label of each; none for fewer than 2."""
    classes, labels = numbered([name.rpartition("/")[0].rpartition("/")[2] for name in names])
    return (classes, labels) if len(classes) > 1 else ([], [-1] * len(names))
