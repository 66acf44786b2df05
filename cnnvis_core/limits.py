"""What a server allows: one place, set by an operator through the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import lru_cache
from typing import Any

from cnnvis_core.errors import InputError

PREFIX = "CNNVIS_"


def _limit(default: int, least: int, most: int, words: str) -> Any:
    return field(default=default, metadata={"least": least, "most": most, "words": words})


@dataclass(frozen=True)
class Limits:
    """Bounds of a server, each set by an environment variable.

    The variable of ``media_mb`` is ``CNNVIS_MEDIA_MB``, and so on. None of them holds for the
    library or the command line.
    """

    media_mb: int = _limit(20, 1, 1000, "megabytes of a picture or a sound that is sent")
    megapixels: int = _limit(60, 1, 60, "megapixels of a picture that is sent")
    seconds: int = _limit(30, 1, 600, "seconds of a sound that are analysed")
    weights_mb: int = _limit(200, 1, 4000, "megabytes of a weight file, or of a zip, that is sent")
    results_mb: int = _limit(256, 16, 65536, "megabytes of results that are kept for a visitor")
    results: int = _limit(32, 4, 10000, "results that are kept for a visitor")
    positions: int = _limit(100000, 64, 250000, "places of an occlusion map")
    steps: int = _limit(2048, 16, 10000, "steps of a maximised picture")
    epochs: int = _limit(30, 1, 1000, "epochs of a training")
    shared_mb: int = _limit(64, 1, 65536, "megabytes of results on samples, kept for everybody")
    training_mb: int = _limit(1024, 16, 65536, "megabytes of weights of a visitor's training")
    trainings: int = _limit(3, 1, 100, "trainings that are kept for a visitor")
    models_mb: int = _limit(2048, 16, 1048576, "megabytes of networks that stay in memory")
    programs: int = _limit(1, 0, 1, "whether visitors may send whole networks (.pt2)")
    sign_in: int = _limit(0, 0, 1, "whether nobody is served who has not signed in")
    sessions: int = _limit(200, 1, 100000, "open tabs of all visitors at once")
    jobs: int = _limit(64, 1, 10000, "computations of all visitors at once")

    def __post_init__(self) -> None:
        """Refuse what lies outside of the bounds."""
        for part in fields(self):
            value, least, most = getattr(self, part.name), *_bounds(part)
            if not least <= value <= most:
                raise InputError(
                    f"{PREFIX}{part.name.upper()} is {value:,}; it lies in {least:,} to {most:,}."
                )

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Limits:
        """The limits that environment variables ask for.

        Raises
        ------
        InputError
            If one of them is no whole number or out of its bounds.
        """
        asked: dict[str, int] = {}
        for part in fields(cls):
            name = f"{PREFIX}{part.name.upper()}"
            text = environment.get(name, "").strip()
            if text:
                try:
                    asked[part.name] = int(text)
                except ValueError as error:
                    raise InputError(f"{name} is {text!r}; it must be a whole number.") from error
        return cls(**asked)


def _bounds(part: Any) -> tuple[int, int]:
    return part.metadata["least"], part.metadata["most"]


@lru_cache(maxsize=1)
def limits() -> Limits:
    """The limits of this process, read once.

    Raises
    ------
    InputError
        If the environment asks for what cannot be had.
    """
    return Limits.of(os.environ)


def cluster_address() -> str:
    """Address of the Ray cluster that ``CNNVIS_RAY`` names; empty where it names none."""
    return os.environ.get("CNNVIS_RAY", "").strip()
