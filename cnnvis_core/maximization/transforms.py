"""How a picture is shaken before each look, so that no pattern wins that a small shift destroys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch.nn import functional as F

from cnnvis_core.errors import InputError

Border = Literal["mirror", "empty"]
LARGEST = 256  # pixels of jitter or padding


@dataclass(frozen=True)
class Transforms:
    """Random shifts, scales and rotations, one draw a step for all pictures of a batch.

    All are one resampling (bilinear) and not one after the other, which would blur and cost more.

    Attributes
    ----------
    jitter : int
        Largest shift along rows and columns, in pixels.
    scale : float
        Largest change of size, as a share: 0.1 for 0.9 to 1.1 times.
    rotate : float
        Largest angle in degrees.
    pad : int
        Pixels that are seen around the picture.
    border : {"mirror", "empty"}
        What is seen there: the picture mirrored at its edges, so that none shows, or nothing.
    jitter_rows : int or None
        Where shifts along rows have a bound of their own.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    jitter: int = 6
    scale: float = 0.1
    rotate: float = 10.0
    pad: int = 12
    border: Border = "mirror"
    jitter_rows: int | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be drawn."""
        if not all(0 <= n <= LARGEST for n in (self.jitter, self.pad, self.jitter_rows or 0)):
            raise InputError(f"Jitter and padding are 0 to {LARGEST} pixels.")
        if not 0 <= self.scale < 1 or not 0 <= self.rotate <= 180:
            raise InputError("The change of size lies in [0, 1), the angle in 0 to 180 degrees.")
        if self.border not in ("mirror", "empty"):
            raise InputError(f"The border is 'mirror' or 'empty', not {self.border!r}.")

    @property
    def idle(self) -> bool:
        """Whether nothing is drawn at random."""
        return not (self.jitter or self.scale or self.rotate or self.jitter_rows)

    def draw(self, generator: torch.Generator) -> View:
        """Draw one view."""
        shift_y, shift_x, scale, angle = (
            2 * torch.rand(4, generator=generator, dtype=torch.float64) - 1
        ).tolist()
        rows = self.jitter if self.jitter_rows is None else self.jitter_rows
        return View(
            shift_y * rows, shift_x * self.jitter, 1 + scale * self.scale, angle * self.rotate
        )


@dataclass(frozen=True)
class View:
    """One way of looking at a picture: shifts in pixels, a factor and an angle in degrees."""

    down: float = 0.0
    right: float = 0.0
    scale: float = 1.0
    degrees: float = 0.0


def look(
    images: torch.Tensor,
    view: View,
    extent: tuple[int, int],
    pad: int = 0,
    empty: torch.Tensor | None = None,
) -> torch.Tensor:
    """Pictures as they are seen in a view.

    Parameters
    ----------
    images : Tensor (N, C, H, W)
        The pictures.
    view : View
        Shifts, scale and angle about the middle.
    extent : tuple of int
        Height and width of the result, which shows the padded picture from edge to edge.
    pad : int
        Pixels around the picture.
    empty : Tensor, optional
        What lies beyond the picture, to be broadcast to (1, C, 1, 1); by default its mirror image.
    """
    height, width = images.shape[2:]
    if view == View() and extent == (height, width) and not pad:
        return images
    angle = math.radians(view.degrees)
    cos, sin = math.cos(angle) / view.scale, math.sin(angle) / view.scale
    # From the result's coordinates, -1 to 1, to the picture's; rows and columns differ in length.
    tall, wide = height + 2 * pad, width + 2 * pad
    theta = [
        [cos * wide / width, -sin * tall / width, -2 * view.right / width],
        [sin * wide / height, cos * tall / height, -2 * view.down / height],
    ]
    matrix = torch.tensor([theta], dtype=images.dtype, device=images.device)
    grid = F.affine_grid(matrix, [1, 1, *extent], align_corners=False)
    grid = grid.expand(len(images), -1, -1, -1)
    if empty is None:
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return F.grid_sample(images - empty, grid, align_corners=False) + empty
