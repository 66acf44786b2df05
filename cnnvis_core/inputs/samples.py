"""Samples to start with: pictures that installed packages carry, and sounds of our own making."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Literal

from cnnvis_core.errors import InputError

SOUNDS = Path(__file__).resolve().parents[2] / "assets" / "samples"

_OPENING = "rooster"  # one loud event in five seconds: a map with something to find
# Package, file and title; the packages' own notes name the photographers.
_PICTURES = {
    "coffee": ("skimage", "data/coffee.png", "Coffee"),
    "cat": ("skimage", "data/chelsea.png", "Cat"),
    "temple": ("sklearn", "datasets/images/china.jpg", "Temple"),
    "flower": ("sklearn", "datasets/images/flower.jpg", "Flower"),
    "rocket": ("skimage", "data/rocket.jpg", "Rocket"),
    "astronaut": ("skimage", "data/astronaut.png", "Astronaut"),
}


@dataclass(frozen=True)
class Sample:
    """A picture or sound that is at hand without a network.

    Attributes
    ----------
    id : str
        Short name, as in the address bar.
    title : str
        For people.
    modality : {"image", "audio"}
        What it is.
    path : Path
        The file.
    """

    id: str
    title: str
    modality: Literal["image", "audio"]
    path: Path

    def read(self) -> bytes:
        """The bytes of the file.

        Raises
        ------
        InputError
            If the file is not there.
        """
        try:
            return self.path.read_bytes()
        except OSError as error:
            raise InputError(
                f"The sample {self.title!r} is missing; install the requirements again."
            ) from error


@lru_cache(maxsize=2)
def samples(modality: Literal["image", "audio"]) -> tuple[Sample, ...]:
    """All samples of a kind, the first being the one to open with."""
    if modality == "audio":
        return tuple(
            Sample(path.stem, path.stem.replace("_", " ").capitalize(), "audio", path)
            for path in sorted(
                SOUNDS.glob("*.flac"), key=lambda path: (path.stem != _OPENING, path.stem)
            )
        )
    found = (
        Sample(name, title, "image", Path(str(files(package).joinpath(file))))
        for name, (package, file, title) in _PICTURES.items()
    )
    return tuple(sample for sample in found if sample.path.is_file())
