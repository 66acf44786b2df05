"""Sheets hold every tile in its place, in colours that tell values."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from cnnvis_core.filters import Kernels
from cnnvis_core.render.colour import DIVERGING, SEQUENTIAL
from cnnvis_core.render.kernels import kernel_sheet, slice_sheet
from cnnvis_core.render.maps import map_sheet, seen_box
from cnnvis_core.render.sprites import colour_tiles, sheet, signed_tiles


@pytest.mark.parametrize(
    ("count", "size"), [(1, (1, 1)), (7, (3, 3)), (65, (11, 5)), (600, (7, 7))]
)
def test_every_tile_is_where_it_belongs(count, size):
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (count, *size, 3), np.uint8)
    sprite = sheet(tiles)
    assert sprite.count == count
    for index in (0, count // 2, count - 1):
        found = np.asarray(sprite.tile(index))
        factor = found.shape[0] // size[0]
        assert found.shape == (size[0] * factor, size[1] * factor, 3)
        np.testing.assert_array_equal(found[::factor, ::factor], tiles[index])
    assert np.asarray(sprite.picture)[-1, -1, 3] == (255 if count % sprite.columns == 0 else 0)


def test_sign_shows_and_zero_is_pale():
    values = np.array([[[-2.0, 0.0, 2.0]], [[-0.5, 0.0, 0.5]]])
    own = signed_tiles(values, np.array([2.0, 0.5]))
    np.testing.assert_array_equal(own[0], own[1])
    common = signed_tiles(values, np.array([2.0, 2.0]))
    ends = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in DIVERGING]
    np.testing.assert_array_equal(common[0, 0, [0, 2]], [ends[0], ends[-1]])
    assert np.abs(common[1, 0, 1].astype(int) - ends[2]).max() <= 2
    assert not np.array_equal(common[1, 0, 0], common[0, 0, 0])


def test_colours_of_weights_are_those_of_the_input():
    red = np.zeros((1, 3, 1, 1))
    red[0, 0] = 2.0
    assert colour_tiles(red, np.array([2.0]))[0, 0, 0].tolist() == [255, 128, 128]
    assert colour_tiles(-red, np.array([2.0]))[0, 0, 0].tolist() == [0, 128, 128]


def test_large_maps_are_shrunk_by_averaging():
    maps = np.zeros((2, 300, 200), np.float32)
    maps[0, :, :100] = 1.0
    sprite = map_sheet(maps, True)
    tile = np.asarray(sprite.tile(0))
    assert max(tile.shape) <= 128
    assert tile[0, 0].tolist() != tile[0, -1].tolist()


def test_what_cannot_be_below_zero_runs_from_dark_to_light():
    maps = np.zeros((2, 8, 8), np.float32)
    maps[0, :4], maps[1, :4] = 2.0, 1.0
    ends = [tuple(int(c[i : i + 2], 16) for i in (1, 3, 5)) for c in SEQUENTIAL]
    top, bottom = (np.asarray(map_sheet(maps, False).tile(1))[row, 0] for row in (0, -1))
    assert (tuple(top), tuple(bottom)) == (ends[-1], ends[0])
    assert tuple(np.asarray(map_sheet(maps, True).tile(1))[0, 0]) != ends[-1]
    maps[0, 7] = -1.0
    assert tuple(np.asarray(map_sheet(maps, False).tile(1))[-1, 0]) not in ends


def test_a_dead_kernel_is_crossed_out_where_it_stands():
    weight = torch.randn(9, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    weight[4] = 0.0
    kernels = Kernels("a", weight, 1, False)
    order = np.roll(np.arange(9), 2)
    with_cross = kernel_sheet(kernels, order, "Input 1", False)
    crossed = [
        place
        for place in range(9)
        if (np.asarray(with_cross.tile(place)) == (192, 57, 43)).all(2).sum() > 36
    ]
    assert [order[place] for place in crossed] == [4]


def test_the_strongest_slices_of_a_kernel_come_first():
    weight = torch.zeros(2, 5, 3, 3)
    weight[1] = torch.tensor([0.1, 3.0, -0.2, -4.0, 0.5])[:, None, None]
    sprite, names = slice_sheet(Kernels("a", weight, 1, False), 1, 2)
    assert names == ["Weights on input 3", "Weights on input 1"]
    assert sprite.count == 2
    lowest = tuple(int(DIVERGING[0][i : i + 2], 16) for i in (1, 3, 5))
    assert tuple(np.asarray(sprite.tile(0))[0, 0]) == lowest
    grouped = Kernels("b", torch.ones(4, 2, 1, 1), 2, False)
    assert slice_sheet(grouped, 3)[1] == ["Weights on input 2", "Weights on input 3"]


def test_a_box_of_the_input_is_found_on_the_picture():
    # A 400 x 200 picture of which the middle 200 x 200 is seen at 100 x 100.
    assert seen_box((0, 0, 50, 100), (100, 100), (100, 0, 300, 200)) == (100, 0, 300, 100)
    assert seen_box((-20, 90, 500, 500), (100, 100), (100, 0, 300, 200)) == (280, 0, 300, 200)
