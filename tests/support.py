"""Small networks and models that tests share."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import Model
from cnnvis_core.models.preprocessing import ImageFrontend


def torch_file(content: object, **options: Any) -> bytes:
    """What ``torch.save`` writes."""
    buffer = io.BytesIO()
    torch.save(content, buffer, **options)
    return buffer.getvalue()


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.write_text, (self.path, "executed")


def small_network(channels: int = 3, classes: int = 5, seed: int = 0) -> nn.Module:
    """A convolutional network with random weights that takes any size."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(channels, 8, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 12, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(2),
        nn.Flatten(),
        nn.Linear(48, classes),
    ).eval()


def picture_model(
    module: nn.Module, size: tuple[int, int] = (32, 32), channels: int = 3, classes: int = 5
) -> Model:
    """A model around a network for pictures, with a normalisation that is not the identity."""
    mean, std = (0.4, 0.5, 0.6, 0.3)[:channels], (0.2, 0.25, 0.3, 0.5)[:channels]
    return Model(
        ModelCard("test", "Test network", "image", "a test", "none", 0, True, classes),
        module.requires_grad_(False).eval(),
        torch.device("cpu"),
        tuple(f"class {i}" for i in range(classes)),
        (channels, *size),
        ImageFrontend(min(size), size, mean, std, "bilinear", channels),
    )


def sound_frontend() -> LogMel:
    """A small front end: 8 kHz, 16 bands, one second at least."""
    return LogMel(8000, 256, 128, 256, 16, 50.0, 4000.0, 1e-4, min_seconds=0.5)


def sound_model(module: nn.Module, classes: int = 5) -> Model:
    """A model around a network for log-mel spectrograms."""
    return Model(
        ModelCard("test-sound", "Test sound network", "audio", "a test", "none", 0, True, classes),
        module.requires_grad_(False).eval(),
        torch.device("cpu"),
        tuple(f"class {i}" for i in range(classes)),
        (1, 16, 63),
        sound_frontend(),
    )


def lively(module: nn.Module, shape: tuple[int, ...], seed: int = 0) -> nn.Module:
    """The network in eval mode, its batch norms with the statistics of a few pictures of noise.

    With those it was born with, what a patch changes fades away on its path through the network.
    """
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    noise = torch.randn(4, *shape, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        module(noise)
    return module.eval().requires_grad_(False)
