"""What a dataset is: encoded pictures or clips in a fixed order, with or without classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import is_dataclass, replace
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
        """Hash of names, classes and contents."""

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


def content_hash(path: Path) -> str:
    """Hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "blake2b").hexdigest()


def reopened(dataset: Dataset) -> Dataset:
    """The dataset anew, without what it remembers of what it has read."""
    return replace(dataset) if is_dataclass(dataset) else dataset


def sample_hash(dataset: Dataset) -> str:
    """Hash of the names, and of the first, the middle and the last item as they are now.

    By which another machine tells that it sees the same data, without reading all of it.
    """
    count = len(dataset.names)
    some = sorted({0, count // 2, count - 1} & set(range(count)))
    contents = [
        (index, hashlib.sha256(data).hexdigest() if isinstance(data, bytes) else str(data))
        for index, data in dataset.items(some)
    ]
    return hashed([tuple(dataset.names), *contents])


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
