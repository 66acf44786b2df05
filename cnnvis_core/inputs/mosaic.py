"""A test picture made of four: a map of each one's class belongs into its own quarter."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageOps

from cnnvis_core.errors import InputError

QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))  # row and column of each picture


def mosaic(pictures: Sequence[Image.Image], side: int = 512) -> Image.Image:
    """Four pictures in the quarters of a square one, each cut to its own middle.

    Parameters
    ----------
    pictures : sequence of PIL images
        Top left, top right, bottom left, bottom right.
    side : int
        Pixels a side of the result.

    Raises
    ------
    InputError
        If they are not four.
    """
    if len(pictures) != len(QUARTERS):
        raise InputError(f"A mosaic is made of four pictures, not {len(pictures)}.")
    half = side // 2
    out = Image.new("RGB", (2 * half, 2 * half))
    for (row, col), picture in zip(QUARTERS, pictures, strict=True):
        part = ImageOps.fit(picture.convert("RGB"), (half, half), Image.Resampling.BICUBIC)
        out.paste(part, (col * half, row * half))
    return out
