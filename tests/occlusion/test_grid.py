"""The plan of positions."""

from __future__ import annotations

import numpy as np
import pytest

from cnnvis_core.errors import InputError
from cnnvis_core.occlusion.grid import Grid, pixel_axis
from cnnvis_core.occlusion.survey import Survey


def brute_force_average(grid, values):
    total = np.zeros((grid.rows.extent, grid.cols.extent))
    count = np.zeros_like(total)
    for i in range(len(grid.rows)):
        for j in range(len(grid.cols)):
            top, left, bottom, right = grid.box((i, j))
            total[top:bottom, left:right] += values[i, j]
            count[top:bottom, left:right] += 1
    return total / count


@pytest.mark.parametrize("length", [1, 7, 16, 31])
@pytest.mark.parametrize("patch", [1, 4, 9, 40])
@pytest.mark.parametrize("stride", [1, 3])
def test_patches_start_at_0_reach_the_end_and_leave_no_gap(length, patch, stride):
    if stride > patch:
        return
    axis = pixel_axis(length, patch, stride)
    covered = np.zeros(length, int)
    for start, end in axis.spans:
        assert end > start
        covered[start:end] += 1
    assert axis.spans[0][0] == 0
    assert covered.min() >= 1


@pytest.mark.parametrize("shape", [((13, 5, 2), (9, 4, 3)), ((8, 8, 8), (8, 1, 1))])
def test_averages_equal_brute_force(shape):
    grid = Grid(*(pixel_axis(*axis) for axis in shape))
    values = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    np.testing.assert_allclose(grid.average(values), brute_force_average(grid, values), atol=1e-6)


def test_disjoint_patches_rebuild_the_values():
    grid = Grid(pixel_axis(12, 3, 3), pixel_axis(8, 2, 2))
    values = np.arange(16, dtype=np.float32).reshape(4, 4)
    np.testing.assert_allclose(grid.average(values), np.kron(values, np.ones((3, 2))), atol=1e-5)


@pytest.mark.parametrize("counts", [(1, 1), (1, 9), (40, 3), (5, 3), (17, 30), (64, 64)])
def test_the_order_visits_every_cell_once_from_coarse_to_fine(counts):
    grid = Grid(*(pixel_axis(n, 1, 1) for n in counts))
    order = grid.coarse_first()
    assert sorted(order) == [(i, j) for i in range(counts[0]) for j in range(counts[1])]
    # Any beginning leaves no hole larger than about twice the spacing that its size allows.
    for share in (0.1, 0.3):
        begun = np.array(order[: max(1, int(share * len(order)))])
        cells = np.array(order)
        distance = np.abs(cells[:, None] - begun[None]).max(2).min(1).max()
        assert distance <= max(1, 4 * np.sqrt(1 / share)), share


@pytest.mark.parametrize("counts", [(1, 64), (70, 1), (3, 40), (7, 29), (9, 57), (33, 33)])
def test_the_first_sixteen_positions_leave_nothing_blank(counts):
    grid = Grid(*(pixel_axis(n, 1, 1) for n in counts))
    survey = Survey(grid, np.ones(counts, bool))
    survey.note(grid.coarse_first()[:16], np.ones(16, np.float32))
    assert (survey.filled() == 1).all()


def test_gaps_take_the_nearest_coarser_value():
    grid = Grid(pixel_axis(8, 1, 1), pixel_axis(8, 1, 1))
    measured = np.zeros((8, 8), bool)
    measured[::2, ::2] = True
    drop = np.arange(64, dtype=np.float32).reshape(8, 8)
    survey = Survey(grid, np.ones((8, 8), bool))
    assert (survey.filled() == 0).all()
    survey.note(list(zip(*np.nonzero(measured), strict=True)), drop[measured])
    np.testing.assert_array_equal(survey.filled(), np.kron(drop[::2, ::2], np.ones((2, 2))))


def test_too_many_positions_are_refused():
    with pytest.raises(InputError, match="larger"):
        Grid(pixel_axis(1000, 1, 1), pixel_axis(1000, 1, 1))
