"""A collection to begin with: tiles of the sample pictures, parts of the sample sounds."""

from __future__ import annotations

import io
from collections.abc import Iterator

import numpy as np
import soundfile

from cnnvis_core.datasets.memory import MemoryDataset
from cnnvis_core.inputs import read_audio, read_image
from cnnvis_core.inputs.samples import samples
from cnnvis_core.models.card import Modality

SHARES = (1.0, 0.5, 0.3)  # of a picture's shorter side that a tile takes up
OVERLAP = 0.5  # of tiles
LARGEST = 160  # pixels of a tile's side
PART_SECONDS = 2.0


def sample_tiles(modality: Modality) -> MemoryDataset:
    """Tiles of all sample pictures in three sizes, or parts of all sample sounds, by title."""
    parts = list(_sounds() if modality == "audio" else _pictures())
    classes = list(dict.fromkeys(title for _, title, _ in parts))
    return MemoryDataset(
        [name for name, _, _ in parts],
        [data for _, _, data in parts],
        [classes.index(title) for _, title, _ in parts],
        classes,
    )


def _pictures() -> Iterator[tuple[str, str, bytes]]:
    for sample in samples("image"):
        picture = read_image(sample.read())
        for share in SHARES:
            side = round(share * min(picture.size))
            for top in _starts(picture.height, side):
                for left in _starts(picture.width, side):
                    tile = picture.crop((left, top, left + side, top + side))
                    tile.thumbnail((LARGEST, LARGEST))
                    buffer = io.BytesIO()
                    tile.save(buffer, "PNG", compress_level=1)
                    yield (
                        f"{sample.title}, {left} × {top}, {side} px",
                        sample.title,
                        buffer.getvalue(),
                    )


def _starts(length: int, side: int) -> list[int]:
    """Equally spaced starts of tiles that cover a length, overlapping by about a half."""
    count = 1 + int(np.ceil((length - side) / ((1 - OVERLAP) * side)))
    return sorted({round(start) for start in np.linspace(0, length - side, count)})


def _sounds() -> Iterator[tuple[str, str, bytes]]:
    for sample in samples("audio"):
        clip = read_audio(sample.read())
        length = min(round(PART_SECONDS * clip.sample_rate), len(clip.samples))
        for start in _starts(len(clip.samples), length):
            buffer = io.BytesIO()
            part = clip.samples[start : start + length]
            soundfile.write(buffer, part, clip.sample_rate, format="WAV", subtype="PCM_16")
            name = f"{sample.title} from {start / clip.sample_rate:.1f} s"
            yield name, sample.title, buffer.getvalue()
