"""Where the patches lie, in which order they are visited, and how their drops become a map."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.errors import InputError

Cell = tuple[int, int]
Box = tuple[float, float, float, float]
MAX_CELLS = 250_000
RASTER = 32  # the whole stride of most networks


@dataclass(frozen=True)
class Axis:
    """The patches along one axis of the input.

    Attributes
    ----------
    starts, ends : tuple of float
        Where each patch begins and ends, in ``unit``.
    unit : str
        ``"px"``, ``"Hz"`` or ``"s"``.
    spans : tuple of (int, int)
        The rows or columns of the network's input that each patch covers, end excluded.
    extent : int
        Number of rows or columns of the network's input.
    """

    starts: tuple[float, ...]
    ends: tuple[float, ...]
    unit: str
    spans: tuple[tuple[int, int], ...]
    extent: int

    def __len__(self) -> int:
        return len(self.starts)

    def gapless_step(self) -> int:
        """Largest power of two such that every so many patches still leave no gap."""
        if len(self) == 1:
            return 1
        ratio = (self.ends[0] - self.starts[0]) / (self.starts[1] - self.starts[0])
        return int(2 ** math.floor(math.log2(max(1.0, ratio + 1e-9))))

    def within(self, start: float, end: float) -> NDArray[np.bool_]:
        """Which patches have their middle from ``start`` to ``end``; the nearest if none has."""
        middle = (np.array(self.starts) + np.array(self.ends)) / 2
        found = (middle >= start) & (middle <= end)
        if not found.any():
            found[np.abs(middle - (start + end) / 2).argmin()] = True
        return found


def patch_starts(length: float, patch: float, stride: float, what: str = "patch") -> list[float]:
    """Starts of the patches that cover ``length``: from 0 on, the last cut at the border.

    The number of patches is ``ceil((length - patch) / stride) + 1``, as in Captum's `Occlusion`.

    Raises
    ------
    InputError
        If a size is not positive and finite, or the stride would leave gaps.
    """
    if not (math.isfinite(patch) and math.isfinite(stride) and patch > 0 and stride > 0):
        raise InputError(f"The {what} and its stride must be above 0.")
    if stride > patch:
        raise InputError(
            f"The stride ({stride:g}) is larger than the {what} ({patch:g}) and would leave gaps; "
            "make it at most as large."
        )
    # A hair of slack keeps 0.5 s steps over 5 s from gaining an empty last patch by rounding.
    count = max(0, math.ceil((length - patch) / stride - 1e-9)) + 1
    if count > MAX_CELLS:
        raise InputError(f"A stride of {stride:g} gives {count} positions; make it larger.")
    return [i * stride for i in range(count)]


def pixel_axis(length: int, patch: int, stride: int) -> Axis:
    """The patches along ``length`` input pixels.

    Raises
    ------
    InputError
        If patch or stride is not a whole number above 0, or the stride exceeds the patch.
    """
    if int(patch) != patch or int(stride) != stride:
        raise InputError("Patch and stride are whole numbers of input pixels.")
    starts = [int(start) for start in patch_starts(length, patch, stride)]
    spans = tuple((start, min(start + int(patch), length)) for start in starts)
    return Axis(
        tuple(float(s) for s, _ in spans), tuple(float(e) for _, e in spans), "px", spans, length
    )


@dataclass(frozen=True)
class Grid:
    """All positions of the occluder: every row of patches with every column of patches."""

    rows: Axis
    cols: Axis

    def __post_init__(self) -> None:
        if len(self) > MAX_CELLS:
            raise InputError(
                f"These settings give {len(self):,} positions, more than {MAX_CELLS:,}; "
                "make the stride larger."
            )

    def __len__(self) -> int:
        return len(self.rows) * len(self.cols)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and columns of patches."""
        return len(self.rows), len(self.cols)

    def box(self, cell: Cell) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) of a patch in rows and columns of the network's input."""
        (top, bottom), (left, right) = self.rows.spans[cell[0]], self.cols.spans[cell[1]]
        return top, left, bottom, right

    def gapless_steps(self) -> tuple[int, int]:
        """Coarsest raster, in rows and columns, powers of two, whose patches leave no gap."""
        return self.rows.gapless_step(), self.cols.gapless_step()

    def coarse_first(self) -> list[Cell]:
        """All cells, ordered so that any beginning covers the whole input, ever finer.

        Among equally coarse ones, patches that lie alike on a raster of `RASTER` places follow
        each other: behind strides of a network their changes are of one size.
        """
        rows, cols = self.shape
        # By each axis's own coarsest level, so that a single row of many columns works as well.
        finer = [top_level(count) - levels(count) for count in (rows, cols)]
        depth = np.maximum(finer[0][:, None], finer[1][None, :])
        phases = [
            np.array([start % RASTER for start, _ in axis.spans]) for axis in (self.rows, self.cols)
        ]
        phase = phases[0][:, None] * RASTER + phases[1][None, :]
        order = np.lexsort((phase.ravel(), depth.ravel()))
        return [(int(i) // cols, int(i) % cols) for i in order]

    def inside(self, box: Box | None) -> NDArray[np.bool_]:
        """Which patches (rows, cols) have their middle in a box; the nearest one if none has.

        Parameters
        ----------
        box : (top, left, bottom, right) or None
            In the axes' units; None stands for everything.

        Raises
        ------
        InputError
            If the box is empty or not four numbers.
        """
        if box is None:
            return np.ones(self.shape, np.bool_)
        try:
            top, left, bottom, right = (float(v) for v in box)
        except (TypeError, ValueError) as error:
            raise InputError("A box is four numbers: top, left, bottom, right.") from error
        if not (top < bottom and left < right):
            raise InputError("The box is empty; its end must lie behind its start.")
        rows, cols = self.rows.within(top, bottom), self.cols.within(left, right)
        return rows[:, None] & cols[None, :]

    def average(
        self, values: NDArray[np.float32], counted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.float32]:
        """Map (H, W) in which each place has the mean of the values of the patches that cover it.

        Places that no patch covers are 0: padding behind the end of a clip, and what lies outside
        of the patches that are ``counted`` (rows, cols), by default all.
        """
        weight = np.ones(self.shape) if counted is None else counted.astype(np.float64)
        total = _spread(values.astype(np.float64) * weight, self.rows, self.cols)
        count = _spread(weight, self.rows, self.cols)
        return np.divide(total, count, out=np.zeros_like(total), where=count > 0.5).astype(
            np.float32
        )


def top_level(count: int) -> int:
    """How often a number of patches can be halved until about four remain."""
    return max(0, (count - 1).bit_length() - 2)


def levels(count: int) -> NDArray[np.int64]:
    """How often each index can be halved, at most so often that about four patches remain."""
    top = top_level(count)
    return np.array(
        [top if i == 0 else min(top, (i & -i).bit_length() - 1) for i in range(count)], np.int64
    )


def _spread(values: NDArray[np.float64], rows: Axis, cols: Axis) -> NDArray[np.float64]:
    """Add every value to all places of its patch, by differences and running sums."""
    edges = np.zeros((rows.extent + 1, cols.extent + 1))
    (top, bottom), (left, right) = np.array(rows.spans).T, np.array(cols.spans).T
    for i, row_sign in ((top, 1), (bottom, -1)):
        for j, col_sign in ((left, 1), (right, -1)):
            np.add.at(edges, (i[:, None], j[None, :]), row_sign * col_sign * values)
    return edges.cumsum(0).cumsum(1)[:-1, :-1]
