"""Which items are trained on, and which are held back for testing."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cnnvis_core.datasets import Dataset
from cnnvis_core.errors import InputError


@dataclass(frozen=True)
class Split:
    """Indices of items, ascending.

    Attributes
    ----------
    train, test : tuple of int
        Those that are trained on, and those that are only tested.
    """

    train: tuple[int, ...]
    test: tuple[int, ...]


def split(dataset: Dataset, share: float, seed: int) -> Split:
    """Hold back a share of every class, at least one item, drawn at random.

    Items without a class are left out.

    Raises
    ------
    InputError
        If there are fewer than two classes, or one of a single item.
    """
    classes = list(dataset.classes)
    if len(classes) < 2:
        raise InputError(
            "There are no two classes; a network learns to tell some apart. Put the files of each "
            "class into a folder of its own, or give a column of labels."
        )
    for name in getattr(dataset, "empty", ()):
        raise InputError(
            f"The folder {name!r} of a class holds no file that counts; fill it or take it away."
        )
    labels = np.asarray(dataset.labels)
    rng = np.random.default_rng(seed)
    train: list[int] = []
    test: list[int] = []
    for number, name in enumerate(classes):
        mine = np.flatnonzero(labels == number)
        if len(mine) < 2:
            raise InputError(
                f"The class {name!r} has {len(mine)} files; it needs two, one to train on and one "
                "to test."
            )
        held = min(max(1, round(share * len(mine))), len(mine) - 1)
        mixed = rng.permutation(mine)
        test += mixed[:held].tolist()
        train += mixed[held:].tolist()
    return Split(tuple(sorted(train)), tuple(sorted(test)))
