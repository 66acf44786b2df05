"""The embedded audio network: a compact plain CNN on log-mel spectrograms."""

from __future__ import annotations

import torch
from torch import nn

from cnnvis_core.errors import ModelError


class SoundNet(nn.Module):
    """A plain CNN whose 7x7 first layer is worth looking at.

    Every stage is pooling, then convolutions with batch norm and ReLU, without shortcuts or gates.
    The last maps are averaged over frequency, then read twice along time: their mean hears rain,
    their maximum a single bark (Kong et al. 2020, PANNs). Every activation is a module of its own
    and none works in place, so that hooks see what happened.

    Clips longer than ``frames`` are cut into windows of that length, half a window apart, the last
    one ending with the clip; each window is named by itself and the logits are averaged with the
    weights of `window_weights`, so that one event in a long recording of silence still decides.

    Parameters
    ----------
    classes : int
        Number of classes.
    channels : int
        Channels of the input, 1 for sound.
    widths : tuple of int
        Units of the stem and of each stage; every stage begins with a 2x2 pooling.
    depth : int
        Convolutions of each stage.
    dropout : float
        Share of the pooled features that training leaves out.
    frames : int
        Window in frames; what the network was trained on.
    focus : float
        How much louder windows count; see `window_weights`.
    """

    def __init__(
        self,
        classes: int = 10,
        channels: int = 1,
        widths: tuple[int, ...] = (32, 64, 128, 256),
        depth: int = 2,
        dropout: float = 0.3,
        frames: int = 313,
        focus: float = 4.0,
    ) -> None:
        super().__init__()
        self.frames = frames
        self.focus = focus
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 7, 2, 3, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        stages: list[nn.Module] = []
        inputs = widths[0]
        for width in widths[1:]:
            layers: list[nn.Module] = [nn.MaxPool2d(2)]
            for _ in range(depth):
                layers += [
                    nn.Conv2d(inputs, width, 3, 1, 1, bias=False),
                    nn.BatchNorm2d(width),
                    nn.ReLU(),
                ]
                inputs = width
            stages.append(nn.Sequential(*layers))
        self.stages = nn.Sequential(*stages)
        self.dropout = nn.Dropout(dropout)
        self.fc = nn.Linear(2 * inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map spectrograms (N, channels, mels, frames) to logits (N, classes).

        Raises
        ------
        ModelError
            If there are fewer frames than one window.
        """
        if x.shape[-1] < self.frames:
            raise ModelError(
                f"SoundNet needs at least {self.frames} frames, not {x.shape[-1]}; pad the sound."
            )
        if x.shape[-1] == self.frames:
            return self.name_windows(x)
        windows = split(x, self.frames, self.frames // 2)
        n, count = windows.shape[:2]
        logits = self.name_windows(windows.flatten(0, 1)).unflatten(0, (n, count))
        return (window_weights(windows, self.focus)[..., None] * logits).sum(1)

    def name_windows(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of spectrograms (N, channels, mels, frames) of one window each."""
        maps = self.stages(self.stem(x)).mean(2)
        return self.fc(self.dropout(torch.cat([maps.mean(2), maps.amax(2)], 1)))


def split(x: torch.Tensor, size: int, hop: int) -> torch.Tensor:
    """Overlapping windows (N, count, C, H, size) of (N, C, H, W); the last one ends with x."""
    last = x.shape[-1] - size
    starts = [*range(0, last, hop), last]
    return torch.stack([x[..., start : start + size] for start in starts], 1)


def window_weights(windows: torch.Tensor, focus: float) -> torch.Tensor:
    """Weights (N, count), each row of sum 1, that favour windows with loud moments.

    A window's level is its loudest frame's mean over the bands of the normalised log-mel picture;
    the weights are the softmax of ``focus`` times the level. A plain mean would let silent windows,
    which mean nothing, outvote a short event: of 80 held-out clips of ESC-10 (87 % right alone),
    53 % were named rightly by the plain mean after they were set into 20 s of digital silence, and
    85 % with a focus of 4.
    """
    level = windows.mean(3).amax(3).mean(2)
    return (focus * level).softmax(1)
