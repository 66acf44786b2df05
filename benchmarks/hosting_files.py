"""Files that visitors of a benchmark send: pictures, sounds, weights, networks, and broken ones."""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import soundfile
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors
from torch import nn

from cnnvis_core.models.catalogue import blueprint

# Boxes that files are dropped on, by the beginnings of their labels.
PICTURE, SOUND = "Drop a picture here", "Drop a sound here"
WEIGHTS, PROGRAM = "A state_dict for", "A program of torch.export.save"

MODEL, RATE = "resnet64-tiny-imagenet", 16_000
SIZES = ((96, 96), (640, 480), (1600, 1200), (3000, 2000), (4000, 3000))


@dataclass(frozen=True)
class File:
    """What is sent.

    Attributes
    ----------
    box : str
        Into which box, by the beginning of its label.
    name : str
        Its name.
    data : bytes
        What is in it.
    good : bool
        Whether it can be used.
    """

    box: str
    name: str
    data: bytes
    good: bool = True


class Sender:
    """Makes files, every one another.

    Parameters
    ----------
    sizes : sequence of (int, int)
        Widths and heights of the pictures, in pixels.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]] = SIZES) -> None:
        self._rng = np.random.default_rng(0)
        self._sizes = sizes
        self._lock = threading.Lock()
        self._program = _exported()
        self._files = self._all()

    def next(self) -> File:
        """The next file: 10 pictures, 3 sounds, 4 bad ones, 2 weights and a network in turn."""
        with self._lock:
            return next(self._files)

    def _all(self) -> Iterator[File]:
        while True:
            for number in range(20):
                if number % 2 == 0:
                    size = self._sizes[number // 2 % len(self._sizes)]
                    kind = "PNG" if number < 6 else "JPEG"
                    yield File(PICTURE, f"{number}.{kind.lower()}", self._picture(size, kind))
                elif number in (1, 7, 13):
                    yield File(SOUND, "sound.flac", self._sound(float(number)))
                elif number in (3, 9, 15, 17):
                    yield self._bad(number)
                elif number == 5:
                    yield File(PROGRAM, "network.pt2", self._program)
                else:
                    yield File(WEIGHTS, "weights.safetensors", self._weights())

    def _picture(self, size: tuple[int, int], kind: str) -> bytes:
        coarse = self._rng.integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize(size).save(buffer, kind)
        return buffer.getvalue()

    def _sound(self, seconds: float) -> bytes:
        samples = 0.2 * self._rng.normal(size=round(RATE * (0.5 + seconds)))
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, RATE, format="FLAC")
        return buffer.getvalue()

    def _weights(self) -> bytes:
        torch.manual_seed(int(self._rng.integers(2**31)))
        return save_safetensors(blueprint(MODEL).build().state_dict())

    def _bad(self, number: int) -> File:
        if number == 3:
            return File(PICTURE, "cut.jpg", self._picture((640, 480), "JPEG")[:9000], False)
        if number == 9:
            return File(SOUND, "cut.flac", self._sound(2.0)[:2000], False)
        noise = self._rng.bytes(200_000)
        if number == 15:
            return File(WEIGHTS, "noise.safetensors", noise, False)
        return File(PICTURE, "noise.png", noise, False)


def _exported() -> bytes:
    """The program of a small network."""
    net = nn.Sequential(
        *(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)),
    ).eval()
    sizes = ({0: torch.export.Dim("batch")},)
    buffer = io.BytesIO()
    torch.export.save(
        torch.export.export(net, (torch.rand(2, 3, 64, 64),), dynamic_shapes=sizes), buffer
    )
    return buffer.getvalue()
