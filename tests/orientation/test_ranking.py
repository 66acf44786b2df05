"""Networks of kernels with known tuning are read back, and noise is not taken for tuning."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import cnnvis_core as cv
from cnnvis_core.orientation import (
    Gratings,
    OrientationTuning,
    agreement,
    rank_orientation,
    usual_gratings,
)
from cnnvis_core.orientation.ranking import ranked
from tests.support import picture_model, small_network

ANGLES = np.arange(0, 180, 5.0)
FREQUENCIES = (0.08, 0.14, 0.22)
SIZE = 25


def gabor(angle: float, frequency: float, phase: float = 0.0, size: int = SIZE) -> np.ndarray:
    """Stripes at an angle, counter-clockwise from horizontal, under a round Gaussian."""
    rows, cols = np.mgrid[:size, :size] - (size - 1) / 2
    turn = np.radians(angle)
    across = cols * np.sin(turn) + rows * np.cos(turn)
    window = np.exp(-(rows**2 + cols**2) / (2 * (size / 6) ** 2))
    kernel = window * np.cos(2 * np.pi * frequency * across + phase)
    return kernel - window * (kernel.sum() / window.sum())


def network(kernels: np.ndarray, further: bool = False) -> cv.Model:
    """Gray-seeing kernels (n, h, w) as a first layer "0"; "2" passes each on, in reverse order."""
    count, size = len(kernels), kernels.shape[-1]
    first = nn.Conv2d(3, count, size)
    weight = torch.from_numpy(kernels.astype(np.float32))[:, None]
    first.weight.data = (weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)).repeat(
        1, 3, 1, 1
    )
    first.bias.data.zero_()
    parts: list[nn.Module] = [first, nn.ReLU()]
    if further:
        second = nn.Conv2d(count, count, 3, padding=1)
        second.weight.data.zero_()
        blur = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
        for unit in range(count):
            second.weight.data[unit, count - 1 - unit] = blur
        second.bias.data.zero_()
        parts += [second, nn.ReLU()]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(count, 2)]
    return cv.from_module(nn.Sequential(*parts), (3, 32, 32))


def tuned(model: cv.Model, layer: str = "0", **how) -> OrientationTuning:
    return cv.run(rank_orientation(model, layer, **{"control": False, **how}))


@pytest.fixture(scope="module")
def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels of all angles and frequencies, and their truth."""
    pairs = [(a, f) for f in FREQUENCIES for a in ANGLES]
    kernels = np.stack([gabor(a, f) for a, f in pairs])
    return kernels, *np.array(pairs).T


@pytest.mark.parametrize("rectified", [False, True])
def test_known_angles_and_frequencies_are_read_back(grid, rectified):
    kernels, angles, frequencies = grid
    table = tuned(network(kernels), rectified=rectified).table
    assert agreement(table["preferred_deg"], angles).max() < 2
    assert np.abs(table["preferred_frequency"] / frequencies - 1).max() < 0.1
    assert table["selectivity"].min() > 0.4
    assert table["orthogonal_to_preferred"].max() < 0.1
    assert table["responds"].all()


def test_known_tuning_is_read_back_behind_further_layers(grid):
    kernels, angles, frequencies = grid
    found = tuned(network(kernels, further=True), ["0", "2"])
    assert list(found.layers) == ["0", "2"]
    table = found.layers["2"].table.iloc[::-1]
    assert agreement(table["preferred_deg"], angles).max() < 2
    assert np.abs(table["preferred_frequency"] / frequencies - 1).max() < 0.1
    assert found.table["layer"].value_counts().to_dict() == {"0": 108, "2": 108}


@pytest.mark.parametrize("turn", [30.0, 75.0])
def test_turning_all_kernels_turns_all_preferences(turn):
    angles = np.arange(0, 180, 20.0)
    before, after = (
        tuned(network(np.stack([gabor(a + by, 0.14, 0.7) for a in angles]))).table["preferred_deg"]
        for by in (0.0, turn)
    )
    assert agreement(before + turn, after).max() < 2


def test_a_round_kernel_has_next_to_no_selectivity():
    rows, cols = np.mgrid[:21, :21] - 10
    distance = rows**2 + cols**2
    wide, narrow = (np.exp(-distance / (2 * s**2)) / s**2 for s in (3.2, 2.0))
    table = tuned(network((narrow - wide)[None])).table
    assert table["selectivity"][0] < 0.1
    assert table["responds"][0]


def test_noise_is_called_selective_no_more_often_than_by_chance_and_stripes_are():
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(120, 9, 9))
    table = tuned(network(noise), control=True).table
    assert table["selective"].mean() <= 0.11  # 5 % and its error, twice
    stripes = np.stack([gabor(a, 0.2, size=9) for a in np.arange(0, 180, 1.5)])
    assert tuned(network(stripes), control=True).table["selective"].mean() > 0.95


def test_simple_units_follow_the_stripes_and_complex_ones_do_not():
    pair = np.stack([gabor(40.0, 0.14), gabor(40.0, 0.14, np.pi / 2)])
    first = nn.Conv2d(1, 4, SIZE, bias=False)
    kernels = torch.from_numpy(pair.astype(np.float32))
    first.weight.data = torch.cat([kernels, -kernels])[:, None] / 8

    class Energy(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.square = first, nn.Identity()
            self.sum = nn.Conv2d(4, 1, 1, bias=False)
            self.sum.weight.data.fill_(1.0)

        def forward(self, x):
            halves = torch.relu(self.first(x))
            return self.sum(halves * halves).mean((2, 3)).repeat(1, 2)

    model = cv.from_module(Energy(), (1, 32, 32))
    found = tuned(model, ["first", "sum"])
    simple, complex_ = (found.layers[name].table["modulation"] for name in ("first", "sum"))
    assert simple.min() == pytest.approx(np.pi / 2, abs=0.1)  # a sine cut in half
    assert complex_[0] < 0.1
    assert agreement(found.layers["sum"].table["preferred_deg"], [40.0])[0] < 2


def test_what_responds_to_nothing_is_listed_without_an_angle():
    kernels = np.stack([gabor(30.0, 0.14), np.zeros((SIZE, SIZE))])
    model = network(np.stack([kernels[0], kernels[0]]))
    model.module[0].weight.data[1] = 0.0
    table = tuned(model).table
    assert table["responds"].tolist() == [True, False]
    assert np.isnan(table["preferred_deg"][1])
    assert np.isnan(table["selectivity"][1])
    assert table["peak_response"][1] == 0


def test_rounding_of_a_silent_layer_is_no_angle():
    model = network(np.stack([gabor(angle, 0.14) for angle in (0.0, 40.0, 90.0, 130.0)]))
    stripes = model.module[0].weight.data[:, :1].clone()
    model.module[0].weight.data = torch.cat([stripes, -stripes, 0 * stripes], 1)
    table = tuned(model, control=True, colours=True).table
    assert not table["responds"].any()
    assert table["preferred_deg"].isna().all()
    assert np.isposinf(table["colour_ratio"]).all()
    assert set(table["colour"]) == {"red-green"}


def test_a_unit_that_is_no_number_leaves_the_others_alone():
    model = network(np.stack([gabor(30.0, 0.14), gabor(120.0, 0.1)]))
    model.module[0].weight.data[1] = float("nan")
    table = tuned(model, control=True).table
    assert table["responds"].tolist() == [True, False]
    assert agreement(table["preferred_deg"][:1], [30.0])[0] < 2


@pytest.mark.parametrize("step", [25.0, 35.0, 40.0])
def test_steps_that_do_not_part_the_circle_evenly_bring_no_selectivity(step):
    rows, cols = np.mgrid[:21, :21] - 10
    distance = rows**2 + cols**2
    wide, narrow = (np.exp(-distance / (2 * s**2)) / s**2 for s in (3.2, 2.0))
    table = tuned(network((narrow - wide)[None]), gratings=usual_gratings(32, step)).table
    assert table["selectivity"][0] < 0.1


def test_both_places_are_told_whichever_is_listened_to():
    model = network(np.stack([gabor(30.0, 0.14), gabor(120.0, 0.1)]))
    middle, mean = (tuned(model, place=place).table for place in ("middle", "mean"))
    for column in ("peak_middle", "peak_mean"):
        np.testing.assert_allclose(middle[column], mean[column])
    np.testing.assert_array_equal(middle["peak_response"], middle["peak_middle"])
    np.testing.assert_array_equal(mean["peak_response"], mean["peak_mean"])


@pytest.mark.parametrize("phases", [3, 5, 8])
@pytest.mark.parametrize("place", ["middle", "mean"])
def test_responses_are_those_of_the_network_itself(phases, place):
    model = network(np.stack([gabor(30.0, 0.14), gabor(120.0, 0.1)]))
    angles, frequencies = (0.0, 45.0, 90.0, 135.0), (0.06, 0.08, 0.1, 0.14, 0.2)
    gratings = Gratings(angles, frequencies, phases)  # more than a batch, which cuts phases apart
    found = tuned(model, gratings=gratings, rectified=False, place=place).layers["0"]
    cells = [(o, f, p) for o in range(4) for f in range(5) for p in range(phases)]
    with torch.no_grad():
        maps = model.module[0](model.frontend.normalise(gratings.draw((32, 32), 3, cells)))
        gray = model.module[0](model.frontend.normalise(torch.full((1, 3, 32, 32), 0.5)))
    take = (lambda m: m[:, :, 4, 4]) if place == "middle" else (lambda m: m.mean((2, 3)))
    values = take(maps).numpy().reshape(4, 5, phases, 2)
    turn = np.exp(-2j * np.pi * np.arange(phases) / phases)
    f1 = 2 * np.abs(np.einsum("ofpu,p->uof", values, turn)) / phases
    f0 = values.mean(2).transpose(2, 0, 1) - take(gray).numpy()[0][:, None, None]
    for unit in range(2):
        angle, frequency = np.unravel_index(f1[unit].argmax(), (4, 5))
        np.testing.assert_allclose(found.curves[unit], f1[unit, :, frequency], rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(found.frequency_curves[unit], f1[unit, angle], rtol=1e-3)
        assert found.best[unit].tolist() == [angle, frequency]
        assert found.worst[unit].tolist() == list(np.unravel_index(f1[unit].argmin(), (4, 5)))
        ratio = f1[unit].max() / f0[unit, angle, frequency]
        # Of a linear unit the mean does not answer: what is left is rounding.
        assert abs(found.table["modulation"][unit]) > 100 or found.table["modulation"][
            unit
        ] == pytest.approx(ratio, rel=0.05)


def test_previews_sharpen_from_coarse_to_fine_and_nothing_is_left_behind():
    model = network(np.stack([gabor(50.0, 0.14)] * 2))
    seen = []
    with rank_orientation(model, "0") as job:
        for progress in job:
            if progress.preview is not None:
                seen.append(len(progress.preview.layers["0"].orientations_deg))
    assert seen == sorted(seen)
    assert seen[0] < seen[-1] == 36
    assert agreement(job.result.table["preferred_deg"], [50.0, 50.0]).max() < 2
    assert not any(part._forward_hooks for part in model.module.modules())


def test_colour_is_told_from_brightness():
    stripes = torch.from_numpy(gabor(40.0, 0.14).astype(np.float32))
    model = network(np.stack([gabor(40.0, 0.14)] * 3))
    for unit, colour in enumerate([(1.0, 1.0, 1.0), (1.0, -1.0, 0.0), (1.0, 0.0, 0.0)]):
        for channel, share in enumerate(colour):
            model.module[0].weight.data[unit, channel] = share * stripes
    table = tuned(model, colours=True).table
    assert table["colour_ratio"][0] < 0.05
    assert table["colour_ratio"][1] > 100
    assert table["colour_ratio"][2] == pytest.approx(1.0, abs=0.05)
    assert "colour_ratio" not in tuned(model).table
    with pytest.raises(cv.InputError, match="no colours"):
        rank_orientation(picture_model(small_network(1), channels=1), "0", colours=True)


@pytest.mark.parametrize(
    ("by", "best"),
    [("angle", 3), ("selectivity", 2), ("frequency", 1), ("bandwidth", 2), ("modulation", 0)],
)
def test_units_are_ranked(by, best):
    table = pd.DataFrame(
        {
            "preferred_deg": [90.0, 50.0, 120.0, 178.0, np.nan],
            "selectivity": [0.2, 0.3, 0.9, 0.4, np.nan],
            "preferred_frequency": [0.1, 0.4, 0.2, 0.3, np.nan],
            "half_width_deg": [40.0, 30.0, 10.0, np.nan, np.nan],
            "modulation": [np.inf, 1.2, 0.3, 0.1, np.nan],
        }
    )
    order = ranked(table, by, 4.0)
    assert order[0] == best
    assert order[-1] == 4
    with pytest.raises(cv.InputError):
        ranked(table, "beauty")


def test_bad_values_get_one_sentence():
    model = network(np.stack([gabor(50.0, 0.14)]))
    for wrong in ({"layer": "9"}, {"layer": []}, {"layer": "0", "place": "edge"}):
        with pytest.raises(cv.CnnvisError):
            rank_orientation(model, **wrong)
    with pytest.raises(cv.ModelError, match="hears"):
        rank_orientation(cv.load("soundnet-esc10"), "stem.0")
    for make in (
        lambda: Gratings((0.0, 90.0), (0.1,)),
        lambda: Gratings((0.0, 45.0, 90.0, 180.0), (0.1,)),
        lambda: Gratings((0.0, 45.0, 90.0, 135.0), (0.7,)),
        lambda: Gratings((0.0, 45.0, 90.0, 135.0), ()),
        lambda: Gratings((0.0, 45.0, 90.0, 135.0), (0.1,), phases=2),
        lambda: Gratings((0.0, 45.0, 90.0, 135.0), (0.1,), contrast=0.0),
        lambda: Gratings((0.0, 45.0, 90.0, 135.0), (0.1,), diameter=1.0),
        lambda: usual_gratings(64, 0.01),
    ):
        with pytest.raises(cv.InputError):
            make()
