"""Indices of tuning, as visual neuroscience defines them, of responses to gratings.

All functions take responses of any units at once: the first axis counts the units.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


def selectivity(curves: Values, angles_deg: Values, period: float = 180.0) -> Values:
    """1 - circular variance of tuning curves (U, O): ``|sum R e^(2 i theta)| / sum R``, 0 to 1.

    D. L. Ringach, R. M. Shapley and M. J. Hawken, "Orientation selectivity in macaque V1:
    diversity and laminar dependence", J. Neurosci. 2002; M. Mazurek, M. Kager and S. D. Van Hooser,
    Front. Neural Circuits 2014. NaN where nothing is above 0.
    """
    return np.abs(_vector(curves, angles_deg, period))


def preferred(curves: Values, angles_deg: Values, period: float = 180.0) -> Values:
    """Direction of the vector average of tuning curves (U, O), in [0, period).

    For orientations, of period 180, the average is taken at twice the angle.
    """
    vector = _vector(curves, angles_deg, period)
    angle = np.degrees(np.angle(vector)) * period / 360
    around = angle % period
    # A rounding below 0 comes out as the period itself.
    return np.where(np.isnan(vector), np.nan, np.where(around >= period, 0.0, around))


def _vector(curves: Values, angles_deg: Values, period: float) -> NDArray[np.complex128]:
    angles = np.asarray(angles_deg, float)
    gaps = np.diff(angles, append=angles[:1] + period)
    # Angles that are not equally spaced stand for as much of the circle as lies around them.
    positive = np.maximum(curves, 0) * (gaps + np.roll(gaps, 1)) / 2
    total = positive.sum(1)
    turn = np.exp(2j * np.pi * angles / period)
    with np.errstate(invalid="ignore", divide="ignore"):
        found: NDArray[np.complex128] = (positive @ turn) / total
    return np.where(total > 0, found, np.nan)


def at_angle(curves: Values, angles_deg: Values, wanted: Values, period: float = 180.0) -> Values:
    """Tuning curves (U, O) at an angle (U,) each, interpolated around the circle."""
    angles = np.asarray(angles_deg, float)
    around = np.concatenate([angles, angles[:1] + period])
    closed = np.concatenate([curves, curves[:, :1]], 1)
    found = [
        np.interp((angle - angles[0]) % period + angles[0], around, curve)
        if np.isfinite(angle)
        else np.nan
        for curve, angle in zip(closed, wanted, strict=True)
    ]
    return np.array(found)


def orthogonal_to_preferred(curves: Values, angles_deg: Values, best: Values) -> Values:
    """Response at a right angle to the preferred one over that at the preferred one (U,)."""
    peak = at_angle(curves, angles_deg, best)
    across = at_angle(curves, angles_deg, (best + 90) % 180)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(peak > 0, np.maximum(across, 0) / peak, np.nan)


def half_width(curves: Values, angles_deg: Values) -> Values:
    """Half width at half height (U,) in degrees: from the peak to half of it, mean of both sides.

    NaN where a curve does not fall to half of its peak on both sides.
    """
    angles = np.asarray(angles_deg, float)
    count = len(angles)
    top = curves.argmax(1)
    away = np.arange(count + 1)
    each = np.arange(len(curves))
    sides = []
    for sign in (1, -1):
        at = (top[:, None] + sign * away) % count
        degrees = (sign * (angles[at] - angles[top][:, None])) % 180
        degrees[:, -1] = 180
        values = np.take_along_axis(curves, at, 1)
        half = values[:, 0] / 2
        below = values <= half[:, None]
        after = np.maximum(below.argmax(1), 1)
        before = values[each, after - 1]
        with np.errstate(invalid="ignore", divide="ignore"):
            share = (before - half) / (before - values[each, after])
        start = degrees[each, after - 1]
        width = start + share * (degrees[each, after] - start)
        sides.append(np.where(below.any(1) & (half > 0), width, np.nan))
    return np.mean(sides, 0)


def peak_place(values: Values, axis: Values) -> Values:
    """Where curves (U, F) over an ascending axis (F,) are highest, between its points.

    A Gaussian through the highest point and its neighbours, which is exact for a Gabor kernel under
    gratings of its own orientation; the highest point itself at either end.
    """
    axis = np.asarray(axis, float)
    if len(axis) < 3:
        return axis[values.argmax(1)]
    top = values.argmax(1)
    middle = np.clip(top, 1, len(axis) - 2)
    units = np.arange(len(values))
    x = np.stack([axis[middle + k] for k in (-1, 0, 1)], 1)
    with np.errstate(invalid="ignore", divide="ignore"):
        y = np.log(np.stack([values[units, middle + k] for k in (-1, 0, 1)], 1))
        # Vertex of the parabola through three points.
        d01, d12 = (
            (y[:, 1] - y[:, 0]) / (x[:, 1] - x[:, 0]),
            (y[:, 2] - y[:, 1]) / (x[:, 2] - x[:, 1]),
        )
        bend = (d12 - d01) / (x[:, 2] - x[:, 0])
        vertex = (x[:, 0] + x[:, 1]) / 2 - d01 / (2 * bend)
    inside = (top == middle) & np.isfinite(vertex) & (bend < 0)
    return np.where(inside, np.clip(vertex, x[:, 0], x[:, 2]), axis[top])


def agreement(a_deg: Values, b_deg: Values, period: float = 180.0) -> Values:
    """Smallest angle between orientations, 0 to half the period; NaN where either is."""
    apart = np.abs(np.asarray(a_deg) - np.asarray(b_deg)) % period
    return np.minimum(apart, period - apart)


def ascending(key: Values) -> NDArray[np.int64]:
    """Indices of values from low to high, NaN last."""
    return np.argsort(np.where(np.isnan(key), np.inf, key), kind="stable").astype(np.int64)
