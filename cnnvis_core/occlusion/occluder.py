"""What every occluder can do, for pictures and for sound."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.occlusion.grid import Cell, Grid
from cnnvis_core.occlusion.incremental.boxes import Change


class Occluder(Protocol):
    """Covers places of one input, each time starting from the clean input."""

    @property
    def grid(self) -> Grid:
        """Where the patches lie."""
        ...

    @property
    def fill(self) -> str:
        """What places are covered with, in words."""
        ...

    def clean(self) -> torch.Tensor:
        """The network's input (1, C, H, W) with nothing covered."""
        ...

    def covered(self, cells: Sequence[Cell]) -> torch.Tensor:
        """The network's inputs (len(cells), C, H, W), each with one patch covered."""
        ...

    def changes(self, cells: Sequence[Cell]) -> Change | None:
        """How those inputs differ from the clean one; None where none does."""
        ...

    def masked(self, cover: Sequence[NDArray[np.bool_]]) -> torch.Tensor:
        """The network's inputs, each with all places of a map (H, W) covered."""
        ...
