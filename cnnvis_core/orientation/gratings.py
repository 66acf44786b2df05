"""Full-field sinusoidal gratings, the stimuli by which cells of the visual cortex are described."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from cnnvis_core.errors import InputError
from cnnvis_core.models.levels import levels_of
from cnnvis_core.models.model import Model

Colour = Literal["luminance", "red-green", "blue-yellow"]
# Directions in red, green and blue; those of colour leave their sum as it is.
COLOURS: dict[Colour, tuple[float, float, float]] = {
    "luminance": (1.0, 1.0, 1.0),
    "red-green": (1.0, -1.0, 0.0),
    "blue-yellow": (-0.5, -0.5, 1.0),
}
OCTAVE = 0.5  # between neighbouring frequencies
HIGHEST = 0.4  # cycles a pixel; half a cycle is the limit of a raster
MOST = 200_000  # gratings of one run


@dataclass(frozen=True)
class Gratings:
    """A set of gratings: every orientation at every frequency in every phase.

    Attributes
    ----------
    orientations_deg : tuple of float
        Angles of the stripes, counter-clockwise from horizontal, in [0, 180).
    frequencies : tuple of float
        Spatial frequencies in cycles a pixel, ascending.
    phases : int
        Phases a cycle, equally spaced; at least 3, for the response to be parted into its mean and
        its first harmonic.
    contrast : float
        Michelson contrast about middle gray, above 0 and up to 1.
    diameter : float or None
        Pixels of the round window with a soft edge that the grating is seen through; None for all.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    orientations_deg: tuple[float, ...]
    frequencies: tuple[float, ...]
    phases: int = 8
    contrast: float = 1.0
    diameter: float | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be shown."""
        angles, bands = self.orientations_deg, self.frequencies
        if len(angles) < 4 or any(not 0 <= angle < 180 for angle in angles):
            raise InputError("Give at least four orientations in [0, 180) degrees.")
        if any(b <= a for a, b in itertools.pairwise(angles)):
            raise InputError("Orientations must ascend.")
        if not bands or any(not 0 < f <= 0.5 for f in bands):
            raise InputError("Frequencies lie above 0 and up to 0.5 cycles a pixel.")
        if any(b <= a for a, b in itertools.pairwise(bands)):
            raise InputError("Frequencies must ascend.")
        if not 3 <= self.phases <= 64 or not 0 < self.contrast <= 1:
            raise InputError("Phases are 3 to 64, the contrast lies above 0 and up to 1.")
        if self.diameter is not None and self.diameter < 2:
            raise InputError("The diameter is at least 2 pixels.")
        if len(angles) * len(bands) * self.phases > MOST:
            raise InputError(f"That is more than {MOST:,} gratings; take fewer of each kind.")

    def __len__(self) -> int:
        return len(self.orientations_deg) * len(self.frequencies) * self.phases

    def draw(
        self,
        extent: tuple[int, int],
        channels: int,
        cells: Sequence[tuple[int, int, int]],
        colour: Colour = "luminance",
    ) -> torch.Tensor:
        """Pictures (N, channels, H, W) in [0, 1].

        Parameters
        ----------
        extent : tuple of int
            Height and width in pixels.
        channels : int
            Of each picture; colours need three.
        cells : sequence of (orientation, frequency, phase)
            Which gratings, by index.
        colour : {"luminance", "red-green", "blue-yellow"}
            Along which direction the stripes differ.
        """
        if colour != "luminance" and channels != 3:
            raise InputError("Only networks of red, green and blue are shown colours.")
        which = np.array(cells).reshape(-1, 3)
        angle = np.radians(np.array(self.orientations_deg)[which[:, 0]])[:, None]
        turns = 2 * np.pi * np.array(self.frequencies)[which[:, 1]][:, None]
        phase = 2 * np.pi * which[:, 2][:, None] / self.phases
        # Rows run downwards, angles upwards; phases are counted in the middle of the picture.
        rows, cols = (np.arange(n) - n // 2 for n in extent)
        along_rows = np.exp(1j * turns * np.cos(angle) * rows).astype(np.complex64)
        along_cols = np.exp(1j * (turns * np.sin(angle) * cols + phase)).astype(np.complex64)
        # cos(a + b) as products of a row and a column, of which there are fewer than of pixels.
        wave = along_rows.real[:, :, None] * along_cols.real[:, None]
        wave -= along_rows.imag[:, :, None] * along_cols.imag[:, None]
        if self.diameter is not None:
            distance = np.hypot(rows[:, None], cols[None])
            wave *= np.clip((self.diameter / 2 + 1 - distance) / 2, 0, 1).astype(np.float32)
        wave *= 0.5 * self.contrast
        direction = COLOURS[colour] if channels == 3 else (1.0,) * channels
        pictures = torch.empty(len(wave), channels, *extent)
        for channel, part in enumerate(direction):
            torch.add(
                torch.tensor(0.5), torch.from_numpy(wave), alpha=part, out=pictures[:, channel]
            )
        return pictures


@dataclass(frozen=True, eq=False)
class GratingStimuli:
    """Gratings as what a network takes; see `Stimuli`.

    Attributes
    ----------
    model : Model
        That they are shown to.
    gratings : Gratings
        Which ones.
    colour : {"luminance", "red-green", "blue-yellow"}
        Of the stripes.
    """

    model: Model
    gratings: Gratings
    colour: Colour = "luminance"

    @property
    def shape(self) -> tuple[int, int, int]:
        """Orientations, frequencies, phases."""
        shown = self.gratings
        return len(shown.orientations_deg), len(shown.frequencies), shown.phases

    def inputs(self, cells: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """Gratings (N, C, H, W), normalised."""
        channels, height, width = self.model.input_shape
        pictures = self.gratings.draw((height, width), channels, cells, self.colour)
        return levels_of(self.model).to_input(pictures.to(self.model.device))

    def blank(self) -> torch.Tensor:
        """Even gray (1, C, H, W), normalised."""
        gray = torch.full((1, *self.model.input_shape), 0.5, device=self.model.device)
        return levels_of(self.model).to_input(gray)


def usual_gratings(
    side: int, step_deg: float = 5.0, phases: int = 8, contrast: float = 1.0
) -> Gratings:
    """Gratings for pictures of ``side`` pixels: from one cycle a picture, half octaves apart.

    Raises
    ------
    InputError
        If the step does not lie in 1 to 45 degrees.
    """
    if not 1 <= step_deg <= 45:
        raise InputError("Orientations are 1 to 45 degrees apart.")
    lowest = min(1 / side, HIGHEST / 2)
    count = 1 + int(np.floor(np.log2(HIGHEST / lowest) / OCTAVE + 1e-9))
    frequencies = HIGHEST * 2.0 ** (-OCTAVE * np.arange(count))[::-1]
    angles = np.arange(0, 180, step_deg)
    return Gratings(tuple(angles.tolist()), tuple(frequencies.tolist()), phases, contrast)
