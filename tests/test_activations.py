"""Feature maps are what the network really computes, and nothing is left behind."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
import torchvision
from torch import nn

import cnnvis_core as cv
from cnnvis_core.activations import feature_maps, statistics, upsample
from cnnvis_core.models import has_activation
from tests.support import picture_model, small_network

FAMILIES = (
    *("alexnet", "vgg11", "resnet18", "squeezenet1_0", "densenet121", "googlenet"),
    *("inception_v3", "mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0", "convnext_tiny"),
    *("regnet_y_400mf", "mnasnet0_5", "mobilenet_v3_small"),
)


def untrained(name: str, side: int = 96) -> cv.Model:
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    return cv.from_module(torchvision.models.get_model(name, **extra), (3, side, side), name=name)


def by_hooks(model: cv.Model, x: torch.Tensor, names: set[str]) -> dict[str, torch.Tensor]:
    """Outputs of modules at their first call, by hooks set by hand."""
    found: dict[str, torch.Tensor] = {}

    def listen(name: str):
        def note(_, __, output):
            if name not in found:
                found[name] = output.clone()

        return note

    handles = [
        part.register_forward_hook(listen(name))
        for name, part in model.module.named_modules()
        if name in names
    ]
    with torch.no_grad():
        model.module(x)
    for handle in handles:
        handle.remove()
    return found


@pytest.mark.parametrize("name", FAMILIES)
def test_maps_equal_hooks_set_by_hand(name):
    model = untrained(name)
    x = torch.randn(1, *model.input_shape, generator=torch.Generator().manual_seed(1))
    names = [layer.name for layer in model.layers]
    ours, theirs = feature_maps(model, x, names), by_hooks(model, x, set(names))
    assert set(ours) == set(names)
    for layer in model.layers:
        expected = theirs[layer.name][0].float()
        if layer.axes == (2, 0, 1):  # ConvNeXt keeps the units last
            expected = expected.permute(2, 0, 1)
        np.testing.assert_array_equal(
            ours[layer.name].reshape(expected.shape).numpy(), expected.numpy(), err_msg=layer.name
        )
        assert ours[layer.name].shape[0] == layer.channels


CHANNELS_LAST = [  # of two blocks of ConvNeXt: permute, norm, linear, GELU, linear
    *(f"features.1.0.block.{part}" for part in range(1, 6)),
    *(f"features.5.2.block.{part}" for part in range(1, 6)),
]
CHANNELS_FIRST = ["features.0.0", "features.1.0.block.0", "features.1.0.block.6", "features.2.1"]


def test_units_of_convnext_are_where_its_definition_puts_them():
    torch.manual_seed(0)
    net = torchvision.models.convnext_tiny()
    # Maps of 16 x 96 positions for 96 units: no axis can be told by its length.
    model = cv.from_module(net, (3, 64, 384))
    x = torch.randn(1, 3, 64, 384, generator=torch.Generator().manual_seed(1))
    theirs = by_hooks(model, x, {*CHANNELS_LAST, *CHANNELS_FIRST})
    expected = {name: theirs[name][0] for name in CHANNELS_FIRST}
    expected |= {name: theirs[name].permute(0, 3, 1, 2)[0] for name in CHANNELS_LAST}
    ours = feature_maps(model, x, list(expected))
    for name, maps in expected.items():
        np.testing.assert_array_equal(ours[name].numpy(), maps.numpy(), err_msg=name)
    assert ours["features.1.0.block.2"].shape == (96, 16, 96)
    assert ours["features.1.0.block.4"].shape == (4 * 96, 16, 96)
    assert ours["features.5.2.block.4"].shape == (4 * 384, 4, 24)


def test_behind_the_non_linearity_is_what_the_next_layer_gets():
    model = untrained("resnet18")
    x = torch.randn(1, 3, 96, 96)
    theirs = by_hooks(model, x, {"relu", "layer1.0", "layer1.0.bn1"})
    maps = feature_maps(model, x, ["conv1", "layer1.0.conv1", "layer1.0.conv2"], rectified=True)
    torch.testing.assert_close(maps["conv1"], theirs["relu"][0])
    torch.testing.assert_close(maps["layer1.0.conv1"], theirs["layer1.0.bn1"][0].relu())
    torch.testing.assert_close(maps["layer1.0.conv2"], theirs["layer1.0"][0])


def test_functions_are_seen_as_modules_are():
    class Functional(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.fc = nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(torch.nn.functional.relu(self.conv(x)).mean((2, 3)))

    model = cv.from_module(Functional(), (3, 8, 8))
    x = torch.randn(1, 3, 8, 8)
    before = feature_maps(model, x, "conv")["conv"]
    behind = feature_maps(model, x, "conv", rectified=True)["conv"]
    assert before.min() < 0
    torch.testing.assert_close(behind, before.relu())
    assert has_activation(model, "conv")
    assert not has_activation(model, "fc")


def test_a_layer_that_no_non_linearity_follows_is_left_out():
    model = untrained("mobilenet_v2")
    linear = "features.1.conv.1"
    assert not has_activation(model, linear)
    assert feature_maps(model, torch.randn(1, 3, 96, 96), linear, rectified=True) == {}


def test_gates_and_turned_maps_are_not_taken_for_a_non_linearity():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.fc = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 1), nn.Linear(4, 2)

        def forward(self, x):
            y = self.a(x)
            y = self.b(y * torch.sigmoid(y)).permute(0, 2, 3, 1).relu()
            return self.fc(y.mean((1, 2)))

    model = cv.from_module(Gated(), (3, 9, 12))
    assert not has_activation(model, "a")
    assert not has_activation(model, "b")


class Fickle(nn.Module):
    """A pass that depends on values cannot be recorded."""

    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, x):
        y = self.conv(x)
        if float(y.mean()) > 1e9:
            y = y * 2
        return self.fc(torch.relu_(y).mean((2, 3)))


def test_what_cannot_be_recorded_is_hooked_in_this_thread_alone():
    model = cv.from_module(Fickle(), (3, 8, 8))
    x = torch.randn(1, 3, 8, 8)
    stop, seen = threading.Event(), []

    def disturb():
        while not stop.is_set():
            with torch.no_grad():
                model.module(torch.full((1, 3, 8, 8), 7.0))
            seen.append(1)

    other = threading.Thread(target=disturb)
    other.start()
    try:
        while not seen:
            pass
        expected = torch.nn.functional.conv2d(x, model.module.conv.weight, model.module.conv.bias)
        for _ in range(20):
            found = feature_maps(model, x, "conv")["conv"]
            torch.testing.assert_close(found, expected[0])
    finally:
        stop.set()
        other.join()
    assert not any(part._forward_hooks for part in model.module.modules())
    with pytest.raises(cv.ModelError, match="cannot be followed"):
        feature_maps(model, x, "conv", rectified=True)


class Picky(Fickle):
    """A pass that cannot be recorded and fails behind its first layer for some inputs."""

    def forward(self, x):
        if float(self.conv(x).abs().max()) > 100:
            raise RuntimeError("too bright")
        return super().forward(x)


def test_a_pass_that_fails_under_hooks_leaves_none_behind():
    model = cv.from_module(Picky(), (3, 8, 8))
    seen = []
    theirs = model.module.conv.register_forward_hook(lambda *_: seen.append(1))
    with pytest.raises(cv.ModelError, match="cannot take an input"):
        feature_maps(model, torch.full((1, 3, 8, 8), 1e6), ["conv", "fc"])
    assert seen, "the pass did not come to the hooked layer"
    assert list(model.module.conv._forward_hooks) == [theirs.id]
    assert not model.module.fc._forward_hooks
    theirs.remove()
    x = torch.randn(1, 3, 8, 8)
    expected = torch.nn.functional.conv2d(x, model.module.conv.weight, model.module.conv.bias)
    torch.testing.assert_close(feature_maps(model, x, "conv")["conv"], expected[0])


def test_only_what_is_needed_is_computed():
    model = untrained("vgg11")
    graph = model.recording((3, 96, 96))
    from cnnvis_core.models.graph import compute
    from cnnvis_core.models.replay import replay

    ran = []

    def counting(node, value, n):
        ran.append(node.name)
        return compute(node, value, n)

    with torch.inference_mode():
        replay(graph, torch.randn(1, 3, 96, 96), [graph.calls["features.3"].output], counting)
    assert ran.count("conv2d") == 2
    assert "linear" not in ran


def test_refusals_say_what_to_do():
    model = picture_model(small_network())
    with pytest.raises(cv.ModelError, match="no layer named"):
        feature_maps(model, torch.zeros(1, 3, 32, 32), "nowhere")
    wrapped = cv.from_module(small_network(), (3, 32, 32))
    with pytest.raises(cv.InputError, match="One input"):
        feature_maps(wrapped, torch.zeros(2, 3, 32, 32), "0")


def test_statistics_are_those_of_the_maps():
    maps = torch.tensor([[[0.0, 1.0], [2.0, -1.0]], [[-3.0, -1.0], [-2.0, -4.0]]])
    found = statistics(maps)
    np.testing.assert_allclose(found.mean, [0.5, -2.5])
    np.testing.assert_allclose(found.maximum, [2.0, -1.0])
    np.testing.assert_allclose(found.active_share, [0.5, 0.0])
    assert found.peak.tolist() == [[1, 0], [0, 1]]
    assert found.order("index").tolist() == [0, 1]
    reverse = statistics(maps.flip(0))
    assert [reverse.order(by).tolist() for by in ("mean", "maximum", "active share")] == [
        [1, 0]
    ] * 3


@pytest.mark.parametrize(("padding", "stride"), [(0, 1), (1, 2), (3, 2), (0, 4)])
def test_a_bright_place_stays_where_it_is_when_its_map_is_drawn_over_the_input(padding, stride):
    net = nn.Sequential(
        nn.Conv2d(1, 1, 7, stride, padding, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(1, 2),
    )
    nn.init.constant_(net[0].weight, 1.0)
    model = cv.from_module(net, (1, 61, 61))
    layer = model.layer("0")
    rows, cols = np.mgrid[:61, :61]
    for place in ((20, 36), (33, 25)):
        blob = np.exp(-((rows - place[0]) ** 2 + (cols - place[1]) ** 2) / 30)
        x = torch.from_numpy(blob).float()[None, None]
        over = upsample(feature_maps(model, x, "0")["0"].numpy(), layer, (61, 61))[0]
        weight = np.maximum(over, 0) ** 4
        middle = [(weight * axis).sum() / weight.sum() for axis in (rows, cols)]
        assert np.abs(np.subtract(middle, place)).max() < 0.35 * stride
        assert over.shape == (61, 61)


VGG16_FIELDS = (3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196)


def test_receptive_fields_of_vgg16_are_the_published_ones():
    model = untrained("vgg16", 224)
    convolutions = [layer for layer in model.layers if layer.kind == "Conv2d"]
    assert [layer.receptive_field.size for layer in convolutions] == [(n, n) for n in VGG16_FIELDS]


def test_a_sound_of_several_windows_is_refused_rather_than_shown_in_part():
    model = cv.load("soundnet-esc10")
    with pytest.raises(cv.ModelError, match="several windows"):
        feature_maps(model, torch.zeros(1, 1, 64, 700), "stem.0")
    assert feature_maps(model, torch.zeros(1, 1, 64, 313), "stem.0")["stem.0"].shape[0] == 32
