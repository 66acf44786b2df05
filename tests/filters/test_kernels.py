"""Kernels are the layer's weights, and what is said of them is true."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.filters import by_similarity, has_kernels, spectral_tuning
from cnnvis_core.filters.spectrum import _power
from cnnvis_core.network import reads_input
from tests.support import small_network


def gabor(angle: float, size: int, period: float, phase: float = 0.0) -> np.ndarray:
    """Stripes at an angle, counter-clockwise from horizontal, under a Gaussian."""
    rows, cols = np.mgrid[:size, :size] - (size - 1) / 2
    turn = np.radians(angle)
    # The stripes run along (cos, sin) with rows pointing down; the wave runs across.
    across = cols * np.sin(turn) + rows * np.cos(turn)
    window = np.exp(-(rows**2 + cols**2) / (2 * (size / 4) ** 2))
    return (window * np.cos(2 * np.pi * across / period + phase)).astype(np.float32)


def apart(a: float, b: float) -> float:
    return min((a - b) % 180, (b - a) % 180)


@pytest.mark.parametrize(("size", "period"), [(11, 5.0), (7, 4.0), (5, 3.0)])
@pytest.mark.parametrize("phase", [0.0, np.pi / 2])
def test_stripes_are_found_at_their_angle(size, period, phase):
    angles = np.arange(0, 180, 7.5)
    kernels = np.stack([gabor(angle, size, period, phase) for angle in angles])[:, None]
    found = spectral_tuning(kernels)
    errors = [apart(a, b) for a, b in zip(found.orientation_deg, angles, strict=True)]
    assert max(errors) < (3 if size > 5 else 8)
    assert found.coherence.min() > 0.6


def test_horizontal_stripes_are_at_zero_and_vertical_ones_at_ninety():
    rows = np.zeros((2, 1, 7, 7), np.float32)
    rows[0, 0, 2:5] = np.array([-1, 2, -1])[:, None]
    rows[1, 0, :, 2:5] = np.array([-1, 2, -1])
    found = spectral_tuning(rows).orientation_deg
    assert apart(found[0], 0) < 1e-6
    assert apart(found[1], 90) < 1e-6


def test_what_has_no_stripes_gets_no_angle():
    flat = np.zeros((3, 2, 3, 3), np.float32)
    flat[1] = 1.0
    assert np.isnan(spectral_tuning(flat).orientation_deg[:2]).all()
    assert np.isnan(spectral_tuning(np.ones((4, 8, 1, 1), np.float32)).orientation_deg).all()
    rows, cols = np.mgrid[-5:6, -5:6]
    round_ = np.exp(-(rows**2 + cols**2) / 4.0).astype(np.float32)[None, None]
    assert spectral_tuning(round_).coherence[0] < 0.05


def test_only_kernels_on_the_input_itself_are_said_to_read_it():
    net = nn.Sequential(
        nn.Conv2d(3, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    model = cv.from_module(net, (3, 16, 16))
    assert [cv.filters(model, name).three_inputs for name in ("0", "2")] == [True, True]
    assert [reads_input(model, name) for name in ("0", "2")] == [True, False]
    inception = cv.from_module(zoo.googlenet(weights=None, init_weights=False), (3, 64, 64))
    assert reads_input(inception, "conv1.conv")
    assert not reads_input(inception, "conv2.conv")


def wrap(layer: nn.Module, channels: int = 6) -> cv.Model:
    net = nn.Sequential(layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(3))
    net(torch.zeros(1, channels, 16, 16))
    return cv.from_module(net, (channels, 16, 16))


@pytest.mark.parametrize(
    ("layer", "kind", "shape", "reads"),
    [
        (nn.Conv2d(6, 8, (3, 5)), "dense", (8, 6, 3, 5), [0, 1, 2, 3, 4, 5]),
        (nn.Conv2d(6, 12, 3, groups=6), "depthwise", (12, 1, 3, 3), [2]),
        (nn.Conv2d(6, 9, 3, groups=3), "grouped", (9, 2, 3, 3), [2, 3]),
        (nn.ConvTranspose2d(6, 9, 3, groups=3), "grouped", (9, 2, 3, 3), [2, 3]),
    ],
)
def test_each_kernel_is_what_makes_its_unit(layer, kind, shape, reads):
    model = wrap(layer)
    kernels = cv.filters(model, "0")
    assert (kernels.kind, tuple(kernels.weight.shape)) == (kind, shape)
    unit = 5
    assert list(kernels.reads(unit)) == reads
    # A point of light on one input draws the kernel's slice on that input, and nothing on others.
    for slot, number in enumerate(kernels.reads(unit)):
        x = torch.zeros(1, 6, 16, 16)
        x[0, number, 8, 8] = 1.0
        bias = model.module[0].bias[unit]
        drawn = cv.feature_maps(model, x, "0")["0"][unit] - bias
        height, width = kernels.size
        near = drawn[8 : 8 + height, 8 : 8 + width]
        if not kernels.transposed:
            near = drawn[8 - height + 1 : 9, 8 - width + 1 : 9].flip(0, 1)
        torch.testing.assert_close(near, kernels.weight[unit, slot])
    others = [n for n in range(6) if n not in reads]
    if others:
        x = torch.zeros(1, 6, 16, 16)
        x[0, others] = 1.0
        assert (
            cv.feature_maps(model, x, "0")["0"][unit] - model.module[0].bias[unit]
        ).abs().max() < 1e-6


def test_dead_kernels_are_marked_and_the_copy_is_one_s_own():
    model = cv.from_module(small_network(), (3, 32, 32))
    with torch.no_grad():
        model.module[0].weight[3] = 1e-9
    kernels = cv.filters(model, "0")
    assert np.flatnonzero(kernels.dead).tolist() == [3]
    assert kernels.order("norm")[-1] == 3
    kernels.weight.zero_()
    assert model.module[0].weight.abs().max() > 0


def test_kernels_may_be_dead_by_the_majority():
    model = cv.from_module(small_network(), (3, 32, 32))
    with torch.no_grad():
        model.module[0].weight[:5] *= 1e-9
    assert cv.filters(model, "0").dead.tolist() == [True] * 5 + [False] * 3


def test_spectra_are_those_of_the_fourier_transform():
    weight = np.random.default_rng(0).normal(size=(3, 4, 5, 3)).astype(np.float32)
    window = np.random.default_rng(1).random((5, 3))
    mean = (weight * window).sum((2, 3), keepdims=True) / window.sum()
    plain = (np.abs(np.fft.fft2((weight - mean) * window, (16, 16))) ** 2).sum(1)
    np.testing.assert_allclose(_power(weight, window, 16), plain, atol=1e-9)


def test_orders_are_permutations_that_do_what_they_say():
    model = cv.from_module(small_network(), (3, 32, 32))
    kernels = cv.filters(model, "2")
    for by in ("index", "norm", "orientation", "similarity"):
        assert sorted(kernels.order(by)) == list(range(12))
    assert (np.diff(kernels.norms[kernels.order("norm")]) <= 0).all()
    assert (np.diff(kernels.tuning.orientation_deg[kernels.order("orientation")]) >= 0).all()


def test_like_stands_beside_like():
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(3, 40))
    rows = np.concatenate([kinds + 0.05 * rng.normal(size=kinds.shape) for _ in range(4)])
    groups = by_similarity(rows.astype(np.float32)) % 3
    assert (np.diff(groups) != 0).sum() == 2


def test_layers_without_kernels_are_refused():
    model = cv.from_module(small_network(), (3, 32, 32))
    assert [has_kernels(model, layer.name) for layer in model.layers[:3]] == [True, False, True]
    with pytest.raises(cv.ModelError, match="no kernels"):
        cv.filters(model, "1")
    with pytest.raises(cv.ModelError, match="no layer named"):
        cv.filters(model, "99")


def test_large_kernels_have_the_spectra_of_small_ones_in_a_wider_frame():
    # Two ways to one spectrum: by a product, and by the fast transform.
    from cnnvis_core.filters import spectrum

    rng = np.random.default_rng(0)
    weight = rng.normal(size=(3, 2, 21, 21)).astype(np.float32)
    rows, cols = np.mgrid[:21, :21] - 10
    window = np.exp(-(rows**2 + cols**2) / 60.0)
    by_product = spectrum._power(weight, window, 32)
    framed = np.zeros((3, 2, 23, 23), np.float32)
    framed[:, :, 1:-1, 1:-1] = weight
    around = np.zeros((23, 23))
    around[1:-1, 1:-1] = window
    np.testing.assert_allclose(
        spectrum._power(framed, around, 32), by_product, rtol=1e-4, atol=1e-9
    )


@pytest.mark.parametrize("angle", [0, 30, 75, 120])
def test_stripes_of_a_whole_picture_have_their_angle(angle):
    rows, cols = np.mgrid[:64, :64]
    turn = np.radians(angle)
    # Stripes lie along the angle, counter-clockwise; rows run downwards.
    across = np.sin(turn) * cols + np.cos(turn) * rows
    stripes = np.sin(2 * np.pi * across / 8)[None, None].astype(np.float32)
    found = spectral_tuning(stripes)
    apart = abs((found.orientation_deg[0] - angle + 90) % 180 - 90)
    assert apart < 1
    assert found.coherence[0] > 0.9
