"""Feature maps as sheets of tiles, and over the input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnvis_core.activations import UnitStatistics
from cnnvis_core.render.pictures import Box, framed, overlay
from cnnvis_core.render.sprites import (
    LARGEST_TILE,
    Sprite,
    largest,
    sheet,
    signed_tiles,
    unsigned_tiles,
)


def map_sheet(
    maps: NDArray[np.float32], common: bool, columns: int | None = None, upwards: bool = False
) -> Sprite:
    """Maps (n, h, w) in their order; all on one scale, or each on its own.

    Signed maps run from blue to orange about zero, maps without a value below zero from dark to
    light. ``upwards`` draws the first row at the bottom, as spectrograms are drawn.
    """
    if upwards:
        maps = maps[:, ::-1]
    limits = largest(maps)
    if common:
        limits = np.full_like(limits, limits.max())
    tiles = unsigned_tiles if is_unsigned(maps) else signed_tiles
    return sheet(tiles(_at_most(maps, LARGEST_TILE), limits), columns)


def is_unsigned(maps: NDArray[np.float32]) -> bool:
    """Whether no value is below zero, as behind a ReLU."""
    return float(maps.min()) >= 0


def _at_most(maps: NDArray[np.float32], side: int) -> NDArray[np.float32]:
    """Maps with every so many positions averaged, so that no side is longer than ``side``."""
    step = -(-max(maps.shape[1:]) // side)
    if step == 1:
        return maps
    rows, cols = (-(-length // step) for length in maps.shape[1:])
    padding = ((0, 0), *((0, n * step - m) for n, m in zip((rows, cols), maps.shape[1:])))  # noqa: B905
    whole = np.pad(maps, padding, mode="edge")
    return whole.reshape(len(maps), rows, step, cols, step).mean((2, 4))


def map_names(found: UnitStatistics, order: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """What to say of each map."""
    return [
        f"Unit {unit}: maximum {found.maximum[unit]:.3g}, mean {found.mean[unit]:.3g}, "
        f"active at {found.active_share[unit]:.0%}"
        for unit in order
    ]


def seen_box(box: tuple[int, int, int, int], extent: tuple[int, int], crop: Box) -> Box:
    """A box (top, left, bottom, right) of the input in pixels of the picture.

    Parameters
    ----------
    box : tuple
        In input pixels.
    extent : tuple of int
        Height and width of the input.
    crop : tuple
        (left, top, right, bottom) of what the network sees, in pixels of the picture.
    """
    left, top, right, bottom = crop
    down, across = (bottom - top) / extent[0], (right - left) / extent[1]
    rows = [top + down * min(max(edge, 0), extent[0]) for edge in (box[0], box[2])]
    cols = [left + across * min(max(edge, 0), extent[1]) for edge in (box[1], box[3])]
    return cols[0], rows[0], cols[1], rows[1]


def map_over(
    picture: Image.Image,
    heat: NDArray[np.float32],
    crop: Box,
    frame: tuple[int, int, int, int] | None,
    opacity: float,
    side: int,
) -> Image.Image:
    """A map (H, W) over the picture, with a frame (top, left, bottom, right) in input pixels."""
    limit = max(float(np.abs(heat).max()), 1e-12)
    drawn = overlay(picture, heat, crop, limit, opacity, side)
    if frame is None:
        return drawn
    scale = side / max(picture.size)
    left, top, right, bottom = (edge * scale for edge in seen_box(frame, heat.shape[:2], crop))
    return framed(drawn, (left, top, right, bottom))
