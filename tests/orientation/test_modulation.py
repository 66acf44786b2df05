"""Kernels that hear known sweeps are read back, and noise is not taken for a direction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import cnnvis_core as cv
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.orientation import (
    Ripples,
    RippleStimuli,
    rank_modulation,
    ripple_sound,
    strf,
    usual_ripples,
)
from cnnvis_core.orientation.modulation import ranked
from tests.support import sound_model

# Above 1 kHz Slaney's bands are evenly spaced in octaves: 12 an octave here, 100 frames a second.
FRONTEND = LogMel(16000, 400, 160, 512, 34, 1000.0, 7556.0, 1e-4, min_seconds=0.5)
FRAMES, BANDS = 101, 34
OCTAVE = 1 / float(np.diff(np.log2(FRONTEND.mel_centres_hz())).mean())  # bands
SIZE = 27


def sweep(rate: float, scale: float, phase: float = 0.0, size: int = SIZE) -> np.ndarray:
    """A ripple under a round Gaussian, without any level of its own."""
    bands, frames = np.mgrid[:size, :size] - (size - 1) / 2
    wave = np.cos(2 * np.pi * (rate * frames / 100 + scale * bands / OCTAVE) + phase)
    window = np.exp(-(bands**2 + frames**2) / (2 * (size / 5) ** 2))
    kernel = window * wave
    return kernel - window * (kernel.sum() / window.sum())


def network(kernels: np.ndarray, further: bool = False) -> cv.Model:
    """Kernels (n, h, w) as a first layer "0"; "2" passes each on, in reverse order."""
    count, size = len(kernels), kernels.shape[-1]
    first = nn.Conv2d(1, count, size, padding=(size // 2, size // 2))
    weight = torch.from_numpy(kernels.astype(np.float32))[:, None]
    first.weight.data = weight / weight.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
    first.bias.data.zero_()
    parts: list[nn.Module] = [first, nn.ReLU()]
    if further:
        second = nn.Conv2d(count, count, 3, padding=1)
        second.weight.data.zero_()
        second.bias.data.zero_()
        blur = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
        for unit in range(count):
            second.weight.data[unit, count - 1 - unit] = blur
        parts += [second, nn.ReLU()]
    parts += [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(count, 2)]
    module = nn.Sequential(*parts)
    card = sound_model(module).card
    made = cv.from_module(module, (1, BANDS, FRAMES), modality="audio")
    return replace(made, card=card, frontend=FRONTEND)


def tuned(model: cv.Model, layer: str = "0", **how):
    return cv.run(rank_modulation(model, layer, **{"control": False, **how}))


RATES, SCALES = (8.0, 14.0, 22.0), (0.8, 1.4, 2.2)


@pytest.fixture(scope="module")
def grid() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Kernels of all rates, down and up, and scales, and their truth."""
    pairs = [(sign * rate, scale) for sign in (1, -1) for rate in RATES for scale in SCALES]
    return np.stack([sweep(*pair) for pair in pairs]), *np.array(pairs).T


@pytest.mark.parametrize("layer", ["0", "2"])
@pytest.mark.parametrize("rectified", [False, True])
def test_known_sweeps_are_read_back(grid, layer, rectified):
    kernels, rates, scales = grid
    table = tuned(network(kernels, further=True), layer, rectified=rectified).table
    if layer == "2":
        table = table.iloc[::-1]
    assert np.abs(table["preferred_rate_hz"].to_numpy() / np.abs(rates) - 1).max() < 0.1
    assert np.abs(table["preferred_scale"].to_numpy() / scales - 1).max() < 0.1
    assert (np.sign(table["direction"].to_numpy()) == np.sign(rates)).all()
    assert table["direction"].abs().min() > 0.5
    assert table["responds"].all()


def test_mirrored_kernels_prefer_the_other_direction(grid):
    kernels, _, _ = grid
    there = tuned(network(kernels)).table
    back = tuned(network(kernels[:, :, ::-1].copy())).table
    np.testing.assert_allclose(there["direction"], -back["direction"], atol=1e-3)


def test_a_round_kernel_has_no_direction():
    bands, frames = np.mgrid[:SIZE, :SIZE] - SIZE // 2
    distance = bands**2 + frames**2
    wide, narrow = (np.exp(-distance / (2 * s**2)) / s**2 for s in (3.5, 2.0))
    table = tuned(network((narrow - wide)[None])).table
    assert abs(table["direction"][0]) < 0.05
    assert table["responds"][0]


def test_noise_is_called_selective_no_more_often_than_by_chance_and_sweeps_are():
    rng = np.random.default_rng(0)
    table = tuned(network(rng.normal(size=(120, 9, 9))), control=True).table
    assert table["selective"].mean() <= 0.11  # 5 % and its error, twice
    sweeps = [sweep(s * r, c, size=15) for s in (1, -1) for r in (10.0, 16.0) for c in (1.2, 2.0)]
    assert tuned(network(np.stack(sweeps)), control=True).table["selective"].all()


def test_the_receptive_field_of_a_linear_unit_is_its_kernel():
    kernels = np.stack([sweep(10.0, 1.2), sweep(-16.0, 1.6, 1.0)])
    model = network(kernels)
    ripples = Ripples(tuple(np.arange(2.0, 40, 2.0)), tuple(np.arange(0, 5.0, 0.3)))
    found = tuned(model, ripples=ripples, rectified=False)
    steps = np.arange(SIZE) - SIZE // 2
    for unit in range(2):
        field = strf(found.layers["0"], ripples, unit, steps / 100, steps / OCTAVE)
        assert np.corrcoef(field.ravel(), kernels[unit].ravel())[0, 1] > 0.95


def test_ripples_in_the_spectrogram_have_their_rate_scale_depth_and_direction():
    model = network(sweep(8.0, 1.0)[None])
    ripples = Ripples((5.0, 10.0), (0.0, 1.0), 4, depth_db=10.0)
    stimuli = RippleStimuli(model, ripples)
    seconds, octaves = stimuli.axes
    assert ripples.signed_rates.tolist() == [-10, -5, 5, 10]
    down, flat = stimuli.inputs([(2, 1, 1), (3, 0, 0)])[:, 0].numpy()
    decibels = (down - float(stimuli.blank()[0, 0, 0, 0])) * 10 / np.log(10)
    truth = 10 * np.cos(2 * np.pi * (5 * seconds + octaves[:, None]) + np.pi / 2)
    np.testing.assert_allclose(decibels, truth, atol=1e-3)
    assert np.ptp(flat, axis=0).max() < 1e-5
    loud = [int(column.argmax()) for column in down[10:22, 46:52].T]
    assert loud == sorted(loud, reverse=True)  # moves down


@pytest.mark.parametrize(("rate", "scale"), [(6.0, 1.0), (-4.0, 1.5)])
def test_a_ripple_sounds_as_it_is_drawn(rate, scale):
    model = network(sweep(8.0, 1.0)[None])
    clip = ripple_sound(model, Ripples((4.0,), (1.0,)), rate, scale, seconds=1.0)
    levels = FRONTEND(clip)[0, 0].numpy()[:, 2:-2]
    seconds = FRONTEND.frame_seconds(levels.shape[1] + 4)[2:-2]
    octaves = np.log2(FRONTEND.mel_centres_hz() / FRONTEND.mel_centres_hz()[0])
    levels = levels - levels.mean()

    def power(of_rate: float, of_scale: float) -> float:
        turn = np.exp(-2j * np.pi * (of_rate * seconds + of_scale * octaves[:, None]))
        return float(np.abs((levels * turn).sum()))

    here = power(rate, scale)
    assert here > 5 * power(-rate, scale)
    assert here > 2 * power(2 * rate, scale)
    assert here > 2 * power(rate, scale + 0.6)


@pytest.mark.parametrize(
    ("by", "best"), [("rate", 1), ("scale", 0), ("direction", 0), ("modulation", 2)]
)
def test_units_are_ranked(by, best):
    table = pd.DataFrame(
        {
            "preferred_rate_hz": [4.0, 4.0, 30.0, np.nan],
            "preferred_scale": [3.0, 1.0, 2.0, np.nan],
            "direction": [0.9, -0.2, 0.1, np.nan],
            "modulation": [0.5, 1.0, np.inf, np.nan],
        }
    )
    order = ranked(table, by, -5.0)
    assert order[0] == best
    assert order[-1] == 3


def test_the_embedded_network_is_measured_with_previews():
    model = cv.load("soundnet-esc10")
    seen = []
    with rank_modulation(model, "stem.0") as job:
        for progress in job:
            if progress.preview is not None:
                seen.append(id(progress.preview))
    table = job.result.table
    assert len(set(seen)) > 2
    assert table["responds"].sum() > 25
    assert table["direction"].dropna().between(-1, 1).all()
    assert not any(part._forward_hooks for part in model.module.modules())


def test_bad_values_get_one_sentence():
    with pytest.raises(cv.ModelError, match="sees"):
        rank_modulation(cv.load("resnet64-tiny-imagenet"), "stem.0")
    model = network(sweep(8.0, 1.0)[None])
    for wrong in ({"layer": "9"}, {"layer": []}, {"layer": "0", "place": "edge"}):
        with pytest.raises(cv.CnnvisError):
            rank_modulation(model, **wrong)
    for make in (
        lambda: Ripples((0.0, 4.0), (1.0,)),
        lambda: Ripples((4.0, 2.0), (1.0,)),
        lambda: Ripples((4.0,), (-1.0,)),
        lambda: Ripples((4.0,), ()),
        lambda: Ripples((4.0,), (1.0,), 2),
        lambda: Ripples((4.0,), (1.0,), depth_db=0.0),
        lambda: ranked(pd.DataFrame(), "beauty"),
    ):
        with pytest.raises(cv.InputError):
            make()
    assert len(usual_ripples(model)) > 100
