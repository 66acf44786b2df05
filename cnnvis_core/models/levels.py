"""Between pictures in [0, 1] and what a network takes, for pictures and for spectrograms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch

from cnnvis_core.inputs import read_audio
from cnnvis_core.inputs.samples import samples
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import Model
from cnnvis_core.models.preprocessing import ImageFrontend


@dataclass(frozen=True, eq=False)
class Levels:
    """What 0 and 1 of a picture stand for.

    Attributes
    ----------
    low, high : Tensor
        What the network gets for 0 and for 1, to be broadcast to (1, C, H, W).
    empty : float
        What lies beyond the picture: middle gray, or silence.
    """

    low: torch.Tensor
    high: torch.Tensor
    empty: float

    def to_input(self, images: torch.Tensor) -> torch.Tensor:
        """What the network takes, of pictures (N, C, H, W)."""
        return self.low + (self.high - self.low) * images

    def from_input(self, x: torch.Tensor) -> torch.Tensor:
        """Pictures of what the network takes; what no picture shows is cut off."""
        return ((x - self.low) / (self.high - self.low)).clamp(0, 1)


def levels_of(model: Model) -> Levels:
    """The range of real pictures, or of real sound, in the numbers of a network's input."""
    device, frontend = model.device, model.frontend
    if isinstance(frontend, LogMel):
        low, high = (torch.tensor(level, device=device) for level in sound_levels(frontend))
        return Levels(low, high, 0.0)
    if isinstance(frontend, ImageFrontend):
        ends = torch.zeros(1, frontend.channels, 1, 1), torch.ones(1, frontend.channels, 1, 1)
        low, high = (frontend.normalise(end).to(device) for end in ends)
        return Levels(low, high, 0.5)
    return Levels(torch.tensor(0.0, device=device), torch.tensor(1.0, device=device), 0.5)


@lru_cache(maxsize=8)
def sound_levels(frontend: LogMel) -> tuple[float, float]:
    """Level of silence, and the highest of the sample clips when played as loud as can be."""
    silence = float(frontend.spectrogram(torch.zeros(1, frontend.min_samples)).min())
    second = torch.arange(max(frontend.min_samples, frontend.sample_rate)) / frontend.sample_rate
    tone = (frontend.fmin + frontend.fmax) / 4
    waves = [torch.sin(2 * torch.pi * tone * second)]
    waves += [frontend.resample(read_audio(sample.read())) for sample in samples("audio")]
    loudest = max(
        float(frontend.spectrogram((wave / wave.abs().max().clamp_min(1e-9))[None]).max())
        for wave in waves
    )
    return silence, loudest
