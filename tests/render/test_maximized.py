"""Maximised pictures are shown as they are, part by part and moving."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

import cnnvis_core as cv
from cnnvis_core import maximization as mx
from cnnvis_core.render.colour import SEQUENTIAL
from cnnvis_core.render.maximized import (
    activation_curve,
    animation,
    gallery,
    map_picture,
    maximization_npz,
    parts,
    side_by_side,
)
from tests.support import small_network


@pytest.fixture(scope="module")
def found() -> mx.Maximization:
    model = cv.from_module(small_network(), (3, 32, 32))
    settings = mx.Settings(transforms=mx.Transforms(0, 0.0, 0.0, 0), frame_every=5)
    return cv.run(cv.maximize(model, "2", [1, 4, 7], 20, 32, settings=settings))


@pytest.mark.parametrize(
    ("channels", "names", "modes"),
    [
        (1, [""], ["L"]),
        (2, ["channel 0", "channel 1"], ["L", "L"]),
        (3, [""], ["RGB"]),
        (4, ["", "depth"], ["RGB", "L"]),
        (5, [f"channel {n}" for n in range(5)], ["L"] * 5),
    ],
)
def test_each_part_of_a_picture_is_drawn_apart(channels, names, modes):
    values = torch.rand(channels, 6, 9).numpy()
    drawn = parts(values)
    assert [name for name, _ in drawn] == names
    assert [picture.mode for _, picture in drawn] == modes
    pixels = (values * 255).round().astype(np.uint8)
    flat = np.concatenate([np.atleast_3d(np.asarray(p)) for _, p in drawn], 2)
    np.testing.assert_array_equal(flat, pixels.transpose(1, 2, 0))
    assert side_by_side(values, False).size == (9 * len(names), 6)


def test_low_frequencies_are_at_the_bottom():
    values = np.zeros((1, 4, 3))
    values[0, 0] = 1.0
    drawn = np.asarray(side_by_side(values, True))
    lightest = tuple(int(SEQUENTIAL[-1][i : i + 2], 16) for i in (1, 3, 5))
    assert tuple(drawn[-1, 0]) == lightest
    assert tuple(drawn[0, 0]) != lightest
    rows = np.array([[3.0], [0.0]], np.float32)
    assert tuple(np.asarray(map_picture(rows, 2, True))[-1, 0]) == lightest
    assert tuple(np.asarray(map_picture(rows, 2, False))[0, 0]) == lightest


def test_the_sheet_holds_what_is_begun(found):
    sheet = gallery(found, False)
    for number in range(3):
        tile = np.asarray(sheet.tile(number))
        factor = tile.shape[0] // 32
        expected = (found.images[number].numpy() * 255).round().transpose(1, 2, 0)
        np.testing.assert_array_equal(tile[::factor, ::factor], expected)
    assert sheet.columns == 3
    torch.manual_seed(0)
    model = cv.from_module(small_network(), (3, 32, 32))
    job = cv.maximize(model, "2", None, 3, 32)
    next(job)
    begun = gallery(job.__next__().preview, False)
    assert np.asarray(begun.tile(0)).std() > 0
    job.close()


@pytest.mark.parametrize("kind", ["WebP", "GIF"])
def test_the_ascent_moves_from_the_first_frame_to_the_last(found, kind):
    film = Image.open(io.BytesIO(animation(found, 1, False, kind)))
    assert film.n_frames == len(found.frame_steps) == 5
    for place in (0, film.n_frames - 1):
        film.seek(place)
        shown = np.asarray(film.convert("RGB"), float)
        shown = shown.reshape(32, shown.shape[0] // 32, 32, -1, 3).mean((1, 3))
        expected = found.frames[place, 1].transpose(1, 2, 0)
        # GIF has 256 colours, and WebP loses a little.
        assert np.abs(shown - expected).mean() < 12


def test_the_curve_holds_each_step_as_measured(found):
    spec = activation_curve(found, 2, 10).to_dict()
    rows = spec["datasets"][spec["layer"][0]["data"]["name"]]
    np.testing.assert_allclose([row["activation"] for row in rows], found.activation[:, 2])
    assert spec["datasets"][spec["layer"][1]["data"]["name"]] == [{"step": 10}]


def test_the_numbers_can_be_taken_home(found):
    numbers = np.load(io.BytesIO(maximization_npz(found)))
    np.testing.assert_array_equal(numbers["images"], found.images.numpy())
    np.testing.assert_array_equal(numbers["activation"], found.activation)
    np.testing.assert_array_equal(numbers["end_maps"], found.end_maps)
    assert numbers["shows"].tolist() == ["unit 1 of 2", "unit 4 of 2", "unit 7 of 2"]
