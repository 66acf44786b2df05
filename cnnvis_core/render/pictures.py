"""Heatmaps laid over pictures."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance

from cnnvis_core.render.colour import diverging

Box = tuple[float, float, float, float]


def heat_layer(
    heatmap: NDArray[np.float32], limit: float, opacity: float, size: tuple[int, int]
) -> Image.Image:
    """The map as RGBA of a size (width, height): colour by sign, opacity by strength."""
    smooth = Image.fromarray(heatmap.astype(np.float32)).resize(size, Image.Resampling.BILINEAR)
    values = np.asarray(smooth)
    strength = np.clip(np.abs(values) / max(limit, 1e-12), 0, 1)
    # Full colours, not pale ones: the picture already shows where nothing happens.
    colours = diverging(np.sign(values) * (0.35 + 0.4 * strength) * limit, limit)
    alpha = (255 * opacity * strength**0.7).round().astype(np.uint8)
    return Image.fromarray(np.dstack([colours, alpha]), "RGBA")


def fit(picture: Image.Image, side: int) -> Image.Image:
    """The picture with its longer side at ``side`` pixels or as it is if smaller."""
    if max(picture.size) <= side:
        return picture
    shrunk = picture.copy()
    shrunk.thumbnail((side, side), Image.Resampling.LANCZOS)
    return shrunk


def overlay(
    picture: Image.Image,
    heatmap: NDArray[np.float32],
    box: Box,
    limit: float,
    opacity: float = 0.75,
    side: int = 900,
) -> Image.Image:
    """Lay a map over the part of a picture that the network saw; the rest is dimmed.

    Parameters
    ----------
    picture : PIL image
        The user's own picture.
    heatmap : ndarray (H, W)
        Signed map over the network's input.
    box : (left, top, right, bottom)
        What of the picture the network saw, in its pixels.
    limit : float
        Value of the strongest colour.
    opacity : float
        0 shows the picture alone, 1 hides it where the map is strongest.
    side : int
        Longer side of the result in pixels; small pictures are enlarged to it.
    """
    scale = side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    base = picture.convert("RGB").resize(size, Image.Resampling.LANCZOS)
    left, top, right, bottom = (round(edge * scale) for edge in box)
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(max(right, left + 1), size[0]), min(max(bottom, top + 1), size[1])
    seen = base.crop((left, top, right, bottom))
    # Colour then means the map alone: an orange cat stays apart from an orange place.
    seen = ImageEnhance.Color(seen).enhance(1 - 0.9 * min(1.0, 2 * opacity)).convert("RGBA")
    seen.alpha_composite(heat_layer(heatmap, limit, opacity, seen.size))
    out = Image.blend(base, Image.new("RGB", size, (128, 128, 128)), 0.55)
    out.paste(seen.convert("RGB"), (left, top))
    return out


def outlined(
    picture: Image.Image, box: tuple[int, int, int, int], shape: tuple[int, int], side: int = 480
) -> Image.Image:
    """A network-sized picture, enlarged without smoothing, with one patch framed."""
    scale = max(1, side // max(shape))
    large = enlarged(picture.resize((shape[1], shape[0]), Image.Resampling.NEAREST), side)
    top, left, bottom, right = (edge * scale for edge in box)
    return framed(large, (left, top, right, bottom))


def enlarged(picture: Image.Image, side: int) -> Image.Image:
    """The picture with each pixel a square, so that the longer side is at most ``side``."""
    scale = max(1, side // max(picture.size))
    size = picture.width * scale, picture.height * scale
    return picture.resize(size, Image.Resampling.NEAREST)


def framed(picture: Image.Image, box: Box) -> Image.Image:
    """The picture with a rectangle (left, top, right, bottom) drawn on it, dark within light."""
    out = picture.convert("RGB")
    draw = ImageDraw.Draw(out)
    left, top, right, bottom = box
    left, top = max(left, 0), max(top, 0)
    right, bottom = min(right, out.width), min(bottom, out.height)
    if right - left > 2 and bottom - top > 2:
        draw.rectangle((left, top, right - 1, bottom - 1), outline=(255, 255, 255), width=3)
        draw.rectangle((left + 1, top + 1, right - 2, bottom - 2), outline=(20, 20, 20), width=1)
    return out


def png(picture: Image.Image, quick: bool = False) -> bytes:
    """The picture as the bytes of a PNG file; larger and sooner where it is hardly kept."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1 if quick else 6)
    return buffer.getvalue()
