"""A probe gives what hooks give, for batches, and computes only what it is asked for."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.models.probe import ANSWER, Probe
from tests.support import lively


def untrained(name: str) -> cv.Model:
    torch.manual_seed(0)
    module = zoo.get_model(name, weights=None, num_classes=6)
    return cv.from_module(lively(module, (3, 64, 64)), (3, 64, 64))


def hooked(model: cv.Model, names: list[str], x: torch.Tensor) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    handles = []
    for name, part in model.module.named_modules():
        if name in names:

            def note(_, __, output, name=name):
                found[name] = output.clone()

            handles.append(part.register_forward_hook(note))
    with torch.no_grad():
        found[ANSWER] = model.module(x)
    for handle in handles:
        handle.remove()
    return found


BATCH = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("folded", [False, True])
@pytest.mark.parametrize(
    ("name", "layers"),
    [
        ("resnet18", ["conv1", "layer1.0.bn2", "layer2.1.conv2", "layer3.0.bn2", "avgpool"]),
        ("mobilenet_v2", ["features.0.1", "features.4.conv.1.0", "features.10.conv.2"]),
        ("densenet121", ["features.denseblock1.denselayer2.conv2", "features.norm5"]),
        ("squeezenet1_0", ["features.3.expand3x3", "features.7.expand3x3_activation"]),
    ],
)
def test_values_are_those_of_hooks_for_every_picture_of_a_batch(name, layers, folded):
    model = untrained(name)
    probe = Probe(model, [*layers, ANSWER], (3, 64, 64), folded=folded)
    assert probe.followed
    expected = hooked(model, layers, BATCH)
    with torch.no_grad():
        found = probe(BATCH)
    for layer, value in expected.items():
        scale = float(value.abs().max())
        torch.testing.assert_close(found[layer], value, atol=2e-5 * scale, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "layer", "behind"),
    [
        ("resnet18", "layer1.0.conv1", False),
        ("resnet18", "layer1.0.conv1", True),
        ("resnet18", "layer1.0.conv2", True),  # a sum with a shortcut: all units are computed
        ("resnet18", "fc", False),
        ("squeezenet1_0", "features.3.expand3x3", True),
        ("squeezenet1_0", "features.3.expand3x3_activation", False),
        ("mobilenet_v2", "features.4.conv.1.0", False),  # depthwise: all are computed
        ("mobilenet_v2", "features.10.conv.2", False),
    ],
)
def test_some_units_are_the_same_with_and_without_the_others(name, layer, behind):
    model = untrained(name)
    x = BATCH.clone().requires_grad_()
    probe = Probe(model, [layer], (3, 64, 64), behind, folded=True)
    units = [5, 2, 4]
    whole, some = probe.maps(x)[layer], probe.of_units({layer: units}).maps(x)[layer]
    assert some.shape == whole.shape
    torch.testing.assert_close(some[:, units], whole[:, units], atol=1e-4, rtol=1e-4)
    weights = torch.randn_like(whole[:, units])
    gradients = [
        torch.autograd.grad((maps[:, units] * weights).sum(), x)[0] for maps in (whole, some)
    ]
    scale = float(gradients[0].abs().max())
    torch.testing.assert_close(gradients[1], gradients[0], atol=1e-4 * scale, rtol=1e-3)


def test_the_other_units_of_a_convolution_are_not_computed():
    model = untrained("resnet18")
    probe = Probe(model, ["layer1.0.conv1"], (3, 64, 64), folded=True)
    narrow = probe.of_units({"layer1.0.conv1": [7]})
    with torch.no_grad():
        assert probe(BATCH)["layer1.0.conv1"].shape[1] == 64
        assert narrow(BATCH)["layer1.0.conv1"].shape[1] == 1
        others = narrow.maps(BATCH)["layer1.0.conv1"]
    assert float(others[:, :7].abs().max()) == 0 < float(others[:, 7].abs().max())
    both = Probe(model, ["layer1.0.conv1", "layer2.0.conv1"], (3, 64, 64), folded=True)
    some = both.of_units({"layer1.0.conv1": [7]})
    with torch.no_grad():  # the other layer reads all of them
        assert some(BATCH)["layer1.0.conv1"].shape[1] == 64


def test_a_network_that_cannot_be_followed_is_listened_to_and_left_alone():
    class Moody(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 6)

        def forward(self, x):
            maps = nn.functional.relu(self.conv(x), inplace=True)
            return self.fc((maps if float(maps.sum()) > 0 else -maps).mean((2, 3)))

    torch.manual_seed(0)
    model = cv.from_module(Moody(), (3, 64, 64))
    probe = Probe(model, ["conv", ANSWER], (3, 64, 64)).of_units({"conv": [1]})
    assert not probe.followed
    x = BATCH.clone().requires_grad_()
    found = probe.maps(x)
    with torch.no_grad():
        torch.testing.assert_close(found["conv"], model.module.conv(BATCH))
    assert float(torch.autograd.grad(found["conv"].sum(), x)[0].abs().max()) > 0
    assert not any(part._forward_hooks for part in model.module.modules())
    with pytest.raises(cv.ModelError, match="cannot take an input"):
        probe(torch.randn(1, 5, 8, 8))
    assert not any(part._forward_hooks for part in model.module.modules())
