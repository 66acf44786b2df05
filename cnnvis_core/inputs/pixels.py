"""Pixels of any mode that Pillow decodes become 8-bit sRGB on a stated background."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from cnnvis_core.errors import InputError

BACKGROUND: Final = (255, 255, 255)

Conversion = Callable[[Image.Image], Image.Image]

# An ICC profile applies only to pictures whose colours it describes.
_PROFILED_MODES: Final = {
    "RGB ": ("RGB", ("RGB", "RGBA", "RGBX", "P")),
    "GRAY": ("L", ("L", "LA")),
    "CMYK": ("CMYK", ("CMYK",)),
}
_BAND_PIXELS: Final = 2**20


def to_rgb(image: Image.Image, max_side: int, notes: list[str]) -> Image.Image:
    """Convert a loaded picture to RGB and reduce it by a whole factor to at most `max_side`.

    It works in bands of rows, so that no second full-size copy is made.

    Parameters
    ----------
    image : PIL.Image.Image
        Of any mode; not changed.
    max_side : int
        Longest side of the result, in pixels.
    notes : list of str
        What was changed is added here.

    Raises
    ------
    InputError
        If the picture holds values that are not finite.
    """
    scaled = _grey_scaling(image, notes)
    profiled = _profile_conversion(image, notes)
    factor = -(-max(image.size) // max_side)
    width, height = image.size
    out = Image.new("RGB", (-(-width // factor), -(-height // factor)))
    transparent = False
    for top, band in _bands(image, factor):
        if scaled is not None:
            band = scaled(band)
        alpha = None
        if band.has_transparency_data:
            band = band.convert("RGBA")
            alpha = band.getchannel("A")
            transparent = transparent or alpha.getextrema() != (255, 255)
        band = (profiled(band) if profiled is not None else band).convert("RGB")
        if alpha is not None:
            ground = Image.new("RGB", band.size, BACKGROUND)
            ground.paste(band, mask=alpha)
            band = ground
        out.paste(band.reduce(factor) if factor > 1 else band, (0, top // factor))
    if transparent:
        notes.append("Transparent parts were laid on white.")
    if image.mode == "CMYK":
        notes.append("The print colours (CMYK) were converted to RGB.")
    return out


def _bands(image: Image.Image, factor: int) -> Iterator[tuple[int, Image.Image]]:
    """First row and picture of each band; the height of all but the last divides by `factor`."""
    width, height = image.size
    rows = factor * max(1, _BAND_PIXELS // (width * factor))
    for top in range(0, height, rows):
        yield top, image.crop((0, top, width, min(top + rows, height)))


def _grey_scaling(image: Image.Image, notes: list[str]) -> Conversion | None:
    """How grey values of more than 8 bits become bytes; None for all other pictures."""
    if image.mode[0] not in "IF":
        return None
    low, high = _value_range(image)
    bottom, top = _scale(low, high, image.mode == "F")
    if (bottom, top) != (0.0, 255.0):
        notes.append(f"Grey values from {bottom:g} to {top:g} were scaled to 0 to 255.")

    def scaled(band: Image.Image) -> Image.Image:
        values = _values(band)
        levels = (values - bottom) * (255.0 / (top - bottom))
        return Image.fromarray(np.clip(np.rint(levels), 0, 255).astype(np.uint8))

    return scaled


def _values(band: Image.Image) -> NDArray[np.float64]:
    return np.asarray(band, dtype=np.float64)


def _value_range(image: Image.Image) -> tuple[float, float]:
    low, high = np.inf, -np.inf
    for _, band in _bands(image, 1):
        values = _values(band)
        if not np.isfinite(values).all():
            raise InputError(
                "The picture holds values that are not finite (NaN or infinity); "
                "replace them and save it again."
            )
        low, high = min(low, float(values.min())), max(high, float(values.max()))
    return low, high


def _scale(low: float, high: float, is_float: bool) -> tuple[float, float]:
    """Grey values that become 0 and 255; `decode_image` states the rule."""
    if is_float:
        if low >= 0.0 and high <= 1.0:
            return 0.0, 1.0
    elif low >= 0.0:
        for bits in (8, 10, 12, 14, 16):
            if high < 2**bits:
                return 0.0, float(2**bits - 1)
    return (low, high) if high > low else (low, low + 1.0)


def _profile_conversion(image: Image.Image, notes: list[str]) -> Conversion | None:
    """How a picture with an embedded colour profile becomes sRGB; None where nothing is to do."""
    try:
        if image.mode == "LAB":
            source, mode, name = ImageCms.createProfile("LAB"), "LAB", "Lab"
        else:
            source = ImageCms.ImageCmsProfile(io.BytesIO(image.info["icc_profile"])).profile
            mode, modes = _PROFILED_MODES[source.xcolor_space]
            name = source.profile_description or "unnamed"
            if image.mode not in modes or "sRGB" in name:
                return None
        transform = ImageCms.buildTransform(
            ImageCms.ImageCmsProfile(source), ImageCms.createProfile("sRGB"), mode, "RGB"
        )
    except (KeyError, TypeError, OSError, ValueError, ImageCms.PyCMSError):
        return None  # No profile, or a broken one: the numbers are taken as sRGB.
    shown = "".join(letter for letter in name if letter.isprintable())[:40].strip()
    notes.append(f"Colours were converted from the profile {shown} to sRGB.")
    return lambda band: _applied(band.convert(mode), transform)


def _applied(band: Image.Image, transform: ImageCms.ImageCmsTransform) -> Image.Image:
    converted = ImageCms.applyTransform(band, transform)
    return band if converted is None else converted
