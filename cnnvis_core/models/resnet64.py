"""The embedded image network: a compact residual CNN for small pictures."""

from __future__ import annotations

import torch
from torch import nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016, figure 2)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.relu2 = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        y = self.relu1(self.bn1(self.conv1(x)))
        return self.relu2(self.bn2(self.conv2(y)) + self.shortcut(x))


class ResNet64(nn.Module):
    """A residual network whose 7x7 first layer is worth looking at.

    The stem and every stage after the first halve the map: 32, 16, 8 and 4 positions a side for a
    64-pixel picture. Every activation is a module of its own and none works in place, so that
    hooks and gradient methods see what really happened.

    Parameters
    ----------
    classes : int
        Number of classes.
    channels : int
        Channels of the picture.
    widths : tuple of int
        Units of each stage; every stage after the first halves the map.
    depths : tuple of int
        Blocks of each stage.
    """

    def __init__(
        self,
        classes: int = 200,
        channels: int = 3,
        widths: tuple[int, ...] = (32, 64, 128, 320),
        depths: tuple[int, ...] = (1, 2, 2, 2),
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(channels, widths[0], 7, 2, 3, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(),
        )
        stages: list[nn.Module] = []
        inputs = widths[0]
        for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
            blocks: list[nn.Module] = []
            for block in range(depth):
                blocks.append(BasicBlock(inputs, width, 2 if stage and not block else 1))
                inputs = width
            stages.append(nn.Sequential(*blocks))
        self.stages = nn.Sequential(*stages)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map pictures (N, channels, H, W) to logits (N, classes)."""
        return self.fc(torch.flatten(self.pool(self.stages(self.stem(x))), 1))
