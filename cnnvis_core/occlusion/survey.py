"""What is known of a map while it is measured, and which positions come next."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.occlusion.grid import Cell, Grid, top_level

# Share of the map's range that neighbours may differ by before the adaptive mode looks between.
TOLERANCE = 0.03
FINEST_TOLERANCE = 0.3  # the same, before it looks at every single position


@dataclass(eq=False)
class Survey:
    """The drops that are known so far.

    Attributes
    ----------
    grid : Grid
        All positions.
    inside : ndarray of bool (rows, cols)
        The positions that are asked for.
    drop : ndarray of float32 (rows, cols)
        Measured or estimated; 0 elsewhere.
    measured : ndarray of bool (rows, cols)
        Which ones were measured.
    known : ndarray of bool (rows, cols)
        Which ones were measured or estimated.
    """

    grid: Grid
    inside: NDArray[np.bool_]
    drop: NDArray[np.float32] = field(init=False)
    measured: NDArray[np.bool_] = field(init=False)
    known: NDArray[np.bool_] = field(init=False)

    def __post_init__(self) -> None:
        self.drop = np.zeros(self.grid.shape, np.float32)
        self.measured = np.zeros(self.grid.shape, np.bool_)
        self.known = np.zeros(self.grid.shape, np.bool_)

    @property
    def settled(self) -> int:
        """How many positions are known."""
        return int(self.known.sum())

    @property
    def total(self) -> int:
        """How many positions are asked for."""
        return int(self.inside.sum())

    def note(self, cells: Sequence[Cell], drops: NDArray[np.float32]) -> None:
        """Take in measured drops."""
        rows, cols = np.array(cells).T
        self.drop[rows, cols] = drops
        self.measured[rows, cols] = self.known[rows, cols] = True

    def filled(self) -> NDArray[np.float32]:
        """Drops (rows, cols); what is not known has the value of its nearest coarser position."""
        filled = np.where(self.known, self.drop, 0).astype(np.float32)
        known = self.known.copy()
        rows, cols = np.indices(self.grid.shape)
        for level in range(1, top_level(max(self.grid.shape)) + 1):
            parent = rows >> level << level, cols >> level << level
            take = ~known & self.known[parent]
            filled[take] = self.drop[parent][take]
            known |= take
        return np.where(self.inside, filled, 0).astype(np.float32)


def exhaustive(survey: Survey) -> Iterator[list[Cell]]:
    """All positions that are asked for, from coarse to fine."""
    yield [cell for cell in survey.grid.coarse_first() if survey.inside[cell]]


def knots(count: int, step: int) -> NDArray[np.int64]:
    """Every ``step``-th of ``count`` positions, and the last."""
    return np.unique([*range(0, count, step), count - 1])


def adaptive(survey: Survey, steps: tuple[int, int]) -> Iterator[list[Cell]]:
    """Positions from coarse to fine, finer only where the map changes.

    A coarse raster is measured whole. Then it is halved again and again: a new position is
    measured if the corners of the coarser tile that it lies in, or those of a tile beside it,
    differ by more than `TOLERANCE` of the map's range, or if one of them was itself mistaken by
    that much when it was estimated; otherwise it is estimated from them. Every list must be noted
    in the survey before the next one is asked for.

    Parameters
    ----------
    survey : Survey
        What is known.
    steps : (int, int)
        Powers of two: the coarse raster, in rows and columns of the grid.
    """
    rows, cols = survey.grid.shape
    guess = np.zeros((rows, cols))
    surprise = np.zeros((rows, cols))
    down, across = steps
    tops, lefts = knots(rows, down), knots(cols, across)
    yield _raster(survey, tops, lefts, np.ones((rows, cols), np.bool_))
    while max(down, across) > 1:
        span = float(np.ptp(survey.drop[survey.measured])) if survey.measured.any() else 0.0
        # The finest positions tell least of what is not known yet.
        limit = (FINEST_TOLERANCE if max(down, across) == 2 else TOLERANCE) * span
        values = survey.drop[np.ix_(tops, lefts)].astype(np.float64)
        rough = _tile_spread(values) > limit
        rough |= _tile_max(surprise[np.ix_(tops, lefts)]) > limit / 2
        down, across = max(1, down // 2), max(1, across // 2)
        new_tops, new_lefts = knots(rows, down), knots(cols, across)
        estimate = _bilinear(values, tops, lefts, new_tops, new_lefts)
        guess[np.ix_(new_tops, new_lefts)] = estimate
        look = _touched(rough, tops, lefts, (rows, cols))
        new = np.zeros((rows, cols), np.bool_)
        new[np.ix_(new_tops, new_lefts)] = True
        new[np.ix_(tops, lefts)] = False
        quiet = new & ~look & survey.inside
        survey.drop[quiet] = guess[quiet]
        survey.known |= quiet
        chosen = _raster(survey, new_tops, new_lefts, look & new)
        yield chosen
        if chosen:
            at = tuple(np.array(chosen).T)
            surprise[at] = np.abs(survey.drop[at] - guess[at])
        tops, lefts = new_tops, new_lefts


def _raster(
    survey: Survey, tops: NDArray[np.int64], lefts: NDArray[np.int64], wanted: NDArray[np.bool_]
) -> list[Cell]:
    """Positions of a raster that are wanted, asked for and not measured yet."""
    raster = np.zeros(survey.grid.shape, np.bool_)
    raster[np.ix_(tops, lefts)] = True
    raster &= wanted & survey.inside & ~survey.measured
    return [cell for cell in survey.grid.coarse_first() if raster[cell]]


def _corners(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Four corners (4, rows - 1, cols - 1) of every tile; a single row or column counts twice."""
    if len(values) == 1:
        values = np.repeat(values, 2, 0)
    if values.shape[1] == 1:
        values = np.repeat(values, 2, 1)
    return np.stack([values[:-1, :-1], values[:-1, 1:], values[1:, :-1], values[1:, 1:]])


def _tile_spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
    corners = _corners(values)
    return np.asarray(corners.max(0) - corners.min(0))


def _tile_max(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(_corners(values).max(0))


def _touched(
    rough: NDArray[np.bool_],
    tops: NDArray[np.int64],
    lefts: NDArray[np.int64],
    shape: tuple[int, int],
) -> NDArray[np.bool_]:
    """Positions that lie in or on the edge of a rough tile."""
    touched = np.zeros(shape, np.bool_)
    for i, j in zip(*np.nonzero(rough), strict=True):
        bottom, right = tops[min(i + 1, len(tops) - 1)], lefts[min(j + 1, len(lefts) - 1)]
        touched[tops[i] : bottom + 1, lefts[j] : right + 1] = True
    return touched


def _bilinear(
    values: NDArray[np.float64],
    tops: NDArray[np.int64],
    lefts: NDArray[np.int64],
    new_tops: NDArray[np.int64],
    new_lefts: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Values between the knots."""
    down = np.array([np.interp(new_tops, tops, column) for column in values.T]).T
    return np.array([np.interp(new_lefts, lefts, row) for row in down])
