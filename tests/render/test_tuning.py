"""Tuning is drawn as it was measured."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import cnnvis_core as cv
from cnnvis_core.orientation import Gratings, OrientationTuning, Ripples
from cnnvis_core.orientation.modulation import LayerModulation, ModulationTuning
from cnnvis_core.orientation.ranking import LayerTuning
from cnnvis_core.render import ripples as heard
from cnnvis_core.render import tuning as drawn

ANGLES = np.arange(0, 180, 15.0)
GRATINGS = Gratings(tuple(ANGLES), (0.1, 0.2), 4)


def bell(centre: float) -> np.ndarray:
    away = (ANGLES - centre + 90) % 180 - 90
    return np.exp(-(away**2) / (2 * 15.0**2))


@pytest.fixture(scope="module")
def found() -> OrientationTuning:
    """Four units: at 0, at 60 degrees, without preference, and silent."""
    curves = np.stack([bell(0.0), bell(60.0), np.ones(12), np.zeros(12)])
    table = pd.DataFrame(
        {
            "unit": range(4),
            "preferred_deg": [0.0, 60.0, 30.0, np.nan],
            "selectivity": [0.8, 0.8, 0.0, np.nan],
            "selective": pd.array([True, True, False, False], dtype="boolean"),
            "preferred_frequency": [0.1, 0.2, 0.1, np.nan],
            "responds": [True, True, True, False],
        }
    )
    at = np.array([[0, 0], [4, 1], [2, 0], [0, 0]])
    layer = LayerTuning(table, curves, curves[:, :2], tuple(ANGLES), at, at)
    return OrientationTuning({"conv": layer}, GRATINGS)


def lightness(colours: np.ndarray) -> np.ndarray:
    """L of OKLab, from sRGB, by the published matrices."""
    light = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    mix = np.array(
        [
            [0.4122214708, 0.5363325363, 0.0514459929],
            [0.2119034982, 0.6806995451, 0.1073969566],
            [0.0883024619, 0.2817188376, 0.6299787005],
        ]
    )
    return np.cbrt(light @ mix.T) @ [0.2104542553, 0.7936177850, -0.0040720468]


def test_tints_are_of_one_lightness_and_close_after_180_degrees():
    angles = np.arange(0, 181, 5.0)
    colours = drawn.tint(angles, np.full(len(angles), 0.6))
    np.testing.assert_allclose(lightness(colours), drawn.LIGHTNESS, atol=0.01)
    np.testing.assert_allclose(colours[0], colours[-1], atol=1e-9)
    steps = np.abs(np.diff(colours, axis=0)).sum(1)
    assert steps.min() > 0.3 * steps.max()
    gray = drawn.tint(np.array([20.0, np.nan]), np.array([0.0, 1.0]))
    assert np.ptp(gray, axis=1).max() < 0.01
    assert drawn.tint_hex(0.0) != drawn.tint_hex(90.0)


def test_polar_tiles_point_where_the_unit_prefers(found):
    sheet = drawn.polar_tiles(found.layers["conv"], np.array([1, 0, 2, 3]))
    sixty, lying, even, silent = (
        np.asarray(sheet.tile(index)).astype(float).max(2) > 100 for index in range(4)
    )
    rows, cols = np.mgrid[: len(lying), : len(lying)] - (len(lying) - 1) / 2
    for shape, angle in ((lying, 0.0), (sixty, 60.0)):
        vector = (shape * np.exp(2j * np.arctan2(-rows, cols))).sum()
        assert np.degrees(np.angle(vector)) / 2 == pytest.approx(angle, abs=3)
    assert even.sum() > 2 * lying.sum()
    assert silent.sum() < 10


def test_kernels_come_in_order_and_gray_where_nothing_is_preferred(found):
    weight = np.zeros((4, 5, 5), np.float32)
    weight[np.arange(4), np.arange(4), 0] = 1.0
    sheet = drawn.tinted_kernels(weight, found.layers["conv"].table, np.array([2, 1, 0, 3]))
    for index, unit in enumerate([2, 1, 0, 3]):
        tile = np.asarray(sheet.tile(index)).astype(float)
        brightest = np.unravel_index(tile.sum(2).argmax(), tile.shape[:2])
        assert brightest[0] * 5 // len(tile) == unit
    assert np.ptp(np.asarray(sheet.tile(0)), axis=2).max() <= 2
    assert np.ptp(np.asarray(sheet.tile(1)), axis=2).max() > 60


def test_names_say_what_was_found(found):
    names = drawn.tuned_names(found.layers["conv"].table, [3, 2, 1])
    assert names[0] == "Unit 3: responds to no grating"
    assert "no more than chance" in names[1]
    assert names[2] == "Unit 1: 60°, selectivity 0.80, 0.200 cycles a pixel"


def test_gratings_are_drawn_as_they_were_shown():
    picture = drawn.grating_picture(GRATINGS, (32, 48), 3, (6, 0))
    assert picture.size == (48, 32)
    values = np.asarray(picture)[..., 0]
    assert np.ptp(values, axis=0).max() <= 1  # standing stripes: columns are even
    assert np.ptp(values[0]) > 200


def test_charts_hold_the_numbers(found):
    layer = found.layers["conv"]
    line = drawn.tuning_curve(layer, 1).to_dict()
    values = next(iter(line["datasets"].values()))
    assert [row["angle"] for row in values] == [*ANGLES, 180.0]
    assert values[4]["response"] == pytest.approx(1.0)
    assert values[0]["response"] == values[-1]["response"]
    counts = next(iter(drawn.angle_histogram(layer.table).to_dict()["datasets"].values()))
    assert {(row["low"], row["kind"], row["units"]) for row in counts} == {
        (0.0, "beyond chance", 1),
        (60.0, "beyond chance", 1),
        (30.0, "no more than chance", 1),
    }
    depth = drawn.through_the_layers({"a": layer.table}, "selectivity", "x").to_dict()
    row = next(iter(depth["datasets"].values()))[0]
    assert (row["median"], row["n"], row["units"]) == (0.8, 3, 4)
    for chart in (drawn.polar_plot(layer, 0), drawn.frequency_curve(layer, GRATINGS, 3)):
        assert chart.to_dict()["layer"]


def test_files_hold_the_numbers(found):
    table = found.layers["conv"].table.assign(weight_deg=1.5)
    numbers = np.load(io.BytesIO(drawn.orientation_npz(found, "conv", table)))
    np.testing.assert_array_equal(numbers["curves"], found.layers["conv"].curves)
    np.testing.assert_array_equal(numbers["orientations_deg"], ANGLES)
    assert numbers["weight_deg"].tolist() == [1.5] * 4
    assert numbers["selective"].tolist() == [1, 1, 0, 0]
    back = pd.read_csv(io.BytesIO(drawn.tuning_csv(table)))
    assert back["preferred_deg"].tolist()[:3] == [0.0, 60.0, 30.0]


def test_transfer_functions_are_drawn_upwards_with_downward_ripples_on_the_right():
    ripples = Ripples((2.0, 4.0), (0.0, 1.0, 2.0), 4)
    transfer = np.zeros((2, 4, 3))
    transfer[0, 3, 2] = 1.0  # fastest downward, finest
    transfer[1, 0, 0] = 1.0  # fastest upward, coarsest
    table = pd.DataFrame(
        {
            "unit": [0, 1],
            "preferred_rate_hz": [4.0, np.nan],
            "preferred_scale": [2.0, np.nan],
            "direction": [0.05, np.nan],
            "selective": pd.array([False, False], dtype="boolean"),
            "responds": [True, False],
        }
    )
    layer = LayerModulation(table, transfer, transfer.astype(np.complex64))
    sheet = heard.transfer_tiles(layer, np.array([0, 1]))
    first, second = (np.asarray(sheet.tile(index)).sum(2) for index in (0, 1))
    row, col = np.unravel_index(first.argmax(), first.shape)
    assert row < first.shape[0] / 3
    assert col >= 3 * first.shape[1] / 4
    row, col = np.unravel_index(second.argmax(), second.shape)
    assert row >= 2 * second.shape[0] / 3
    assert col < second.shape[1] / 4
    names = heard.ripple_names(table, [0, 1])
    assert "4 Hz either way, 2 cycles an octave" in names[0]
    assert names[1] == "Unit 1: responds to no ripple"
    found = ModulationTuning({"conv": layer}, ripples)
    numbers = np.load(io.BytesIO(heard.modulation_npz(found, "conv")))
    np.testing.assert_array_equal(numbers["transfer"], transfer)
    assert numbers["signed_rates_hz"].tolist() == [-4, -2, 2, 4]
    cells = next(iter(heard.transfer_chart(layer, ripples, 0).to_dict()["datasets"].values()))
    assert max(cells, key=lambda cell: cell["response"])["rate"] == "4"
    field = heard.field_chart(np.eye(3), np.arange(3.0), np.arange(3.0)).to_dict()
    assert len(next(iter(field["datasets"].values()))) == 9
    assert heard.preference_chart(table).to_dict()["mark"]["type"] == "circle"


def test_a_real_run_can_be_drawn():
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2)
    )
    model = cv.from_module(module, (3, 24, 24))
    found = cv.run(cv.rank_orientation(model, "0", GRATINGS))
    layer = found.layers["0"]
    assert drawn.polar_tiles(layer, np.arange(6)).count == 6
    assert len(drawn.tuned_names(layer.table, range(6))) == 6
    assert np.load(io.BytesIO(drawn.orientation_npz(found, "0", layer.table)))["curves"].shape == (
        6,
        12,
    )
