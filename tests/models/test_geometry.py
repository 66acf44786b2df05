"""Layers and receptive fields, against published figures and the support of gradients."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.geometry import describe_layers
from cnnvis_core.models.model import ReceptiveField
from cnnvis_core.models.resnet64 import ResNet64
from cnnvis_core.models.zoo import builder


def positive(module: nn.Module) -> nn.Module:
    """A twin in which every input pixel that can reach a unit changes it, in double precision."""
    for name, part in list(module.named_modules()):
        parent, _, child = name.rpartition(".")
        holder = module.get_submodule(parent)
        if isinstance(part, nn.MaxPool2d):
            soft = nn.AvgPool2d(part.kernel_size, part.stride, part.padding, part.ceil_mode)
            setattr(holder, child, soft)
        elif isinstance(part, nn.BatchNorm2d | nn.LayerNorm | nn.ReLU | nn.ReLU6 | nn.GELU):
            # None of these mixes positions.
            setattr(holder, child, nn.Identity())
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(torch.rand_like(weight) * 0.1 + 0.01 if weight.ndim > 1 else weight * 0)
    return module.double().eval()


def support(module: nn.Module, name: str, side: int, position: int) -> tuple[int, int, int, int]:
    """Rows and columns (first, behind the last) of the input that reach one unit."""
    kept: list[torch.Tensor] = []
    handle = module.get_submodule(name).register_forward_hook(lambda _, __, out: kept.append(out))
    x = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    module(x)
    handle.remove()
    (gradient,) = torch.autograd.grad(kept[0][0, :, position, position].sum(), x)
    rows = gradient[0].abs().sum((0, 2)).nonzero().flatten().tolist()
    columns = gradient[0].abs().sum((0, 1)).nonzero().flatten().tolist()
    return rows[0], rows[-1] + 1, columns[0], columns[-1] + 1


def front(name: str, count: int) -> Callable[[], nn.Module]:
    """The first parts of a torchvision network, which are all that these checks look at."""

    def build() -> nn.Module:
        features: nn.Sequential = builder(name)().get_submodule("features")  # type: ignore[assignment]
        return features[:count]

    return build


# Sides are such that no stride drops a remainder of pixels, which no arithmetic on sizes can see.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], int, tuple[str, ...]]] = {
    "alexnet": (front("alexnet", 13), 159, ("0", "3", "6", "12")),
    "resnet64": (
        lambda: ResNet64(5, widths=(4, 6, 8), depths=(2, 2, 2)),
        97,
        ("stem.0", "stages.0.1.relu2", "stages.1.0.shortcut.0", "stages.2.0.conv1"),
    ),
    "squeezenet": (front("squeezenet1_1", 8), 159, ("2", "4.expand3x3", "7.squeeze")),
    "mobilenet_v2": (
        front("mobilenet_v2", 9), 97, ("0.0", "3.conv.2", "5.conv.2", "8.conv.1.0")
    ),
    "googlenet": (
        builder("googlenet"),
        97,
        ("maxpool1", "conv3.conv", "inception3a.branch2.1.conv", "inception3b.branch4.0"),
    ),
    "densenet121": (
        front("densenet121", 6), 95, ("conv0", "pool0", "denseblock1.denselayer4.conv2")
    ),
    "convnext": (front("convnext_tiny", 3), 64, ("0.0", "1.0.block.0", "1.2.block.0", "2.1")),
    "shufflenet": (
        builder("shufflenet_v2_x0_5"), 97, ("maxpool", "stage2.1.branch2.3", "stage2.3.branch2.5")
    ),
}  # fmt: skip


def expected_span(field: ReceptiveField, axis: int, position: int, side: int) -> tuple[int, int]:
    first = field.offset[axis] + position * field.stride[axis]
    return max(0, first), min(side, first + field.size[axis])


@pytest.mark.parametrize("family", NETWORKS)
def test_fields_are_the_support_of_the_gradient(family: str) -> None:
    build, side, names = NETWORKS[family]
    module = build().eval()
    fields = {layer.name: layer for layer in describe_layers(module, (3, side, side))}
    module = positive(module)
    for name in names:
        layer = fields[name]
        assert layer.receptive_field is not None, name
        for position in {0, layer.output_shape[-1] // 2, layer.output_shape[-1] - 1}:
            rows = expected_span(layer.receptive_field, 0, position, side)
            columns = expected_span(layer.receptive_field, 1, position, side)
            assert support(module, name, side, position) == (*rows, *columns), (name, position)


def test_vgg16_has_the_published_sizes() -> None:
    plan = blueprint("vgg16")
    layers = describe_layers(plan.skeleton(), plan.input_shape)
    convolutions = [layer.receptive_field for layer in layers if layer.kind == "Conv2d"]
    sizes = [field.size for field in convolutions if field]
    published = [3, 5, 10, 14, 24, 32, 40, 60, 76, 92, 132, 164, 196]
    assert sizes == [(size, size) for size in published]
    assert layers[-1].receptive_field is None
    assert layers[-1].output_shape == (1000,)


@pytest.mark.parametrize(
    ("name", "layer", "size"),
    [
        # Araujo, Norris and Sim, Distill 2019, table of torchvision-like networks.
        ("mobilenet_v2", "features.18.2", 491),
        ("alexnet", "features.12", 195),
        ("densenet121", "features.norm5", 2071),
    ],
)
def test_published_sizes_of_whole_networks(name: str, layer: str, size: int) -> None:
    plan = blueprint(name)
    found = {one.name: one for one in describe_layers(plan.skeleton(), plan.input_shape)}
    field = found[layer].receptive_field
    assert field is not None
    assert field.size == (size, size)
    assert field.stride == (32, 32)


class Functional(nn.Module):
    """Every operation here is a function or a method."""

    def __init__(self) -> None:
        super().__init__()
        self.same = nn.Conv2d(3, 4, (3, 5), padding="same", dilation=2)
        self.probe = nn.Identity()
        self.fc = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu(self.same(F.pad(x, (1, 2, 3, 4))))
        y = torch.max_pool2d(y[:, :, 2:, 1:], 2)
        z = F.avg_pool2d(y, 3, stride=1, padding=1)
        return self.fc(self.probe((y + z).mul(2)).mean((2, 3)))


def test_functions_methods_slices_and_padding_are_followed() -> None:
    layers = {layer.name: layer for layer in describe_layers(Functional(), (3, 20, 20))}
    # Padding moves the origin by 3 rows and 1 column, the slice back by 2 and 1; "same" with
    # dilation 2 adds 2 rows and 4 columns on both sides, the window of 3 after pooling 2 more.
    assert layers["same"].receptive_field == ReceptiveField((5, 9), (1, 1), (-5, -5))
    assert layers["probe"].receptive_field == ReceptiveField((10, 14), (2, 2), (-5, -6))
    assert layers["fc"].receptive_field is None


class Branches(nn.Module):
    """Ways to see the whole input, or to lose track of it."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.probe = nn.Identity()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.conv(x)
        if self.kind == "gate":
            y = y * y.mean((2, 3), keepdim=True).sigmoid()
        elif self.kind == "flip":
            y = y.flip(-1)
        elif self.kind == "data":
            y = y if float(y.sum()) > 1e9 else y * 2
        elif self.kind == "write":
            whole = torch.zeros_like(y)
            whole[:, :2] = self.conv(y)[:, :2]
            y = y + whole
        elif self.kind == "rows":
            y = y.mean(2, keepdim=True)
        return self.probe(y).mean((2, 3))


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        ("gate", None),
        ("flip", None),
        ("write", None),
        ("data", ReceptiveField((3, 3), (1, 1), (-1, -1))),
        ("rows", ReceptiveField((12, 3), (0, 1), (0, -1))),
    ],
)
def test_whole_map_operations_end_the_field(kind: str, field: ReceptiveField | None) -> None:
    layers = {layer.name: layer for layer in describe_layers(Branches(kind), (3, 12, 12))}
    assert layers["conv"].receptive_field == ReceptiveField((3, 3), (1, 1), (-1, -1))
    assert layers["probe"].receptive_field == field


def test_squeeze_and_excitation_sees_everything() -> None:
    plan = blueprint("efficientnet_b0")
    layers = describe_layers(plan.skeleton(), plan.input_shape)
    known = [layer.receptive_field is not None for layer in layers]
    first_unknown = known.index(False)
    assert "block.1" in layers[first_unknown].name  # the first gate
    assert not any(known[first_unknown:])


def test_layers_come_in_forward_order_once_each_and_leave_the_module_alone() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(4, 2)
            self.act = nn.ReLU()
            self.first = nn.Conv2d(3, 4, 3)
            self.norm = nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.act(self.norm(self.first(x)))
            return self.last(self.act(y).mean((2, 3)))

    module = Shared().train()
    module.norm.eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    layers = describe_layers(module, (3, 9, 8))
    assert [(layer.name, layer.kind, layer.channels, layer.output_shape) for layer in layers] == [
        ("first", "Conv2d", 4, (4, 7, 6)),
        ("norm", "BatchNorm2d", 4, (4, 7, 6)),
        ("act", "ReLU", 4, (4, 7, 6)),
        ("last", "Linear", 2, (2,)),
    ]
    assert module.training
    assert not module.norm.training
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(part._forward_hooks for part in module.modules())
    with pytest.raises(ModelError, match="cannot take"):
        describe_layers(module, (1, 9, 8))
    assert not any(part._forward_hooks for part in module.modules())
    assert module.training


def test_channels_are_counted_where_the_layer_keeps_them() -> None:
    plan = blueprint("convnext_tiny")
    layers = {layer.name: layer for layer in describe_layers(plan.skeleton(), plan.input_shape)}
    widened = layers["features.1.0.block.3"]
    assert widened.output_shape == (56, 56, 384)
    assert widened.channels == 384
    assert widened.receptive_field == layers["features.1.0.block.0"].receptive_field


def test_another_thread_is_not_disturbed() -> None:
    import threading

    other = nn.Conv2d(3, 4, 3)
    errors: list[BaseException] = []
    stop = threading.Event()

    def work() -> None:
        try:
            while not stop.is_set():
                other(torch.zeros(1, 3, 8, 8))
        except BaseException as error:  # the main thread reports it
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        for _ in range(3):
            describe_layers(blueprint("resnet18").skeleton(), (3, 64, 64))
    finally:
        stop.set()
        thread.join()
    assert not errors
