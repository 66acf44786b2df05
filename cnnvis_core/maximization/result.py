"""What an ascent found."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cnnvis_core.brief import Brief

LEAST_CONTRAST = 0.02  # standard deviation of values in [0, 1]
LEAST_GAIN = 1e-4  # of the activation's own size


@dataclass(frozen=True, eq=False, repr=False)
class Maximization(Brief):
    """Pictures that drive units, finished or not.

    Attributes
    ----------
    images : Tensor (N, C, H, W)
        In [0, 1], on the CPU; for sound 0 is silence and 1 the loudest level of real sound.
    activation : ndarray (steps, N)
        The score of each picture as it was looked at in each step, NaN where a step is still to
        come. Steps of a retry take the place of the first ones.
    start_activation, end_activation : ndarray (N,)
        The score of the first and of the last picture, neither shaken nor penalised.
    words : tuple of str
        What each picture shows.
    notes : tuple of str
        How a picture was rescued, or that it stayed blank; empty for most.
    done : ndarray (N,) of bool
        Whether a picture is finished.
    blank : ndarray (N,) of bool
        Whether a finished picture shows nothing, see `is_blank`.
    starts : Tensor (N, C, H, W)
        The first pictures.
    frames : ndarray (F, N, C, H, W) of uint8
        Pictures on the way.
    frame_steps : tuple of int
        After how many steps each was taken.
    start_maps, end_maps : ndarray (N, h, w) or None
        The unit's map of the first and of the last picture; None where no unit is meant.
    minimized : bool
        Whether the score was made small.
    """

    images: torch.Tensor
    activation: NDArray[np.float32]
    start_activation: NDArray[np.float32]
    end_activation: NDArray[np.float32]
    words: tuple[str, ...]
    notes: tuple[str, ...]
    done: NDArray[np.bool_]
    blank: NDArray[np.bool_]
    starts: torch.Tensor
    frames: NDArray[np.uint8]
    frame_steps: tuple[int, ...]
    start_maps: NDArray[np.float32] | None
    end_maps: NDArray[np.float32] | None
    minimized: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes that the pictures and maps take."""
        maps = sum(maps.nbytes for maps in (self.start_maps, self.end_maps) if maps is not None)
        return 2 * self.images.nbytes + self.activation.nbytes + self.frames.nbytes + maps

    def table(self) -> pd.DataFrame:
        """One row a picture."""
        return pd.DataFrame(
            {
                "picture": np.arange(len(self.words)),
                "shows": self.words,
                "start_activation": self.start_activation,
                "end_activation": self.end_activation,
                "contrast": contrast(self.images).numpy(),
                "finished": self.done,
                "blank": self.blank,
                "note": self.notes,
            }
        )


def contrast(images: torch.Tensor) -> torch.Tensor:
    """Standard deviation (N,) over places and channels, of values in [0, 1]."""
    return images.flatten(1).std(1, correction=0)


def is_blank(
    images: torch.Tensor,
    before: NDArray[np.float32],
    after: NDArray[np.float32],
    minimized: bool = False,
    least_contrast: float = LEAST_CONTRAST,
) -> NDArray[np.bool_]:
    """Which pictures show nothing: hardly any contrast, or no gain over the start.

    Parameters
    ----------
    images : Tensor (N, C, H, W)
        In floating point, in [0, 1].
    before, after : ndarray (N,)
        Scores of the first and of the last picture.
    minimized : bool
        Whether the score was to fall.
    least_contrast : float
        Standard deviation of values below which a picture is flat.
    """
    gain = (before - after if minimized else after - before).astype(np.float64)
    enough = LEAST_GAIN * np.maximum(np.abs(before), np.abs(after)) + 1e-12
    flat = contrast(images.float()).cpu().numpy() < least_contrast
    return flat | ~(gain > enough)
