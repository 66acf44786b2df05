"""Where the pictures of a run stand while they are drawn."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.errors import InputError
from cnnvis_core.maximization.objectives import Objective
from cnnvis_core.maximization.result import LEAST_CONTRAST, Maximization, is_blank

WOKEN = "rescued: the gradient was let through dead ReLUs"
BLANK = "blank: nothing was found that drives it"
FLAT = "blank: what drives it most is even gray, black or white"
MOST_FRAME_BYTES = 256 * 2**20
MOST_PICTURE_BYTES = 512 * 2**20


class Board:
    """Pictures and numbers of a run; what it hands out shares its memory.

    Parameters
    ----------
    objective : Objective
        What is climbed.
    shape : tuple of int
        (C, H, W) of a picture.
    steps : int
        Of the ascent.
    frame_every : int
        Steps between frames, 0 for none.
    minimized : bool
        Whether the score is to fall.
    least_contrast : float
        Below which a picture is blank.

    Raises
    ------
    InputError
        If the pictures or their frames would take too much memory.
    """

    def __init__(
        self,
        objective: Objective,
        shape: tuple[int, int, int],
        steps: int,
        frame_every: int,
        minimized: bool,
        least_contrast: float = LEAST_CONTRAST,
    ) -> None:
        count = len(objective)
        if 8 * count * math.prod(shape) > MOST_PICTURE_BYTES:
            raise InputError(
                f"{count:,} pictures of {shape[1]} x {shape[2]} do not fit into memory; draw fewer "
                "or smaller ones."
            )
        self.least_contrast = least_contrast
        self.words, self.minimized, self.every = objective.words, minimized, frame_every
        taken = [*range(0, steps, frame_every), steps] if frame_every else []
        self.frame_steps = tuple(dict.fromkeys(taken))
        if len(self.frame_steps) * count * math.prod(shape) > MOST_FRAME_BYTES:
            raise InputError(
                f"{len(self.frame_steps)} frames of {count} pictures do not fit into memory; "
                "keep fewer frames."
            )
        self.images = torch.full((count, *shape), 0.5)
        self.starts = self.images.clone()
        self.frames = np.zeros((len(self.frame_steps), count, *shape), np.uint8)
        self.activation = np.full((steps, count), np.nan, np.float32)
        self.ends: dict[str, NDArray[np.float32]] = {
            name: np.full(count, np.nan, np.float32) for name in ("start", "end")
        }
        self.maps: dict[str, NDArray[np.float32]] = {}
        self.done = np.zeros(count, np.bool_)
        self.blank = np.zeros(count, np.bool_)
        self.notes = [""] * count
        self._started: set[int] = set()
        self.woken: set[int] = set()  # pictures whose gradient had to be let through dead ReLUs

    def note(
        self,
        numbers: Sequence[int],
        images: torch.Tensor,
        score: torch.Tensor,
        maps: torch.Tensor | None,
    ) -> None:
        """Note pictures neither shaken nor penalised: when first called, start, then end."""
        end = "end" if self._started >= set(numbers) else "start"
        self.ends[end][numbers] = score.cpu().numpy()
        (self.images if end == "end" else self.starts)[numbers] = images.cpu()
        if end == "end":
            self._frame(numbers, self.frame_steps[-1] if self.frame_steps else -1, images)
            self._started -= set(numbers)
        else:
            self._started |= set(numbers)
        if maps is not None:
            found = maps.float().cpu().numpy()
            if end not in self.maps:
                shape = (len(self.words), *found.shape[1:])
                self.maps[end] = np.full(shape, np.nan, np.float32)
            self.maps[end][numbers] = found

    def forget(self, numbers: Iterable[int]) -> None:
        """Pictures that were broken off are begun again."""
        self._started -= set(numbers)

    def record(
        self, numbers: Sequence[int], step: int, images: torch.Tensor, score: torch.Tensor
    ) -> None:
        """Note what a step looked at."""
        self.images[numbers] = images.cpu()
        self.activation[step, numbers] = score.float().cpu().numpy()
        self._frame(numbers, step, images)

    def _frame(self, numbers: Sequence[int], step: int, images: torch.Tensor) -> None:
        if step in self.frame_steps:
            pixels = (images * 255).round().clamp(0, 255).byte().cpu().numpy()
            self.frames[self.frame_steps.index(step), numbers] = pixels

    def judge(self, numbers: Sequence[int], note: str) -> list[int]:
        """Say how pictures were made; return those that show nothing."""
        chosen = list(numbers)
        blank = is_blank(
            self.images[chosen], self.ends["start"][chosen], self.ends["end"][chosen],
            self.minimized, self.least_contrast,
        )  # fmt: skip
        for number, empty in zip(chosen, blank, strict=True):
            self.blank[number] = empty
            self.notes[number] = note or (WOKEN if number in self.woken else "")
        return [number for number, empty in zip(chosen, blank, strict=True) if empty]

    def finish(self, numbers: Iterable[int]) -> None:
        """Nothing more is done for these pictures."""
        for number in numbers:
            self.done[number] = True
            if self.blank[number]:
                start, end = (self.ends[name][number] for name in ("start", "end"))
                gained = end < start if self.minimized else end > start
                self.notes[number] = FLAT if gained else BLANK

    def snapshot(self) -> Maximization:
        """What there is now."""
        return Maximization(
            self.images,
            self.activation,
            self.ends["start"],
            self.ends["end"],
            self.words,
            tuple(self.notes),
            self.done,
            self.blank & self.done,
            self.starts,
            self.frames,
            self.frame_steps,
            self.maps.get("start"),
            self.maps.get("end"),
            self.minimized,
        )
