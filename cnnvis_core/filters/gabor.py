"""Gabor functions fitted to kernels, as to the receptive fields of simple cells."""

from __future__ import annotations

import itertools
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.filters.spectrum import half_circle
from cnnvis_core.jobs import Job, Step, run

SMALLEST = 5  # pixels a side; a fit to fewer says nothing
STARTS = 2  # best places of a coarse grid from which each fit sets out
GRID_ANGLES = 12
GRID_FREQUENCIES = (0.04, 0.08, 0.13, 0.2, 0.3)
GRID_WIDTHS = (0.15, 0.3)  # of the kernel's side
ROUNDS = 60  # evaluations of a fit

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GaborFits:
    """Gabor functions fitted to kernels, a value a kernel.

    Attributes
    ----------
    orientation_deg : ndarray (out,)
        Angle of the stripes, counter-clockwise from horizontal, in [0, 180).
    frequency : ndarray (out,)
        Cycles a pixel; near 0 for blobs, which have no angle.
    sd_across, sd_along : ndarray (out,)
        Standard deviations of the Gaussian across the stripes and along them, in pixels.
    residual : ndarray (out,)
        Share of the kernel's energy that is not in the fit, 0 to 1; NaN for kernels of zeros, or of
        what is no number.
    fitted : ndarray (out, in, kh, kw)
        The functions themselves.
    """

    orientation_deg: Values
    frequency: Values
    sd_across: Values
    sd_along: Values
    residual: Values
    fitted: Values


def can_fit(weight: NDArray[np.float32]) -> bool:
    """Whether kernels (out, in, kh, kw) have pixels enough for a Gabor function."""
    return bool(min(weight.shape[2:]) >= SMALLEST)


def fit_gabors(weight: NDArray[np.float32]) -> GaborFits:
    """Fit a Gabor function to each kernel; see `fitting`."""
    return run(fitting(weight))


def fitting(weight: NDArray[np.float32]) -> Job[GaborFits, None]:
    """Fit a Gabor function to each kernel by least squares.

    Gaussian and wave are one for all inputs of a kernel, strength and phase each input's own; these
    follow from the rest in closed form (variable projection: G. H. Golub and V. Pereyra, 1973).
    After J. P. Jones and L. A. Palmer, "An evaluation of the two-dimensional Gabor filter model of
    simple receptive fields in cat striate cortex", J. Neurophysiol. 1987.

    Parameters
    ----------
    weight : ndarray (out, in, kh, kw)
        Kernels of 5 by 5 pixels or more.
    """
    return Job(_fitting(weight))


def _fitting(weight: NDArray[np.float32]) -> Generator[Step[None], None, GaborFits]:
    from scipy.optimize import least_squares

    height, width = weight.shape[2:]
    rows, cols = (axis.ravel() for axis in np.mgrid[:height, :width].astype(float))
    axes = rows - (height - 1) / 2, cols - (width - 1) / 2
    side = float(max(height, width))
    starts = _grid(side)
    bases = [np.linalg.qr(_waves(start, axes))[0] for start in starts]
    low = [-height / 2, -width / 2, 0.5, 0.5, -np.inf, 0.0]
    high = [height / 2, width / 2, side, side, np.inf, 0.5]
    found = []
    for kernel in weight.reshape(*weight.shape[:2], -1).astype(float):
        energy = float((kernel**2).sum())
        if energy == 0 or not np.isfinite(energy):
            found.append((np.full(6, np.nan), np.nan, np.zeros_like(kernel)))
            yield Step(len(found), len(weight))
            continue
        values = kernel.T / np.sqrt(energy)
        explained = [float(((basis.T @ values) ** 2).sum()) for basis in bases]

        def left(parameters: Values, values: Values = values) -> Values:
            rest: Values = (values - _projected(parameters, axes, values)).ravel()
            return rest

        tries = [
            least_squares(left, starts[index], bounds=(low, high), max_nfev=ROUNDS)
            for index in np.argsort(explained)[::-1][:STARTS]
        ]
        best = min(tries, key=lambda one: float(one.cost))
        fitted = _projected(best.x, axes, values).T * np.sqrt(energy)
        found.append((best.x, 2 * float(best.cost), fitted))
        yield Step(len(found), len(weight))
    parameters = np.array([one[0] for one in found])
    return GaborFits(
        half_circle(np.degrees(parameters[:, 4])),
        parameters[:, 5],
        parameters[:, 2],
        parameters[:, 3],
        np.array([one[1] for one in found]),
        np.array([one[2] for one in found]).reshape(weight.shape),
    )


def _grid(side: float) -> list[Values]:
    """Row, column, deviations across and along, angle and frequency to set out from."""
    angles = np.arange(GRID_ANGLES) * np.pi / GRID_ANGLES
    return [
        np.array([0.0, 0.0, wide * side, wide * side, angle, frequency])
        for angle, frequency, wide in itertools.product(angles, GRID_FREQUENCIES, GRID_WIDTHS)
    ]


def _waves(parameters: Values, axes: tuple[Values, Values]) -> Values:
    """Even and odd Gabor function (pixels, 2)."""
    row, col, across_sd, along_sd, angle, frequency = parameters
    down, right = axes[0] - row, axes[1] - col
    # Rows run downwards, angles upwards.
    across = right * np.sin(angle) + down * np.cos(angle)
    along = right * np.cos(angle) - down * np.sin(angle)
    bell = np.exp(-((across / across_sd) ** 2 + (along / along_sd) ** 2) / 2)
    turn = 2 * np.pi * frequency * across
    return np.stack([bell * np.cos(turn), bell * np.sin(turn)], 1)


def _projected(parameters: Values, axes: tuple[Values, Values], values: Values) -> Values:
    """The part of values (pixels, in) that even and odd function make up."""
    waves = _waves(parameters, axes)
    # The odd function of a blob is all but zero; a little damping keeps it out.
    gram = waves.T @ waves + 1e-9 * np.eye(2)
    found: Values = waves @ np.linalg.solve(gram, waves.T @ values)
    return found
