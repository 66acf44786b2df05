"""Small networks and models that tests share."""

from __future__ import annotations

import torch
from torch import nn

from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import Model
from cnnvis_core.models.preprocessing import ImageFrontend


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
