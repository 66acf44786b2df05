"""Control units are the layer's own but for the order of the weights in their kernels."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.models.probe import Probe
from tests.support import lively

SHAPE = (3, 64, 64)


def model_of(name: str, even: bool) -> cv.Model:
    """With random weights; ``even``: all weights of a kernel alike, so that shuffling is idle."""
    torch.manual_seed(0)
    module = zoo.get_model(name, weights=None, num_classes=6)
    for part in module.modules():
        if even and isinstance(part, nn.Conv2d):
            part.weight.data[:] = torch.randn(len(part.weight), 1, 1, 1) * part.weight.std()
    return cv.from_module(lively(module, SHAPE), SHAPE)


LAYERS = [
    ("resnet18", ["conv1", "bn1", "layer1.0.conv2", "layer2.0.conv2", "layer2.0.downsample.0"]),
    ("resnext50_32x4d", ["layer1.0.conv2", "layer1.1.bn3"]),
    ("mobilenet_v2", ["features.0.0", "features.2.conv.0.1", "features.4.conv.1.0"]),
    ("squeezenet1_0", ["features.0", "features.3.expand3x3"]),
]


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize("behind", [False, True])
@pytest.mark.parametrize(("name", "layers"), LAYERS)
def test_shuffling_even_kernels_gives_the_units_themselves(name, layers, behind, folded):
    model = model_of(name, even=True)
    x = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1))
    probe = Probe(model, layers, SHAPE, behind, folded, control=(5, 0))
    with torch.inference_mode():
        found = probe.compared(x)
        plain = Probe(model, layers, SHAPE, behind).maps(x)
    assert found.control.keys() == found.drive.keys() == found.maps.keys() == plain.keys()
    for layer, maps in found.control.items():
        scale = float(plain[layer].abs().max())
        torch.testing.assert_close(found.maps[layer], plain[layer], atol=1e-5 * scale, rtol=1e-4)
        drive = found.drive[layer]
        rectified = drive.clamp(0, 6 if "mobilenet" in name else None) if behind else drive
        torch.testing.assert_close(rectified, plain[layer], atol=1e-5 * scale, rtol=1e-4)
        assert maps.shape[1] == 5
        scale = float(drive.abs().max())
        apart = (maps[:, :, None] - drive[:, None]).abs().amax((0, 3, 4)).amin(1)
        assert float(apart.max()) < 1e-4 * scale


def test_uneven_kernels_give_other_units_that_keep_their_weights():
    model = model_of("resnet18", even=False)
    x = torch.randn(2, *SHAPE)
    for seed in (0, 1):
        probe = Probe(model, ["conv1"], SHAPE, control=(80, seed))  # more than the layer has
        with torch.inference_mode():
            found = probe.compared(x)
        own, control = found.maps["conv1"], found.control["conv1"]
        assert control.shape[1] == 80
        apart = (control[:, :, None, :4, :4] - own[:, None, :, :4, :4]).abs().amax((0, 3, 4))
        assert float(apart.min()) > 1e-3
        # Over many inputs of noise a shuffled kernel answers as strongly as the kernel itself.
        ratio = (
            control.std((0, 2, 3)).sort().values[[20, 60]]
            / own.std((0, 2, 3)).sort().values[[16, 48]]
        )
        assert (ratio - 1).abs().max() < 0.2


def test_what_no_kernel_makes_has_no_control_units():
    model = model_of("resnet18", even=False)
    probe = Probe(model, ["conv1", "fc"], SHAPE, control=(4, 0))
    with torch.inference_mode():
        found = probe.compared(torch.randn(1, *SHAPE))
    assert found.maps.keys() == {"conv1", "fc"}
    assert found.control.keys() == found.drive.keys() == {"conv1"}


def test_a_sum_that_spreads_one_channel_over_all_has_no_control_units():
    class Centred(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Conv2d(3, 8, 3), nn.Linear(8, 2)

        def forward(self, x):
            maps = self.first(x)
            return self.last(torch.relu(maps + maps.mean(1, keepdim=True)).mean((2, 3)))

    model = cv.from_module(Centred(), (3, 16, 16))
    table = cv.run(cv.rank_orientation(model, "first")).table
    assert len(table) == 8
    assert table["selective"].isna().all() or table["selective"].notna().all()


def test_the_mean_over_channels_added_behind_a_kernel_is_not_followed():
    class Shifted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.other = nn.Conv2d(3, 8, 3), nn.Conv2d(3, 1, 3)
            self.last = nn.Linear(8, 2)

        def forward(self, x):
            return self.last(torch.relu(self.first(x) + self.other(x)).mean((2, 3)))

    model = cv.from_module(Shifted(), (3, 16, 16))
    table = cv.run(cv.rank_orientation(model, "first")).table
    assert table["selective"].isna().all()
