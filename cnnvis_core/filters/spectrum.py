"""The dominant orientation of kernels, by their power spectra."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

SPECTRUM_SIDE = 32  # frequencies a side; kernels are padded with zeros to it
MOST_TAPS = 441  # of a kernel that is transformed by a product; larger ones go through the FFT
UNITS_AT_ONCE = 32  # bounds the memory of a layer's spectra


@dataclass(frozen=True, eq=False)
class Tuning:
    """What kernels are tuned to, by their own weights.

    Attributes
    ----------
    orientation_deg : ndarray (out,)
        Angle of the stripes, counter-clockwise from horizontal, in [0, 180); NaN for kernels
        without any, such as those of one pixel.
    coherence : ndarray (out,)
        0 for all orientations alike, 1 for stripes of one orientation.
    """

    orientation_deg: NDArray[np.float64]
    coherence: NDArray[np.float64]


def spectral_tuning(weight: NDArray[np.float32]) -> Tuning:
    """Dominant orientation by the power spectrum of each kernel, summed over its inputs.

    The direction of every frequency is averaged at twice its angle, weighted by power (Bigun and
    Granlund 1987, in the Fourier domain); a Gaussian window keeps the kernel's straight edges out.

    Parameters
    ----------
    weight : ndarray (out, in, kh, kw)
        Kernels.
    """
    height, width = weight.shape[2:]
    if height * width == 1:
        return Tuning(np.full(len(weight), np.nan), np.zeros(len(weight)))
    rows, cols = (np.arange(n) - (n - 1) / 2 for n in (height, width))
    spread = max(height, width) / 2.5
    window = np.exp(-(rows[:, None] ** 2 + cols**2) / (2 * spread**2))
    side = max(SPECTRUM_SIDE, height, width)
    power = np.concatenate(
        [
            _power(weight[first : first + UNITS_AT_ONCE], window, side)
            for first in range(0, len(weight), UNITS_AT_ONCE)
        ]
    )
    frequency = np.fft.fftfreq(side)
    # Frequencies beyond the Nyquist circle exist along the diagonals alone.
    inside = np.hypot(frequency[:, None], frequency) <= 0.5
    # Rows run downwards, angles upwards.
    direction = np.arctan2(-frequency[:, None], frequency[None])
    total = (power * inside).sum((1, 2))
    vector = (power * inside * np.exp(2j * direction)).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        coherence = np.abs(vector) / total
    across = np.degrees(np.angle(vector)) / 2
    blank = total <= 1e-12 * np.maximum((weight**2).sum((1, 2, 3)), 1e-30)
    return Tuning(
        np.where(blank, np.nan, half_circle(across + 90)),
        np.where(blank, 0.0, np.nan_to_num(coherence)),
    )


def _power(
    weight: NDArray[np.float32], window: NDArray[np.float64], side: int
) -> NDArray[np.float64]:
    """Power spectra (out, side, side) of windowed kernels without their mean, over all inputs."""
    mean = (weight * window).sum((2, 3), keepdims=True) / window.sum()
    taken = (weight - mean) * window
    if window.size > MOST_TAPS:
        power = np.zeros((len(weight), side, side))
        for part in taken.swapaxes(0, 1):  # one input after the other, for the memory's sake
            power += np.abs(np.fft.fft2(part, (side, side))) ** 2
        return power
    taps = taken.reshape(*weight.shape[:2], -1)
    # Inputs are summed before the transform: e* (sum of w w') e is the sum of |w' e|^2.
    gram = np.einsum("oik,oil->okl", taps, taps, optimize=True)
    row, col = np.divmod(np.arange(window.size), window.shape[1])
    frequency = np.fft.fftfreq(side)
    turns = row[:, None, None] * frequency[:, None] + col[:, None, None] * frequency
    waves = np.exp(-2j * np.pi * turns).reshape(window.size, -1)
    return (waves.conj() * (gram @ waves)).sum(1).real.reshape(-1, side, side)


def half_circle(degrees: NDArray[np.float64]) -> NDArray[np.float64]:
    """Angles in [0, 180), also where a rounding below 0 would come out as 180."""
    around = degrees % 180
    return np.where(around >= 180, 0.0, around)
