"""YAMNet: MobileNet v1 on log-mel patches, 521 AudioSet classes."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.logmel import LogMel

WEIGHTS_URL = "https://github.com/w-hc/torch_audioset/releases/download/v0.1/yamnet.pth"
WEIGHTS_BYTES = 15_100_000  # about, in single precision
CLASSES_FILE = Path(__file__).resolve().parents[2] / "assets" / "models" / "yamnet_classes.txt"

BANDS, FRAMES, HOP = 64, 96, 48
# Output channels and stride of each layer after the first (Howard et al. 2017, table 1).
SEPARABLE = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (512, 1),
    (1024, 2),
    (1024, 1),
)


def same_padding(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Zeros before and after an axis under TensorFlow's ``"SAME"`` rule.

    The output has ceil(size / stride) positions; an odd zero goes to the end.
    """
    total = max(0, (-(-size // stride) - 1) * stride + kernel - size)
    return total // 2, total - total // 2


class ConvUnit(nn.Module):
    """Convolution with ``"SAME"`` padding, batch norm, ReLU.

    The patch has a fixed size, so the padding of each layer is fixed too and stands as a module of
    its own before a plain convolution.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        size: tuple[int, int],
        groups: int,
    ) -> None:
        super().__init__()
        top, bottom = same_padding(size[0], kernel, stride)
        left, right = same_padding(size[1], kernel, stride)
        self.pad = nn.ZeroPad2d((left, right, top, bottom))
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=1e-4)
        self.relu = nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, ceil(H / stride), ceil(W / stride))."""
        return self.relu(self.bn(self.conv(self.pad(x))))


class FirstLayer(nn.Module):
    """The one full convolution."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, int]) -> None:
        super().__init__()
        self.fused = ConvUnit(inputs, outputs, 3, 2, size, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / 2, W / 2)."""
        return self.fused(x)


class SeparableLayer(nn.Module):
    """A convolution of each channel by itself, then one across channels."""

    def __init__(self, inputs: int, outputs: int, stride: int, size: tuple[int, int]) -> None:
        super().__init__()
        half = (-(-size[0] // stride), -(-size[1] // stride))
        self.depthwise_conv = ConvUnit(inputs, inputs, 3, stride, size, inputs)
        self.pointwise_conv = ConvUnit(inputs, outputs, 1, 1, half, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map (N, inputs, H, W) to (N, outputs, H / stride, W / stride)."""
        return self.pointwise_conv(self.depthwise_conv(x))


class YAMNet(nn.Module):
    """Names 521 kinds of sound, any number at once (Plakal and Ellis, YAMNet, 2019).

    A spectrogram is cut into patches of 96 frames (0.96 s), 48 frames apart; where the last one
    does not end with the sound, one more does. Patches pass as a batch: the layers see
    (N * patches, channels, bands, frames).

    Frequency is the vertical axis here, as in every picture of this project. The public weights
    have time there, so their 3x3 kernels are transposed as they are loaded; a state_dict of this
    class carries ``kernels_mel_first`` and is loaded as it is.

    Parameters
    ----------
    classes : int
        Number of classes.
    channels : int
        Channels of the input, 1 for sound.
    """

    kernels_mel_first: torch.Tensor

    def __init__(self, classes: int = 521, channels: int = 1) -> None:
        super().__init__()
        size = (BANDS, FRAMES)
        self.layer1 = FirstLayer(channels, 32, size)
        size, inputs = (size[0] // 2, size[1] // 2), 32
        for number, (outputs, stride) in enumerate(SEPARABLE, start=2):
            self.add_module(f"layer{number}", SeparableLayer(inputs, outputs, stride, size))
            size, inputs = (-(-size[0] // stride), -(-size[1] // stride)), outputs
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(inputs, classes)
        self.register_buffer("kernels_mel_first", torch.tensor(True))
        self.register_load_state_dict_pre_hook(transpose_public_kernels)  # type: ignore[no-untyped-call]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map spectrograms (N, channels, 64, frames) to logits (N, classes).

        The sigmoid of a logit is the mean over the patches of the sigmoid scores, which is the
        published model's answer for a whole clip.

        Raises
        ------
        ModelError
            If there are not 64 bands, or fewer frames than one patch.
        """
        if x.shape[-2] != BANDS or x.shape[-1] < FRAMES:
            raise ModelError(
                f"YAMNet needs {BANDS} bands and at least {FRAMES} frames (0.98 s), "
                f"not {tuple(x.shape[-2:])}; pad the sound."
            )
        patches = cut(x)
        n, count = patches.shape[:2]
        logits = self.name_patches(patches.flatten(0, 1)).unflatten(0, (n, count))
        if count == 1:
            return logits[:, 0]
        # Means of p and of 1 - p as logarithms: exact where the scores round to 0 or 1.
        high = F.logsigmoid(logits).logsumexp(1)
        low = F.logsigmoid(-logits).logsumexp(1)
        return high - low

    def name_patches(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (N, classes) of patches (N, channels, 64, 96)."""
        for number in range(1, len(SEPARABLE) + 2):
            x = self.get_submodule(f"layer{number}")(x)
        return self.classifier(self.pool(x).flatten(1))


def cut(x: torch.Tensor) -> torch.Tensor:
    """Patches (N, count, C, bands, 96) of (N, C, bands, frames); the last one ends with x."""
    last = x.shape[-1] - FRAMES
    starts = [*range(0, last, HOP), last]
    return torch.stack([x[..., start : start + FRAMES] for start in starts], 1)


def transpose_public_kernels(
    module: nn.Module, state: OrderedDict[str, Any], prefix: str, *_: Any
) -> None:
    """Swap the axes of 3x3 kernels of a state_dict in the public layout, which has no marker."""
    marker = prefix + "kernels_mel_first"
    if marker in state:
        return
    state[marker] = torch.tensor(True)
    for name, value in state.items():
        if name.startswith(prefix) and name.endswith("conv.weight") and value.ndim == 4:
            state[name] = value.transpose(2, 3).contiguous()


def yamnet_frontend() -> LogMel:
    """Spectrogram that YAMNet was trained on: 25 ms windows, 10 ms hop, 64 bands at 16 kHz.

    Shorter sounds are padded with silence to one patch, 0.975 s.
    """
    return LogMel(
        sample_rate=16000,
        window=400,
        hop=160,
        n_fft=512,
        n_mels=BANDS,
        fmin=125.0,
        fmax=7500.0,
        offset=0.001,
        power=1.0,
        formula="tensorflow",
        centred=False,
        min_seconds=0.975,
    )


def yamnet_classes(path: Path = CLASSES_FILE) -> tuple[str, ...]:
    """Display names (521) in the order of the logits (AudioSet ontology, Google, CC BY 4.0).

    Raises
    ------
    ModelError
        If the list that ships with the project is missing.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise ModelError("The list of YAMNet's classes is missing; reinstall cnnvis.") from error
    return tuple(line for line in lines if line and not line.startswith("#"))
