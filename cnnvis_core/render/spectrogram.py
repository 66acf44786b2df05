"""Spectrograms as pictures."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cnnvis_core.occlusion.result import Occlusion
from cnnvis_core.render.colour import sequential, symmetric_limit
from cnnvis_core.render.pictures import heat_layer


def plain_spectrogram(levels: NDArray[np.float32]) -> Image.Image:
    """A log-mel spectrogram (mel bands, frames) as a picture, low frequencies at the bottom."""
    bands, frames = levels.shape
    low, high = np.percentile(levels, [1, 99.7])
    picture = Image.fromarray(sequential(levels[::-1], float(low), float(high)))
    return picture.resize((min(1200, 3 * frames), 4 * bands), Image.Resampling.BILINEAR)


def spectrogram_picture(
    levels: NDArray[np.float32], occlusion: Occlusion, opacity: float
) -> Image.Image:
    """The spectrogram under a map, without axes."""
    picture = plain_spectrogram(levels).convert("RGBA")
    limit = symmetric_limit(occlusion.drop)
    picture.alpha_composite(heat_layer(occlusion.heatmap[::-1], limit, opacity, picture.size))
    return picture.convert("RGB")
