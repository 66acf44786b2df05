"""Changing training inputs at random, so that a network does not learn them by heart."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cnnvis_core.models.card import Modality
from cnnvis_core.transfer.settings import Augmentation

FARTHEST = 0.125  # of a picture's side that it is shifted by
LATEST = 0.25  # of a sound's length that it is shifted by
MASKED = 0.15  # of the bands, or of the time, that may be left out


def augmented(
    x: torch.Tensor, kind: Augmentation, modality: Modality, generator: torch.Generator
) -> torch.Tensor:
    """Inputs (N, C, H, W) changed at random, each in its own way.

    Parameters
    ----------
    x : Tensor (N, C, H, W)
        Not changed.
    kind : {"none", "light", "strong"}
        See `Finetuning`.
    modality : {"image", "audio"}
        Of pictures or spectrograms.
    generator : torch.Generator
        The same one gives the same changes.
    """
    if kind == "none":
        return x
    if modality == "audio":
        return _sounds(x, kind, generator)
    mirrored = torch.rand(len(x), generator=generator) < 0.5
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    return _shifted(x, generator) if kind == "strong" else x


def _shifted(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Each picture shifted by whole pixels, mirrored at its border.

    Nothing is resampled: who learns from blurred pictures names sharp ones badly.
    """
    height, width = x.shape[2:]
    down, across = round(FARTHEST * height), round(FARTHEST * width)
    padded = F.pad(x, (across, across, down, down), "reflect")
    tops = torch.randint(2 * down + 1, (len(x),), generator=generator).tolist()
    lefts = torch.randint(2 * across + 1, (len(x),), generator=generator).tolist()
    return torch.stack(
        [
            picture[:, top : top + height, left : left + width]
            for picture, top, left in zip(padded, tops, lefts, strict=True)
        ]
    )


def _sounds(x: torch.Tensor, kind: Augmentation, generator: torch.Generator) -> torch.Tensor:
    bands, frames = x.shape[2:]
    most = round(LATEST * frames)
    shifts = torch.randint(-most, most + 1, (len(x),), generator=generator).tolist()
    found = torch.stack([sound.roll(shift, 2) for sound, shift in zip(x, shifts, strict=True)])
    if kind == "strong":
        for sound in found:
            for axis, length in ((1, bands), (2, frames)):
                size = int(torch.randint(round(MASKED * length) + 1, (1,), generator=generator))
                start = int(torch.randint(length - size + 1, (1,), generator=generator))
                sound.narrow(axis, start, size).fill_(float(sound.mean()))
    return found
