"""A look is a shift, a size and a turn about the middle, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from cnnvis_core.maximization.transforms import Transforms, View, look

GRAY = torch.tensor(0.5)


@pytest.fixture
def picture() -> torch.Tensor:
    return torch.rand(2, 3, 24, 24, generator=torch.Generator().manual_seed(0))


def test_a_still_look_is_the_picture_itself(picture):
    assert look(picture, View(), (24, 24)) is picture


@pytest.mark.parametrize("empty", [None, GRAY])
def test_a_padded_look_has_the_picture_in_its_middle(picture, empty):
    seen = look(picture, View(), (34, 34), 5, empty)
    torch.testing.assert_close(seen[..., 5:-5, 5:-5], picture, atol=1e-5, rtol=0)
    around = F.pad(picture, [5] * 4, value=0.5) if empty is not None else None
    if around is not None:
        torch.testing.assert_close(seen[..., :4, :], around[..., :4, :], atol=1e-5, rtol=0)
    else:
        torch.testing.assert_close(
            seen[..., 5:-5, :5], picture[..., :5].flip(-1), atol=1e-5, rtol=0
        )


@pytest.mark.parametrize("extent", [(24, 24), (34, 44)])
def test_a_shift_is_in_pixels_whatever_the_padding(picture, extent):
    picture = torch.rand(1, 3, 24, 34)
    pad = (extent[0] - 24) // 2
    seen = look(picture, View(down=3, right=-2), (24 + 2 * pad, 34 + 2 * pad), pad, GRAY)
    inner = seen[..., pad : 24 + pad, pad : 34 + pad]
    torch.testing.assert_close(inner[..., 3:, :-2], picture[..., :-3, 2:], atol=1e-4, rtol=0)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_quarter_turn_is_counter_clockwise(picture, turns):
    seen = look(picture, View(degrees=90.0 * turns), (24, 24))
    torch.testing.assert_close(seen, torch.rot90(picture, turns, (2, 3)), atol=1e-4, rtol=0)


def test_a_turn_keeps_shapes_where_rows_and_columns_differ():
    picture = torch.zeros(1, 1, 20, 40)
    picture[..., 8:12, 18:22] = 1.0
    seen = look(picture, View(degrees=90), (20, 40), empty=torch.tensor(0.0))
    torch.testing.assert_close(seen, picture, atol=1e-4, rtol=0)


def test_twice_the_size_shows_the_middle_half(picture):
    smooth = F.avg_pool2d(picture, 5, 1, 2)
    seen = look(smooth, View(scale=2.0), (24, 24))
    expected = F.interpolate(smooth, scale_factor=2, mode="bilinear")[..., 12:36, 12:36]
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=0)


def test_a_network_of_one_size_sees_the_whole_picture(picture):
    seen = look(picture, View(), (12, 12))
    expected = F.avg_pool2d(picture, 2)
    torch.testing.assert_close(seen, expected, atol=1e-4, rtol=0)


def test_draws_stay_within_their_bounds_and_use_them():
    transforms = Transforms(6, 0.2, 15.0, 0, jitter_rows=1)
    generator = torch.Generator().manual_seed(0)
    views = [transforms.draw(generator) for _ in range(500)]
    for values, bound in (
        ([v.down for v in views], 1),
        ([v.right for v in views], 6),
        ([v.scale - 1 for v in views], 0.2),
        ([v.degrees for v in views], 15),
    ):
        assert 0.95 * bound < max(values) <= bound
        assert -bound <= min(values) < -0.95 * bound


def test_gradients_reach_every_pixel(picture):
    picture.requires_grad_()
    look(picture, View(2, 1, 1.05, 7), (34, 34), 5).sum().backward()
    assert bool((picture.grad != 0).all())
