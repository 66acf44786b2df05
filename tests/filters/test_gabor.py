"""Planted Gabor functions are found again, and noise is not taken for one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cnnvis_core as cv
from cnnvis_core.filters import can_fit, fit_gabors, on_brightness, spectral_tuning
from tests.support import small_network

SIDE = 11
rows, cols = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2


def gabor(angle: float, frequency: float, phase: float, sd: tuple[float, float], at=(0.0, 0.0)):
    turn = np.radians(angle)
    down, right = rows - at[0], cols - at[1]
    across = right * np.sin(turn) + down * np.cos(turn)
    along = right * np.cos(turn) - down * np.sin(turn)
    bell = np.exp(-((across / sd[0]) ** 2 + (along / sd[1]) ** 2) / 2)
    return bell * np.cos(2 * np.pi * frequency * across + phase)


def test_planted_functions_are_found():
    rng = np.random.default_rng(0)
    angles, frequencies = rng.uniform(0, 180, 24), rng.uniform(0.12, 0.3, 24)
    widths = rng.uniform(1.5, 2.5, (24, 2))
    colours = rng.normal(size=(24, 3))
    phases = rng.uniform(0, 6, (24, 3))  # each channel has its own
    kernels = np.stack(
        [
            np.stack([c * gabor(a, f, p, w, (0.7, -0.4)) for c, p in zip(cs, ps, strict=True)])
            for a, f, w, cs, ps in zip(angles, frequencies, widths, colours, phases, strict=True)
        ]
    )
    found = fit_gabors(kernels.astype(np.float32))
    apart = np.abs(found.orientation_deg - angles) % 180
    assert np.minimum(apart, 180 - apart).max() < 0.5
    np.testing.assert_allclose(found.frequency, frequencies, rtol=0.02)
    np.testing.assert_allclose(found.sd_across, widths[:, 0], rtol=0.05)
    np.testing.assert_allclose(found.sd_along, widths[:, 1], rtol=0.05)
    assert found.residual.max() < 1e-4
    np.testing.assert_allclose(found.fitted, kernels, atol=0.02 * np.abs(kernels).max())


def test_the_residual_is_the_share_that_was_added():
    kernel = gabor(30.0, 0.2, 0.3, (2.0, 2.0))
    noise = np.random.default_rng(1).normal(size=kernel.shape)
    noise *= np.sqrt(0.25 * (kernel**2).sum() / (noise**2).sum())
    residual = fit_gabors((kernel + noise)[None, None].astype(np.float32)).residual[0]
    assert residual == pytest.approx(0.2, abs=0.04)


def test_noise_is_no_gabor_function_and_nothing_has_no_fit():
    noise = np.random.default_rng(2).normal(size=(12, 1, SIDE, SIDE)).astype(np.float32)
    assert fit_gabors(noise).residual.min() > 0.4
    nothing = fit_gabors(np.zeros((1, 3, SIDE, SIDE), np.float32))
    assert np.isnan(nothing.residual[0])
    assert not nothing.fitted.any()
    assert can_fit(noise)
    assert not can_fit(noise[:, :, :3, :3])


def test_a_blob_is_fitted_without_stripes():
    blob = gabor(0.0, 0.0, 0.0, (1.8, 1.8))[None, None].astype(np.float32)
    found = fit_gabors(blob)
    assert found.residual[0] < 1e-3
    assert found.frequency[0] < 0.08


def test_brightness_is_what_the_network_is_given_of_a_gray_step():
    model = cv.from_module(small_network(), (3, 32, 32), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
    kernels = cv.filters(model, "0")
    found = on_brightness(model, kernels)
    grays = model.frontend.normalise(torch.stack([torch.zeros(3, 3, 3), torch.ones(3, 3, 3)]))
    expected = (kernels.weight * (grays[1] - grays[0])).sum(1).numpy()
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-4, atol=1e-6)
    assert spectral_tuning(found).orientation_deg.shape == (8,)
    with pytest.raises(cv.ModelError, match="the picture itself"):
        on_brightness(model, cv.filters(model, "2"))
