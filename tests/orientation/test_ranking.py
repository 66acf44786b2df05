"""Networks of kernels with known tuning are read back, and noise is not taken for tuning."""

from __future__ import annotations

import numpy as np
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


def test_responses_are_those_of_the_network_itself():
    model = network(np.stack([gabor(30.0, 0.14), gabor(120.0, 0.1)]))
    gratings = Gratings((0.0, 45.0, 90.0, 135.0), (0.1, 0.2), 4)
    found = tuned(model, gratings=gratings, rectified=False)
    pictures = gratings.draw((32, 32), 3, [(o, 0, p) for o in range(4) for p in range(4)])
    with torch.no_grad():
        maps = model.module[0](model.frontend.normalise(pictures))[:, :, 4, 4]
    waves = maps.reshape(4, 4, 2).numpy() @ np.eye(2)
    amplitude = np.abs(np.einsum("opu,p->uo", waves, np.exp(-0.5j * np.pi * np.arange(4)))) / 2
    best = found.layers["0"].frequency_curves.argmax(1)
    np.testing.assert_allclose(
        found.layers["0"].curves[best == 0], amplitude[best == 0], rtol=1e-4, atol=1e-5
    )
    assert (best == 0).any()


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
