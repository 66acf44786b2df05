"""Tallies of parts add up to the tally of all, whatever the cuts."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from cnnvis_core.exemplars.tally import LARGEST, SMALLEST, Answers, Tally, _sketch, quantiles, tally

ITEMS, UNITS, CLASSES = 40, 6, 3


def batch(start: int, stop: int, maps: torch.Tensor) -> Tally:
    items = torch.arange(start, stop)
    return tally(Answers.of_maps(maps[start:stop]), items, items % CLASSES - 1, 5, CLASSES - 1)


@pytest.fixture(scope="module")
def maps() -> torch.Tensor:
    """With many equal values, so that ties are decided."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(-3, 4, (ITEMS, UNITS, 4, 5), generator=generator).float()


@pytest.mark.parametrize("cuts", [(0, 40), (0, 3, 40), (0, 10, 20, 30, 40), tuple(range(41))])
def test_parts_add_up_to_the_whole(maps, cuts):
    whole = batch(0, ITEMS, maps).arrays()
    parts = [batch(a, b, maps) for a, b in itertools.pairwise(cuts)]
    found = parts[0]
    for part in parts[1:]:
        found = found.plus(part)
    for name, values in found.arrays().items():
        np.testing.assert_array_equal(values, whole[name], err_msg=name)


def test_the_first_of_equal_ones_is_kept(maps):
    found = batch(0, ITEMS, maps).arrays()
    maxima = maps.amax((2, 3)).numpy()
    for unit in range(UNITS):
        order = np.lexsort((np.arange(ITEMS), -maxima[:, unit]))[:5]
        assert found["max_item"][unit].tolist() == order.tolist()
        for rank, item in enumerate(order):
            flat = maps[item, unit].flatten().numpy()
            assert found["max_place"][unit, rank].tolist() == [*divmod(int(flat.argmax()), 5), 0]


def test_fewer_items_than_are_kept_leave_places_empty(maps):
    found = batch(0, 2, maps).plus(batch(2, 3, maps)).arrays()
    assert (found["max_item"][:, 3:] == -1).all()
    assert np.isneginf(found["max_value"][:, 3:]).all()
    assert (found["max_item"][:, :3] >= 0).all()


def test_arrays_make_the_tally_again(maps):
    found = batch(0, 9, maps)
    again = Tally.of_arrays(found.arrays())
    for name, values in again.arrays().items():
        np.testing.assert_array_equal(values, found.arrays()[name])


@pytest.mark.parametrize("scale", [1e-4, 1.0, 3e4])
def test_quantiles_are_within_a_twentieth(scale):
    values = scale * torch.randn(3, 5000, generator=torch.Generator().manual_seed(1))
    shares = (0.01, 0.25, 0.5, 0.99)
    found = quantiles(_sketch(values, torch.ones_like(values, dtype=torch.bool)).numpy(), shares)
    exact = np.quantile(values.numpy(), shares, axis=1, method="lower").T
    np.testing.assert_allclose(found, exact, rtol=0.05, atol=2 * SMALLEST)


def test_sketches_hold_what_lies_beyond_their_range():
    values = torch.tensor([[0.0, 1e-9, -1e-9, 10 * LARGEST, -10 * LARGEST]])
    counts = _sketch(values, torch.ones_like(values, dtype=torch.bool))[0]
    assert int(counts.sum()) == 5
    assert counts[0] == counts[-1] == 1
    assert counts[len(counts) // 2] == 3
    assert np.isnan(quantiles(np.zeros((1, len(counts)), np.int64))).all()
