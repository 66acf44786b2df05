"""Datasets at hand: bytes in memory, such as uploads."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from cnnvis_core.datasets.dataset import classes_of, hashed
from cnnvis_core.datasets.files import ZIP_ERRORS, counts
from cnnvis_core.errors import InputError
from cnnvis_core.models.card import Modality


@dataclass(frozen=True, eq=False)
class MemoryDataset:
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
        """Hash of names, classes and bytes."""
        contents = [hashlib.sha256(data).hexdigest() for data in self.data]
        items = zip(self.names, contents, self.labels, strict=True)
        return hashed([tuple(self.classes), *items])

    def items(self, wanted: Sequence[int]) -> Iterator[tuple[int, bytes | InputError]]:
        """See `Dataset`."""
        for index in wanted:
            if index < len(self.names):
                yield index, self.data[index]


MOST_BYTES = 500 * 2**20  # of a collection at hand


def dataset_of_uploads(files: Mapping[str, bytes], modality: Modality) -> MemoryDataset:
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
            found[_free(name, found)] = data
            continue
        # Two zips may hold files of one name.
        before = f"{name}/" if len(zips) > 1 else ""
        for inside, content in _unpacked(name, data, modality, left):
            found[_free(before + inside, found)] = content
            left -= len(content)
    names = sorted(found)
    if not names:
        raise InputError(f"There are no {modality} files in it; choose others.")
    classes, labels = classes_of(names)
    return MemoryDataset(names, [found[name] for name in names], labels, classes)


def _free(name: str, taken: Mapping[str, bytes]) -> str:
    """A name that is not taken yet, in the same folder."""
    folder, slash, own = name.rpartition("/")
    number = 1
    while name in taken:
        number += 1
        name = f"{folder}{slash}{number}-{own}"
    return name


def _unpacked(name: str, data: bytes, modality: Modality, most: int) -> Iterator[tuple[str, bytes]]:
    """The files in a zip; what a header says of their sizes is not relied on."""
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except ZIP_ERRORS as error:
        raise InputError(f"{name!r} is a damaged zip; pack it again.") from error
    with archive:
        for info in archive.infolist():
            if not counts(info, modality):
                continue
            try:
                with archive.open(info) as file:
                    content = file.read(most + 1)
            except ZIP_ERRORS:
                content = b""  # broken: counted and listed as such
            if len(content) > most:
                raise InputError(
                    f"The files in the zips take more than {MOST_BYTES // 2**20} MB; take fewer, "
                    "or use the command line."
                )
            most -= len(content)
            yield info.filename, content
