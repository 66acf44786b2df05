"""Colour scales: diverging for signed values, sequential for the rest.

Both run through lightness, so they survive colour blindness and printing in gray: blue against
orange stays apart under deuteranopia, protanopia and tritanopia alike.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

DIVERGING = ("#08306b", "#2f7fc1", "#f4f2ee", "#e8871e", "#7f2704")
SEQUENTIAL = ("#0b0b14", "#2b2a4c", "#5a4d7c", "#a08aa0", "#e9dccb")
ACCENT = "#0f766e"


def _rgb(colour: str) -> tuple[int, ...]:
    return tuple(int(colour[i : i + 2], 16) for i in (1, 3, 5))


@lru_cache(maxsize=4)
def _table(colours: tuple[str, ...]) -> NDArray[np.uint8]:
    """256 steps (256, 3) through the given colours."""
    stops = np.linspace(0, 1, len(colours))
    channels = np.array([_rgb(c) for c in colours], float).T
    table = np.stack([np.interp(np.linspace(0, 1, 256), stops, c) for c in channels], 1)
    return table.round().astype(np.uint8)


def _look_up(unit: NDArray[np.floating], colours: tuple[str, ...]) -> NDArray[np.uint8]:
    index = np.clip(np.nan_to_num(unit) * 255, 0, 255).round().astype(np.uint8)
    return _table(colours)[index]


def diverging(values: NDArray[np.floating], limit: float) -> NDArray[np.uint8]:
    """Signed values (H, W) as RGB (H, W, 3): blue at ``-limit``, pale at 0, orange at ``limit``."""
    return _look_up(values / (2 * max(limit, 1e-12)) + 0.5, DIVERGING)


def sequential(values: NDArray[np.floating], low: float, high: float) -> NDArray[np.uint8]:
    """Values (H, W) as RGB (H, W, 3): dark at ``low``, light at ``high``."""
    return _look_up((values - low) / max(high - low, 1e-12), SEQUENTIAL)


def symmetric_limit(values: NDArray[np.floating]) -> float:
    """The largest absolute value, for a scale that is centred on zero; never 0."""
    return max(float(np.abs(values).max(initial=0)), 1e-6)
