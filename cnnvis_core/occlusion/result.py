"""What an occlusion run found."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnvis_core.brief import Brief
from cnnvis_core.models.model import ScoreKind
from cnnvis_core.occlusion.grid import Grid


@dataclass(frozen=True, eq=False, repr=False)
class Occlusion(Brief):
    """Drops of one class's score, one for every position of the occluder.

    Attributes
    ----------
    drop : ndarray of float32, shape (rows, cols)
        Clean score minus occluded score; positive where the place supported the class. In a
        preview, positions that are still to come carry the value of their nearest coarser one.
    measured : ndarray of bool, shape (rows, cols)
        Which positions were really measured.
    inside : ndarray of bool, shape (rows, cols)
        Which positions were asked for; the drop of others is 0 and counts nowhere. In a finished
        result of the exact mode, all of these were measured.
    baseline : float
        The clean score.
    target : int
        Index of the class.
    class_name : str
        Its name.
    score : {"probability", "logit"}
        What the drops are drops of.
    grid : Grid
        Where the patches lie.
    engine : str
        The engine that measured, ``"full"`` or ``"incremental"``.
    note : str
        Why that engine, in a sentence.
    fill : str
        What the places were covered with, in words.
    """

    drop: NDArray[np.float32]
    measured: NDArray[np.bool_]
    inside: NDArray[np.bool_]
    baseline: float
    target: int
    class_name: str
    score: ScoreKind
    grid: Grid
    engine: str
    note: str
    fill: str

    @cached_property
    def heatmap(self) -> NDArray[np.float32]:
        """Drop at every place of the input (H, W), averaged over the patches that cover it."""
        return self.grid.average(self.drop, self.inside)

    @property
    def positive_mass(self) -> NDArray[np.float32]:
        """The supporting part of the heatmap, scaled to a sum of 1 (all 0 if nothing supports)."""
        positive = np.maximum(self.heatmap, 0)
        total = float(positive.sum())
        return (positive / total if total > 0 else positive).astype(np.float32)

    def table(self) -> pd.DataFrame:
        """One row a position: where it lies (in px, Hz or s), its drop and its occluded score."""
        rows, cols = self.grid.rows, self.grid.cols
        i, j = (index.ravel() for index in np.indices(self.grid.shape))
        places = {
            f"top_{rows.unit}": np.array(rows.starts)[i],
            f"bottom_{rows.unit}": np.array(rows.ends)[i],
            f"left_{cols.unit}": np.array(cols.starts)[j],
            f"right_{cols.unit}": np.array(cols.ends)[j],
        }
        if rows.unit == "Hz":
            places = {
                "low_Hz": places["top_Hz"],
                "high_Hz": places["bottom_Hz"],
                "start_s": places["left_s"],
                "end_s": places["right_s"],
            }
        drop = self.drop.ravel()
        return pd.DataFrame(
            {
                "row": i,
                "col": j,
                **places,
                "drop": drop,
                "score": self.baseline - drop,
                "measured": self.measured.ravel(),
            }
        )
