"""Exemplars as pictures: crops, the pictures that they come from, what classes they are of."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from cnnvis_core.render.colour import ACCENT
from cnnvis_core.render.pictures import framed
from cnnvis_core.render.sprites import Sprite, sheet

TILE = 64  # pixels of a crop on a sheet
EMPTY = (120, 120, 120)
SMALLEST = 3  # pixels of a crop's side in the original

Crop = tuple[float, float, float, float]


def crop(picture: Image.Image, box: Crop, side: int) -> Image.Image:
    """A part (left, top, right, bottom) of a picture, fitted into a square of ``side`` pixels."""
    left, top, right, bottom = box
    across, down = max(right - left, SMALLEST), max(bottom - top, SMALLEST)
    left, top = min(left, picture.width - across), min(top, picture.height - down)
    whole = (max(left, 0.0), max(top, 0.0), left + across, top + down)
    scale = side / max(across, down)
    size = max(1, round(across * scale)), max(1, round(down * scale))
    part = picture.convert("RGB").resize(size, Image.Resampling.BICUBIC, whole)
    return ImageOps.pad(part, (side, side), color=EMPTY)


def whole_with_frame(picture: Image.Image, box: Crop, side: int) -> Image.Image:
    """The picture in little, the part framed."""
    small = picture.convert("RGB")
    scale = side / max(small.size)
    size = max(1, round(small.width * scale)), max(1, round(small.height * scale))
    left, top, right, bottom = (round(edge * scale) for edge in box)
    drawn = framed(small.resize(size, Image.Resampling.BICUBIC), (left, top, right, bottom))
    return ImageOps.pad(drawn, (side, side), color=EMPTY)


def crop_sheet(crops: Sequence[Image.Image | None]) -> Sprite:
    """One crop a unit; gray where a unit has none."""
    blank = np.full((TILE, TILE, 3), EMPTY, np.uint8)
    return sheet(np.stack([blank if c is None else np.asarray(c.convert("RGB")) for c in crops]))


def class_bars(table: pd.DataFrame, most: int = 8) -> alt.Chart:
    """Mean of the maxima by class, the most typical classes first."""
    shown = table.dropna(subset=["mean_max"]).head(most)
    return (
        alt.Chart(shown)
        .mark_bar(color=ACCENT, cornerRadiusEnd=3)
        .encode(
            x=alt.X("mean_max:Q", title="mean of the maxima"),
            y=alt.Y("class:N", sort=shown["class"].tolist(), title=None),
            tooltip=[
                alt.Tooltip("class:N"),
                alt.Tooltip("mean_max:Q", format=".4g", title="mean of the maxima"),
                alt.Tooltip("count:Q", title="items"),
            ],
        )
        .properties(height=28 * len(shown) + 50)
    )
