"""A validated sound."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.brief import Brief


@dataclass(frozen=True, eq=False, repr=False)
class Clip(Brief):
    """A mono sound that holds energy and only finite samples.

    Attributes
    ----------
    samples : ndarray of float32, shape (n,)
        Amplitudes, full scale is 1.
    sample_rate : int
        Samples a second, in Hz.
    notes : tuple of str
        What was changed on the way in, one plain sentence each.
    """

    samples: NDArray[np.float32]
    sample_rate: int
    notes: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate
