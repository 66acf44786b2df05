"""Crops are what the activation came from, in the original."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile
import torch
from PIL import Image
from torch import nn
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.datasets import MemoryDataset
from cnnvis_core.datasets.decoding import window_starts
from cnnvis_core.exemplars import build_exemplars
from cnnvis_core.exemplars.crops import input_patch, picture_crop, sound_patch
from cnnvis_core.models.preprocessing import ImageFrontend
from tests.support import lively, small_network, sound_model

SHAPE = (3, 64, 64)


def untrained(name: str) -> cv.Model:
    torch.manual_seed(0)
    module = zoo.get_model(name, weights=None, num_classes=6)
    return cv.from_module(lively(module, SHAPE), SHAPE)


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("resnet18", "layer1.0.conv2"),
        ("mobilenet_v2", "features.3.conv.1.0"),
        ("vgg11", "features.6"),
        ("densenet121", "features.denseblock1.denselayer2.conv2"),
        ("squeezenet1_0", "features.3.expand3x3"),
        ("alexnet", "features.3"),
        ("googlenet", "conv3.conv"),
        ("shufflenet_v2_x1_0", "stage2.0.branch2.3"),
        ("regnet_x_400mf", "trunk_output.block1.block1-0.f.a.0"),
        ("convnext_tiny", "features.1.0.block.0"),
    ],
)
def test_a_crop_is_the_support_of_the_winning_activation(name, layer):
    model = untrained(name)
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8))
    x = model.preprocess(picture).requires_grad_(True)
    kept: list[torch.Tensor] = []
    part = dict(model.module.named_modules())[layer]
    handle = part.register_forward_hook(lambda _, __, output: kept.append(output))
    model.module(x)
    handle.remove()
    unit = 1
    row, col = divmod(int(kept[0][0, unit].argmax()), kept[0].shape[3])
    (gradient,) = torch.autograd.grad(kept[0][0, unit, row, col], x)
    rows, cols = (gradient[0].abs().sum(axes).nonzero() for axes in ((0, 2), (0, 1)))
    left, top, right, bottom = picture_crop(model, model.layer(layer), row, col, (64, 64))
    # ReLUs may close a way from the very edge; nothing may lie outside.
    assert top <= int(rows.min()) <= top + 4
    assert left <= int(cols.min()) <= left + 4
    assert bottom - 5 <= int(rows.max()) < bottom
    assert right - 5 <= int(cols.max()) < right


def test_a_crop_is_found_in_the_original_of_another_size(tmp_path):
    """A bright spot in a large picture lies in the crop of the unit that answers to it."""
    module = small_network()
    module[0].weight.data.fill_(1.0)
    base = cv.from_module(module, (3, 32, 32))
    model = cv.models.model.Model(
        base.card, base.module, base.device, base.classes, base.input_shape,
        ImageFrontend(40, (32, 32), (0.5,) * 3, (0.5,) * 3), base.layers,
    )  # fmt: skip
    for spot in ((150, 120), (260, 180), (210, 90)):
        values = np.zeros((300, 400, 3), np.uint8)
        values[spot[1] - 20 : spot[1] + 20, spot[0] - 20 : spot[0] + 20] = 255
        buffer = io.BytesIO()
        Image.fromarray(values).save(buffer, "PNG")
        dataset = MemoryDataset(["spot"], [buffer.getvalue()], [-1])
        out = tmp_path / str(spot)
        row = cv.run(build_exemplars(model, dataset, "0", 1, out)).top("0", 0).iloc[0]
        layer = model.layer("0")
        left, top, right, bottom = picture_crop(model, layer, row["row"], row["col"], (400, 300))
        assert left - 12 <= spot[0] <= right + 12
        assert top - 12 <= spot[1] <= bottom + 12
        assert right - left == pytest.approx(3 * 300 / 40, abs=0.5)


def test_crops_end_with_the_picture_and_unknown_fields_see_everything():
    model = cv.from_module(small_network(), (3, 32, 32))
    patch = input_patch(model, model.layer("0"), 0, 0)
    assert (patch.top, patch.left) == (0, 0)
    assert patch.bottom == patch.right == 2  # one pixel of its field is padding
    whole = picture_crop(model, model.layer("6"), 0, 0, (32, 32))
    assert whole == (0.0, 0.0, 32.0, 32.0)


def tone(seconds: float, at: float, rate: int = 8000) -> cv.Clip:
    """Silence with a click of a tone of 1500 Hz."""
    time = np.arange(round(seconds * rate)) / rate
    samples = np.sin(2 * np.pi * 1500 * time) * (np.abs(time - at) < 0.05)
    return cv.Clip((0.5 * samples).astype(np.float32), rate)


@pytest.mark.parametrize(
    ("seconds", "at"), [(0.4, 0.2), (1.0, 0.7), (3.3, 2.1), (3.3, 3.2), (75.0, 71.3)]
)
def test_a_patch_of_sound_holds_what_was_heard(seconds, at, tmp_path):
    module = small_network(1)
    module[0].weight.data.fill_(0.2)
    base = cv.from_module(module, (1, 16, 63), modality="audio")
    heard = sound_model(module)
    model = cv.models.model.Model(
        heard.card, base.module, base.device, base.classes, (1, 16, 63), heard.frontend, base.layers
    )
    clip = tone(seconds, at)
    buffer = io.BytesIO()
    soundfile.write(buffer, clip.samples, clip.sample_rate, format="WAV")
    dataset = MemoryDataset(["tone"], [buffer.getvalue()], [-1])
    row = cv.run(build_exemplars(model, dataset, "0", 1, tmp_path / "out")).top("0", 0).iloc[0]
    assert row["window"] == (0 if seconds <= 1 else row["window"])
    patch = sound_patch(model, model.layer("0"), row["row"], row["col"], row["window"], seconds)
    assert patch.start - 0.06 <= at <= patch.end + 0.06
    assert patch.end - patch.start < 0.15
    assert patch.low_hz * 0.8 < 1500 < patch.high_hz * 1.25


def test_windows_cover_a_clip():
    assert window_starts(63, 63) == [0]
    assert window_starts(126, 63) == [0, 63]
    assert window_starts(100, 63) == [0, 37]


def test_the_silence_behind_a_short_clip_is_no_part_of_it():
    model = cv.load("soundnet-esc10")
    layer = model.layer("stem.0")
    for col in range(0, layer.output_shape[2], 10):
        patch = sound_patch(model, layer, 0, col, 0, 0.3)
        assert 0 <= patch.start <= patch.end <= 0.3
    assert sound_patch(model, layer, 0, layer.output_shape[2] - 1, 0, 0.3).start == 0.3


@pytest.mark.parametrize("pad", [nn.ZeroPad2d(6), nn.ReflectionPad2d(6)])
def test_a_place_that_sees_only_the_border_sees_nothing_and_breaks_nothing(pad):
    torch.manual_seed(0)
    module = nn.Sequential(pad, nn.Conv2d(1, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    heard = sound_model(module)
    base = cv.from_module(module, (1, 16, 63), modality="audio")
    model = cv.models.model.Model(
        heard.card, base.module, base.device, base.classes, (1, 16, 63), heard.frontend, base.layers
    )
    layer = model.layer("1")
    for row in range(0, layer.output_shape[1]):
        for col in range(0, layer.output_shape[2], 3):
            patch = input_patch(model, layer, row, col)
            assert 0 <= patch.top <= patch.bottom <= 16
            assert 0 <= patch.left <= patch.right <= 63
            found = sound_patch(model, layer, row, col, 0, 1.0)
            assert 0 <= found.start <= found.end <= 1.01
