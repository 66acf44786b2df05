"""Indices of tuning against curves whose indices are known."""

from __future__ import annotations

import numpy as np
import pytest

from cnnvis_core.orientation import tuning
from cnnvis_core.orientation.gratings import Gratings
from cnnvis_core.orientation.responses import rounds

ANGLES = np.arange(0, 180, 5.0)


def bell(centre: float, width: float) -> np.ndarray:
    away = (ANGLES - centre + 90) % 180 - 90
    return np.exp(-(away**2) / (2 * width**2))


def test_selectivity_of_known_curves():
    flat, wave = np.ones(36), 1 + np.cos(2 * np.radians(ANGLES - 60))
    spike = np.where(ANGLES == 35, 2.0, 0.0)
    curves = np.stack([flat, wave, spike, np.zeros(36)])
    found = tuning.selectivity(curves, ANGLES)
    np.testing.assert_allclose(found[:3], [0, 0.5, 1], atol=1e-12)
    assert np.isnan(found[3])
    np.testing.assert_allclose(tuning.preferred(curves[1:3], ANGLES), [60, 35])
    np.testing.assert_allclose(
        tuning.orthogonal_to_preferred(curves[1:3], ANGLES, np.array([60.0, 35.0])), 0, atol=1e-12
    )


@pytest.mark.parametrize("centre", [0.0, 42.0, 90.0, 178.0])
def test_the_preferred_angle_does_not_care_where_the_circle_begins(centre):
    curve = bell(centre, 20.0)[None]
    assert tuning.agreement(tuning.preferred(curve, ANGLES), np.array([centre]))[0] < 0.01


@pytest.mark.parametrize("centre", [0.0, 45.0, 175.0])
@pytest.mark.parametrize("width", [8.0, 15.0, 25.0])
def test_half_the_width_at_half_the_height(centre, width):
    found = tuning.half_width(bell(centre, width)[None], ANGLES)[0]
    assert found == pytest.approx(width * np.sqrt(2 * np.log(2)), abs=0.6)


def test_what_never_falls_to_half_has_no_width():
    shallow = 1 + 0.1 * np.cos(2 * np.radians(ANGLES))
    assert np.isnan(tuning.half_width(np.stack([shallow, np.zeros(36)]), ANGLES)).all()


def test_the_peak_of_a_bell_is_found_between_its_points():
    axis = 0.05 * 2 ** (np.arange(8) / 2)
    centres = np.array([0.08, 0.13, 0.3])
    curves = np.exp(-((axis - centres[:, None]) ** 2) / (2 * 0.05**2))
    np.testing.assert_allclose(tuning.peak_place(curves, axis), centres, rtol=1e-6)
    rising = np.arange(8.0)[None]
    assert tuning.peak_place(rising, axis)[0] == axis[-1]


def test_angles_are_compared_around_the_circle():
    found = tuning.agreement([1.0, 10.0, 90.0, np.nan], [179.0, 20.0, 0.0, 5.0])
    np.testing.assert_allclose(found[:3], [2, 10, 90])
    assert np.isnan(found[3])


@pytest.mark.parametrize("count", [4, 7, 12, 36, 45, 180])
def test_after_each_round_all_are_equally_spaced(count):
    so_far: list[int] = []
    for part in rounds(count):
        so_far = sorted(so_far + part)
        assert len(set(np.diff([*so_far, so_far[0] + count]))) == 1
        assert len(so_far) >= 4
    assert so_far == list(range(count))
    assert [len(part) for part in rounds(36)] == [4, 8, 24]


def test_gratings_stand_at_their_angle_and_frequency():
    gratings = Gratings((0.0, 30.0, 90.0, 120.0), (0.125,), 4, contrast=0.6)
    cells = [(o, 0, p) for o in range(4) for p in range(2)]
    pictures = gratings.draw((64, 64), 3, cells).numpy()
    assert 0.199 < pictures.min() < 0.21
    assert 0.79 < pictures.max() < 0.801
    np.testing.assert_array_equal(pictures[:, 0], pictures[:, 2])
    assert np.ptp(pictures[0, 0], axis=1).max() < 1e-6  # lying stripes: rows are even
    assert np.ptp(pictures[4, 0], axis=0).max() < 1e-6  # standing ones: columns are
    spectrum = np.abs(np.fft.fft2(pictures[2, 0] - 0.5, (512, 512)))[:256]
    row, col = np.unravel_index(spectrum.argmax(), spectrum.shape)
    frequency = np.fft.fftfreq(512)
    fy, fx = frequency[row], frequency[col]
    assert np.hypot(fy, fx) == pytest.approx(0.125, abs=0.003)
    # Rows run downwards; the wave runs across the stripes.
    assert np.degrees(np.arctan2(-fy, fx)) % 180 == pytest.approx(120, abs=2)
    quarter = gratings.draw((64, 64), 1, [(0, 0, 0), (0, 0, 2)]).numpy()
    np.testing.assert_allclose(quarter.sum(0), 1.0, atol=1e-6)  # half a cycle apart
    red, green, blue = gratings.draw((8, 8), 3, [(0, 0, 0)], "red-green").numpy()[0]
    np.testing.assert_allclose(red + green, 1.0, atol=1e-6)
    np.testing.assert_allclose(blue, 0.5)


def test_a_window_leaves_gray_around_it():
    seen = Gratings((0.0, 45.0, 90.0, 135.0), (0.2,), 4, diameter=20.0)
    picture = seen.draw((64, 64), 1, [(1, 0, 0)]).numpy()[0, 0]
    assert np.ptp(picture[:20]) == 0
    assert np.ptp(picture[25:39, 25:39]) > 0.9


def test_a_curve_about_0_degrees_prefers_0_and_not_180():
    found = tuning.preferred(np.stack([bell(0.0, width) for width in range(5, 60, 2)]), ANGLES)
    assert (found < 180).all()
    assert np.minimum(found, 180 - found).max() < 1e-6
