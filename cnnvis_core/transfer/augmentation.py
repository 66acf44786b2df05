"""Changing training inputs at random, so that a network does not learn them by heart."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from cnnvis_core.models.card import Modality
from cnnvis_core.transfer.settings import Augmentation

SMALLEST_PART = 0.7  # of a picture's side that is still seen
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
    return _parts(x, generator) if kind == "strong" else x


def _parts(x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """A part of each picture, enlarged to the whole."""
    share = SMALLEST_PART + (1 - SMALLEST_PART) * torch.rand(len(x), generator=generator)
    room = (1 - share)[:, None] * (2 * torch.rand(len(x), 2, generator=generator) - 1)
    theta = torch.zeros(len(x), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = share
    theta[:, :, 2] = room
    places = F.affine_grid(theta, list(x.shape), align_corners=False)
    return F.grid_sample(x, places, padding_mode="reflection", align_corners=False)


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
