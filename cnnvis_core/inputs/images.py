"""Bytes of a picture file become a validated RGB picture, with notes of what was changed.

Limits, all checked on the header before any pixel is decoded: at most 60 megapixels, at least 8
pixels on each side, at most 20 times as long as wide. A picture longer than 4096 pixels is reduced
by a whole factor, so that what stays in memory is small.

Pillow's own fuzz test names the exceptions that a hostile file may raise; those, and no others,
become `InputError`.
"""

from __future__ import annotations

import io
import struct
from dataclasses import dataclass
from typing import Final

from PIL import Image
from PIL.Image import DecompressionBombError, DecompressionBombWarning, Transpose
from PIL.ImageFile import ImageFile

from cnnvis_core.errors import InputError
from cnnvis_core.inputs.pixels import to_rgb

MAX_PIXELS: Final = 60_000_000
MAX_SIDE: Final = 4096
MIN_SIDE: Final = 8
MAX_ASPECT: Final = 20

FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_SUPPORTED: Final = "a JPEG, PNG, WebP, GIF, BMP or TIFF file"
_DECODE_ERRORS: Final = (
    OSError,
    SyntaxError,
    MemoryError,
    ValueError,
    NotImplementedError,
    OverflowError,
    DecompressionBombError,
    DecompressionBombWarning,
)
# Broken headers raise these too; Image.open catches them by itself, seek and getexif do not.
_HEADER_ERRORS: Final = (IndexError, KeyError, TypeError, struct.error)
# How the supported files begin; what begins so and cannot be read is damaged.
_SIGNATURES: Final = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG", "PNG"),
    (b"RIFF", "WebP"),
    (b"GIF8", "GIF"),
    (b"BM", "BMP"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
)
# EXIF 2.32, tag 0x0112: what turns a picture stored with this orientation upright.
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
# A TIFF in more pieces than this costs a gigabyte of bookkeeping before its size is known.
_MAX_TIFF_PIECES: Final = 65_536
# Every scan of a progressive JPEG passes over the whole picture; phones write about ten.
_MAX_SCANNED_PIXELS: Final = 2_000_000_000
_USUAL_SCANS: Final = 20


@dataclass(frozen=True, eq=False)
class Picture:
    """A validated picture.

    Attributes
    ----------
    image : PIL.Image.Image
        Mode RGB, 8 bits a channel, sRGB, upright, at most 4096 pixels a side.
    notes : tuple of str
        What was changed on the way in, one plain sentence each.
    """

    image: Image.Image
    notes: tuple[str, ...] = ()


def read_image(data: bytes) -> Image.Image:
    """Picture (RGB) from the bytes of a file; `decode_image` also tells what was changed.

    Raises
    ------
    InputError
        If the bytes are no picture that can be used; the message says why and what to do.
    """
    return decode_image(data).image


def decode_image(data: bytes, most_pixels: int = MAX_PIXELS) -> Picture:
    """Picture and notes from the bytes of a JPEG, PNG, WebP, GIF, BMP or TIFF file.

    The first frame of an animation is taken; the EXIF orientation is applied; transparent parts
    are laid on white; an embedded colour profile is converted to sRGB, a broken one is ignored.
    Grey values of 16 or 32 bits are divided by the full scale of the smallest of 8, 10, 12, 14 and
    16 bits that holds the largest one, so black stays black and ratios are kept; negative or
    larger ones are stretched from their range. Floats within [0, 1] are taken as such and others
    stretched from their range.

    Parameters
    ----------
    data : bytes
        The file; its name and its declared type play no part.
    most_pixels : int
        Pixels that it may have, up to 60 million.

    Raises
    ------
    InputError
        If the bytes are not a supported image, are incomplete or damaged, or if the picture is
        over ``most_pixels``, under 8 pixels on a side, more than 20 times as long as wide, or holds
        values that are not finite.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError("A picture must be given as the bytes of its file.")
    data = bytes(data)
    if not data:
        raise InputError(f"The file is empty and so not a supported image; choose {_SUPPORTED}.")
    _refuse_shredded_tiff(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (DecompressionBombError, DecompressionBombWarning) as error:
        raise InputError(
            f"The picture has far more than {MAX_PIXELS // 10**6} megapixels; "
            "make it smaller and try again."
        ) from error
    except _DECODE_ERRORS as error:
        raise InputError(_why_unreadable(data)) from error
    with image:
        _check_size(image.size, min(most_pixels, MAX_PIXELS))
        _refuse_many_scans(image, data)
        try:
            return _decode(image, data)
        except _DECODE_ERRORS as error:
            raise InputError(_incomplete(image.format or "picture")) from error


def _decode(image: Image.Image, data: bytes) -> Picture:
    notes: list[str] = []
    full_size = image.size
    if _has_second_frame(data):
        notes.append(f"Only the first frame of this {image.format} file is used.")
    tiles = image.tile if isinstance(image, ImageFile) else []
    if any(";16" in str(tile.args) for tile in tiles) and image.mode[0] not in "IF":
        notes.append("The 16 bits of each channel were reduced to 8.")
    # Pillow turns a TIFF by itself and then forgets its orientation, so ask before loading.
    orientation = _orientation(image)
    if image.format in ("JPEG", "MPO"):
        factor = _draft_factor(max(image.size))
        image.draft(None, (max(image.width // factor, 1), max(image.height // factor, 1)))
    image.load()
    rgb = to_rgb(image, MAX_SIDE, notes)
    if orientation in _UPRIGHT:
        if image.format != "TIFF":
            rgb = rgb.transpose(_UPRIGHT[orientation])
        notes.append("The picture was turned upright, as its camera had noted.")
    if max(rgb.size) < max(full_size):
        notes.append(
            f"The picture was reduced from {full_size[0]} × {full_size[1]} pixels; "
            f"it is now {max(rgb.size)} pixels long."
        )
    _check_size(rgb.size)
    return Picture(rgb, tuple(notes))


def _check_size(size: tuple[int, int], most: int = MAX_PIXELS) -> None:
    width, height = size
    if width * height > most:
        raise InputError(
            f"The picture has {width * height / 1e6:.0f} megapixels ({width} × {height}), and "
            f"at most {most // 10**6} can be taken; make it smaller and try again."
        )
    if min(width, height) < MIN_SIDE:
        raise InputError(
            f"The picture is only {width} × {height} pixels; "
            f"choose one of at least {MIN_SIDE} pixels on each side."
        )
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(
            f"The picture is {width} × {height} pixels, which is too narrow; "
            f"crop it to at most {MAX_ASPECT} times as long as wide."
        )


def _why_unreadable(data: bytes) -> str:
    for start, name in _SIGNATURES:
        if data.startswith(start) and (name != "WebP" or data[8:12] in (b"WEBP", b"")):
            return _incomplete(name)
    head = data[:512].lstrip().lower()
    looks = ""
    if data[4:8] == b"ftyp":
        looks = " (it looks like HEIC, AVIF or a film)"
    elif b"<svg" in head:
        looks = " (it looks like SVG)"
    elif head.startswith((b"<!doctype html", b"<html")):
        looks = " (it looks like a web page)"
    elif head.startswith((b"%!ps", b"%pdf", b"\xc5\xd0\xd3\xc6")):
        looks = " (it looks like PostScript or PDF)"
    return f"This is not a supported image{looks}; choose {_SUPPORTED}."


def _incomplete(name: str) -> str:
    return f"The file is incomplete or damaged ({name}); save or send it again, or choose another."


def _refuse_shredded_tiff(data: bytes) -> None:
    """Read the counts of strips and tiles in the first directory (TIFF 6.0, section 2)."""
    order = {b"II": "<", b"MM": ">"}.get(data[:2])
    if order is None or data[2:4] not in (b"*\0", b"\0*", b"+\0", b"\0+"):
        return
    big = 43 in data[2:4]
    word, entry = ("Q", order + "HHQQ") if big else ("I", order + "HHII")
    try:
        (start,) = struct.unpack_from(order + word, data, 8 if big else 4)
        (entries,) = struct.unpack_from(order + ("Q" if big else "H"), data, start)
        start += 8 if big else 2
        size = struct.calcsize(entry)
        for index in range(min(entries, 4096)):
            tag, _, count, _ = struct.unpack_from(entry, data, start + index * size)
            if tag in (273, 324) and count > _MAX_TIFF_PIECES:
                raise InputError(
                    f"The TIFF file is cut into {count} pieces, which is too many; "
                    "save it as PNG and try again."
                )
    except struct.error:
        return  # Truncated: Pillow will say so.


def _refuse_many_scans(image: Image.Image, data: bytes) -> None:
    if image.format not in ("JPEG", "MPO"):
        return
    scans = data.count(b"\xff\xda")
    if scans > _USUAL_SCANS and scans * image.width * image.height > _MAX_SCANNED_PIXELS:
        raise InputError(
            f"The JPEG file draws its picture {scans} times over, which is too slow to read; "
            "save it again as a plain JPEG."
        )


def _has_second_frame(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.format == "MPO":
                return False  # A phone's second picture is its depth or gain map.
            image.seek(1)
    except (EOFError, *_DECODE_ERRORS, *_HEADER_ERRORS):
        return False  # A second frame that cannot be read is none.
    return True


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except (*_DECODE_ERRORS, *_HEADER_ERRORS):
        return 1  # Broken EXIF data says nothing about the pixels.
    return value if isinstance(value, int) else 1


def _draft_factor(side: int) -> int:
    """Smallest factor that a JPEG decoder can reduce by to bring a side under the limit."""
    return next((factor for factor in (1, 2, 4) if side <= factor * MAX_SIDE), 8)
