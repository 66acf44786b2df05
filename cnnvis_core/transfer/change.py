"""What a comparison of two networks found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd
import torch

from cnnvis_core.brief import Brief
from cnnvis_core.errors import InputError

By = Literal["response", "excess", "weight", "picture", "gram"]
MEASURES: Mapping[By, str] = {
    "weight": "weight_change",
    "response": "response_change",
    "excess": "response_excess",
    "picture": "picture_change",
    "gram": "gram_distance",
}


@dataclass(frozen=True, eq=False, repr=False)
class Pair(Brief):
    """What two networks draw for a unit from the same start and seed.

    Attributes
    ----------
    before, after : Tensor (C, H, W)
        In [0, 1].
    failed : str
        Which of them is blank: "", "before", "after" or "both".
    redrawn : bool
        Whether either came out blank at first and was drawn again from another start.
    """

    before: torch.Tensor
    after: torch.Tensor
    failed: str
    redrawn: bool = False


@dataclass(frozen=True, eq=False, repr=False)
class Change(Brief):
    """How the units of a layer changed from one network to another.

    Attributes
    ----------
    layer : str
        Its name.
    table : DataFrame
        A unit a row, most changed first: ``unit``, ``weight_change``, ``correlation`` and
        ``response_change`` (1 minus it), ``cosine`` and ``picture_change`` (1 minus it),
        ``gram_distance``, each with a column of its noise, such as ``response_noise``;
        ``response_excess``, the change less its noise; ``failed`` and ``redrawn`` (see `Pair`).
        NaN where a measure was not taken, or a picture is blank.
    cka, cka_noise : float
        Centred kernel alignment of the whole layer, and its spread over other draws of the inputs;
        NaN without inputs, the spread also for fewer than 24.
    cka_control : float
        Mean alignment of the layer after with that of the controls; NaN without them.
    inputs : int
        How many inputs were shown.
    pictures : dict
        Unit -> `Pair`.
    controls : int
        How many further networks tell the noise.
    """

    layer: str
    table: pd.DataFrame
    cka: float
    cka_noise: float
    cka_control: float
    inputs: int
    pictures: Mapping[int, Pair]
    controls: int

    @property
    def failed(self) -> tuple[int, ...]:
        """Units whose picture is blank in either network."""
        return tuple(sorted(unit for unit, pair in self.pictures.items() if pair.failed))

    @property
    def nbytes(self) -> int:
        """Bytes that the pictures take."""
        return sum(pair.before.nbytes + pair.after.nbytes for pair in self.pictures.values())

    def with_pictures(self, drawn: Change) -> Change:
        """The same with the pictures of another comparison of these networks."""
        mine = self.table.set_index("unit")
        columns = [name for name in drawn.table if name.startswith(("cosine", "picture", "gram"))]
        other = drawn.table.set_index("unit")[[*columns, "failed", "redrawn"]]
        mine[other.columns] = other.loc[mine.index]
        return replace(self, table=mine.reset_index(), pictures=drawn.pictures)

    def ranked(self, by: By) -> pd.DataFrame:
        """The table, most changed first by one measure; units without it come last.

        Raises
        ------
        InputError
            If there is no such measure.
        """
        if by not in MEASURES:
            raise InputError(f"Units are ranked by one of {', '.join(MEASURES)}, not by {by!r}.")
        return self.table.sort_values(
            MEASURES[by], ascending=False, kind="stable", na_position="last", ignore_index=True
        )
