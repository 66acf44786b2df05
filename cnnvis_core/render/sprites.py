"""Many small pictures on one sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from cnnvis_core.render.colour import diverging, sequential

LARGEST_TILE = 128  # pixels; larger maps are shrunk
SMALLEST_TILE = 36  # pixels; smaller ones are enlarged, each value a square
GAP = 2  # pixels, transparent
CROSS = (192, 57, 43, 255)
SHAPE = 1.8  # width of a sheet to its height

Tiles = NDArray[np.uint8]
Values = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Sprite:
    """A sheet of tiles, row by row.

    Attributes
    ----------
    picture : PIL image
        RGBA; what lies between the tiles is transparent.
    count : int
        Number of tiles.
    columns : int
        Tiles a row.
    """

    picture: Image.Image
    count: int
    columns: int

    @property
    def rows(self) -> int:
        """Rows of tiles; the last one may be short."""
        return -(-self.count // self.columns)

    def box(self, index: int) -> tuple[int, int, int, int]:
        """(left, top, right, bottom) of a tile in the picture."""
        row, col = divmod(index, self.columns)
        width = (self.picture.width + GAP) // self.columns
        height = (self.picture.height + GAP) // self.rows
        return col * width, row * height, (col + 1) * width - GAP, (row + 1) * height - GAP

    def tile(self, index: int) -> Image.Image:
        """One tile as an RGB picture."""
        return self.picture.crop(self.box(index)).convert("RGB")

    def crossed(self, indices: Iterable[int]) -> Sprite:
        """The sheet with a cross on some tiles."""
        picture = self.picture.copy()
        draw = ImageDraw.Draw(picture)
        for index in indices:
            left, top, right, bottom = self.box(index)
            draw.line((left, top, right - 1, bottom - 1), CROSS, 2)
            draw.line((left, bottom - 1, right - 1, top), CROSS, 2)
        return Sprite(picture, self.count, self.columns)


def signed_tiles(values: Values, limits: Values) -> Tiles:
    """Signed values (n, h, w) as RGB (n, h, w, 3), each tile on its own limit (n,)."""
    unit = values / np.maximum(limits, 1e-12)[:, None, None]
    return diverging(unit, 1.0)


def unsigned_tiles(values: Values, limits: Values) -> Tiles:
    """Values (n, h, w) that are never below 0 as RGB (n, h, w, 3), each tile on its own limit."""
    return sequential(values / np.maximum(limits, 1e-12)[:, None, None], 0.0, 1.0)


def colour_tiles(values: Values, limits: Values) -> Tiles:
    """Weights of red, green and blue (n, 3, h, w) as RGB (n, h, w, 3); zero is middle gray."""
    unit = values / np.maximum(limits, 1e-12)[:, None, None, None]
    return (np.clip(unit / 2 + 0.5, 0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)


def sheet(tiles: Tiles, columns: int | None = None) -> Sprite:
    """Lay tiles (n, h, w, 3) on a sheet that is wider than high, at a size that can be seen.

    Parameters
    ----------
    tiles : ndarray of uint8
        At least one.
    columns : int, optional
        Tiles a row.
    """
    count, height, width = tiles.shape[:3]
    factor = max(1, math.ceil(SMALLEST_TILE / max(height, width)))
    tiles = tiles.repeat(factor, 1).repeat(factor, 2)
    height, width = height * factor, width * factor
    if columns is None:
        columns = math.ceil(math.sqrt(SHAPE * count * height / width))
    columns = max(1, min(columns, count))
    rows = -(-count // columns)
    canvas = np.zeros((rows, height + GAP, columns, width + GAP, 4), np.uint8)
    flat = canvas.transpose(0, 2, 1, 3, 4)
    for index in range(count):
        place = flat[index // columns, index % columns, :height, :width]
        place[..., :3] = tiles[index]
        place[..., 3] = 255
    pixels = canvas.reshape(rows * (height + GAP), columns * (width + GAP), 4)
    return Sprite(Image.fromarray(pixels[:-GAP, :-GAP], "RGBA"), count, columns)


def largest(values: Values) -> Values:
    """Largest absolute value of each (n, ...), for a scale about zero; never 0."""
    return np.maximum(np.abs(values).reshape(len(values), -1).max(1), 1e-12)
