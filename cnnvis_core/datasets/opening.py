"""A dataset by its place."""

from __future__ import annotations

import zipfile
from pathlib import Path

from cnnvis_core.datasets.dataset import Dataset
from cnnvis_core.datasets.files import FolderDataset, ZipDataset
from cnnvis_core.datasets.tables import ParquetDataset
from cnnvis_core.errors import InputError
from cnnvis_core.models.card import Modality


def open_dataset(where: object, modality: Modality) -> Dataset:
    """A collection by its place.

    Parameters
    ----------
    where : str, Path or Dataset
        A folder of files, of which the folder right above each is its class if there are several; a
        zip of the same; a Parquet file, or a folder of such without other media, with a column of
        encoded bytes and, if there are any, of labels and names.
    modality : {"image", "audio"}
        Which files count.

    Raises
    ------
    InputError
        If there is nothing that can be read.
    """
    if not isinstance(where, str | Path):
        if not all(hasattr(where, part) for part in ("names", "labels", "classes", "items")):
            raise InputError(f"Name a folder, a zip or a Parquet file, not {where!r}.")
        return where  # type: ignore[return-value]
    path = Path(where).resolve()
    if path.is_dir():
        tables = sorted(part for part in path.iterdir() if part.suffix.lower() == ".parquet")
        found: Dataset = FolderDataset(path, modality)
        if tables and not found.names:
            found = ParquetDataset(tuple(tables))
    elif path.suffix.lower() == ".parquet" and path.is_file():
        found = ParquetDataset((path,))
    elif path.is_file() and zipfile.is_zipfile(path):
        found = ZipDataset(path, modality)
    else:
        raise InputError(f"{path.name!r} is no folder, zip or Parquet file that can be read.")
    if not len(found.names):
        raise InputError(f"{path.name!r} holds no {modality} files; look into another place.")
    return found
