"""Forward passes as lists of operations: equal to the module, or refused with a reason."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from cnnvis_core.models.graph import Graph, Ref, UntraceableError, record, replace, resolve
from cnnvis_core.models.simplify import simplify
from tests.support import lively, small_network

SHAPE = (3, 20, 27)


def evaluate(graph: Graph, x: torch.Tensor) -> list[Any]:
    """Values of all nodes: a little interpreter."""
    values: list[Any] = [x]

    def found(leaf: Any) -> Any:
        if not isinstance(leaf, Ref):
            return leaf
        return values[leaf.node] if leaf.item is None else values[leaf.node][leaf.item]

    for node in graph.nodes[1:]:
        args = replace(resolve(node.args, len(x)), found)
        kwargs = {k: replace(resolve(v, len(x)), found) for k, v in node.kwargs.items()}
        values.append(None if node.op is None else node.op(*args, **kwargs))
    return values


def answer(graph: Graph, x: torch.Tensor) -> torch.Tensor:
    """What the recorded operations say."""
    value = evaluate(graph, x)[graph.output.node]
    return torch.as_tensor(value if graph.output.item is None else value[graph.output.item])


def names(graph: Graph) -> list[str]:
    return [node.name for node in graph.nodes if node.op is not None]


class Lambda(nn.Module):
    """A function of a tensor and of named parts."""

    def __init__(self, function: Callable[[Any, torch.Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.function = function
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(self, x)


def head(channels: int) -> nn.Module:
    return nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(4 * channels, 5))


def in_place() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        y = F.relu_(net.a(x))
        y += net.b(y)
        y.mul_(0.5).clamp_(min=-1)
        return net.head(y)

    b = nn.Sequential(nn.Conv2d(6, 6, 3, padding=1), nn.Hardswish(inplace=True))
    return Lambda(forward, a=nn.Conv2d(3, 6, 3), b=b, head=head(6))


def normed(affine: bool, bias: bool) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=bias),
        nn.BatchNorm2d(8, affine=affine),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, (3, 2), stride=2, padding=1, dilation=2, groups=4, bias=bias),
        nn.BatchNorm2d(8, affine=affine, eps=0.1),
        nn.SiLU(),
        head(8),
    )


def norm_first() -> nn.Module:
    return nn.Sequential(nn.BatchNorm2d(3), nn.ReLU(), nn.Conv2d(3, 6, 3), head(6))


def norm_of_a_map_that_others_read() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        y = net.conv(x)
        return net.head(net.norm(y) + y)

    return Lambda(forward, conv=nn.Conv2d(3, 6, 3), norm=nn.BatchNorm2d(6), head=head(6))


def dropouts() -> nn.Module:
    return nn.Sequential(
        nn.Dropout2d(0.5), nn.Conv2d(3, 6, 3), nn.AlphaDropout(), head(6), nn.Dropout(0.5)
    )


def views() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        n, c, h, w = x.shape
        patches = x.view(n * c, 1, h, w).reshape(n, c, -1).transpose(1, 2)[:, 2:]
        y = torch.stack([x[..., :20], x[..., 7:]], 1).flatten(0, 1)
        scores = net.head(net.conv(y)).unflatten(0, (n, 2)).mean(1)
        return scores + patches.mean((1, 2)).view(-1, 1)

    return Lambda(forward, conv=nn.Conv2d(3, 6, 3), head=head(6))


def shuffled() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        left, right = net.stem(x).chunk(2, 1)
        y = torch.cat((left, net.branch(right)), 1)
        n, c, h, w = y.shape
        y = y.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, -1, h, w)
        return net.head(y)

    branch = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1, groups=4), nn.BatchNorm2d(4), nn.ReLU())
    return Lambda(forward, stem=nn.Conv2d(3, 8, 3), branch=branch, head=head(8))


def channels_last() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        y = net.stem(x)
        z = net.mlp(net.norm(net.depthwise(y).permute(0, 2, 3, 1)))
        return net.head(y + z.permute(0, 3, 1, 2))

    return Lambda(
        forward,
        stem=nn.Conv2d(3, 6, 4, stride=4),
        depthwise=nn.Conv2d(6, 6, 3, padding=1, groups=6),
        norm=nn.LayerNorm(6),
        mlp=nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 6)),
        head=head(6),
    )


def squeezed() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        return net.conv(x).amax((2, 3), keepdim=True).squeeze()

    return Lambda(forward, conv=nn.Conv2d(3, 5, 3))


def several_values() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        a, b = net.conv(x).split([2, 4], 1)
        largest, where = b.flatten(2).max(2)
        return torch.cat([a.mean((2, 3)), largest, where / 100], 1)

    return Lambda(forward, conv=nn.Conv2d(3, 6, 3))


def tensors_made_on_the_way() -> nn.Module:
    def forward(net: Any, x: torch.Tensor) -> Any:
        x = x.to(net.head[2].weight.device)
        n, (h, w) = len(x), x.shape[2:]
        ramp = torch.linspace(-1, 1, w, device=x.device).expand(n, 1, h, w)
        more = torch.zeros(n + 1, 2 * n, h, device=x.device)[1:, :n].mean((1, 2)).view(-1, 1, 1, 1)
        return net.head(torch.cat([x, ramp + more], 1))

    return Lambda(forward, head=head(4))


NETWORKS = {
    "plain": small_network,
    "in place": in_place,
    "batch norm": lambda: normed(affine=True, bias=True),
    "batch norm without affine": lambda: normed(affine=False, bias=False),
    "batch norm first": norm_first,
    "batch norm of a map that others read": norm_of_a_map_that_others_read,
    "dropout": dropouts,
    "views": views,
    "ShuffleNet": shuffled,
    "ConvNeXt": channels_last,
    "squeeze": squeezed,
    "several values": several_values,
    "tensors made on the way": tensors_made_on_the_way,
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return lively(NETWORKS[name](), SHAPE)


def inputs(count: int) -> torch.Tensor:
    return torch.randn(count, *SHAPE, generator=torch.Generator().manual_seed(count))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_recorded_operations_are_the_module(name: str) -> None:
    module = network(name)
    graph = record(module, SHAPE)
    for count in (2, 3, 4, 7):
        torch.testing.assert_close(answer(graph, inputs(count)), module(inputs(count)))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_simplified_operations_are_the_module(name: str) -> None:
    module = network(name)
    graph = simplify(record(module, SHAPE))
    for count in (2, 3, 4, 7):
        torch.testing.assert_close(
            answer(graph, inputs(count)), module(inputs(count)), atol=1e-5, rtol=1e-5
        )


@pytest.mark.parametrize("name", NETWORKS)
def test_one_input_alone_gets_the_same_answer(name: str) -> None:
    module = network(name)
    graph = simplify(record(module, SHAPE))
    together = module(inputs(4))
    alone = torch.cat([answer(graph, x[None]) for x in inputs(4)])
    torch.testing.assert_close(alone, together, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_are_known_for_any_batch(name: str) -> None:
    graph = record(network(name), SHAPE)
    for node, value in zip(graph.nodes, evaluate(graph, inputs(5)), strict=True):
        several = value if isinstance(value, list | tuple) else [value]
        assert [tuple(v.shape) for v in several] == [resolve(s, 5) for s in node.shapes]


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_batch_norm_is_folded_in_double_precision(affine: bool, bias: bool) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 8, 3, groups=1, bias=bias), nn.BatchNorm2d(8, affine=affine, eps=1e-3)
    mean, variance = torch.randn(8), torch.logspace(-6, 3, 8)
    norm.load_state_dict({"running_mean": mean, "running_var": variance}, strict=False)
    if affine:
        norm.load_state_dict({"weight": torch.randn(8), "bias": torch.randn(8)}, strict=False)
    module = nn.Sequential(conv, norm, head(8)).eval().requires_grad_(False)
    graph = simplify(record(module, SHAPE))
    assert "batch_norm" not in names(graph)
    weight, shift = graph.nodes[1].args[1:3]
    # By hand: gamma (w x + b - mean) / sqrt(variance + eps) + beta.
    gain = (norm.weight.double() if affine else 1) / (variance.double() + 1e-3).sqrt()
    start = (0 if conv.bias is None else conv.bias.double()) - mean.double()
    beta = norm.bias.double() if affine else 0
    torch.testing.assert_close(
        weight, (conv.weight.double() * gain[:, None, None, None]).float(), rtol=2e-7, atol=0
    )
    torch.testing.assert_close(shift, (start * gain + beta).float(), rtol=2e-7, atol=0)


@pytest.mark.parametrize("name", ["batch norm first", "batch norm of a map that others read"])
def test_a_batch_norm_without_a_convolution_of_its_own_stays(name: str) -> None:
    assert "batch_norm" in names(simplify(record(network(name), SHAPE)))


def test_batch_norm_with_the_statistics_of_the_batch_stays() -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6, track_running_stats=False), head(6)
    ).eval()
    graph = simplify(record(module, SHAPE))
    torch.testing.assert_close(answer(graph, inputs(4)), module(inputs(4)), atol=1e-5, rtol=1e-5)


def test_operations_without_effect_are_dropped() -> None:
    module = nn.Sequential(
        nn.Identity(),
        nn.Dropout(),
        nn.ZeroPad2d(0),
        nn.AdaptiveAvgPool2d(SHAPE[1:]),
        nn.Dropout2d(),
        nn.Flatten(),
        nn.Linear(3 * 20 * 27, 5),
        nn.Dropout(),
    ).eval()
    graph = simplify(record(module, SHAPE))
    assert len(names(graph)) == 2
    torch.testing.assert_close(answer(graph, inputs(3)), module(inputs(3)))


def test_dropout_that_is_always_on_stays() -> None:
    def forward(net: Any, x: torch.Tensor) -> Any:
        return F.dropout(net.head(x), 0.5, training=True)

    assert "dropout" in names(simplify(record(Lambda(forward, head=head(3)), SHAPE)))


class Refused(nn.Module):
    """A way to write a network that cannot be written as a list of operations."""

    def __init__(self, function: Callable[[torch.Tensor], Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> Any:
        return self.function(x)


def branches(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) if x.sum() > 0 else x.amax((2, 3))


def asks_for_numbers(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) * float(x.max())


def round_trip(x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(x.numpy().mean((2, 3)))


def writes_into_a_slice(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y[:, 0] = 0
    return y.mean((2, 3))


def activates_a_part_in_place(x: torch.Tensor) -> torch.Tensor:
    y = x * 2
    y.chunk(3, 1)[1].relu_()
    return y.mean((2, 3))


def looks_at_the_batch(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) if len(x) > 2 else x.amax((2, 3))


def scales_by_the_batch(x: torch.Tensor) -> torch.Tensor:
    return x.mean((2, 3)) / (1 / len(x))


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (branches, "depends on values"),
        (asks_for_numbers, "depends on values"),
        (round_trip, "depends on values"),
        (writes_into_a_slice, "writes into a part"),
        (activates_a_part_in_place, "writes into a part"),
        (looks_at_the_batch, "other batch sizes"),
        (scales_by_the_batch, "other batch sizes"),
        (lambda x: x * 2, "row of logits"),
        (lambda x: x.mean((2, 3)).T, "row of logits"),
        (lambda x: x.mean((0, 2, 3)), "row of logits"),
        (lambda x: [x.mean((2, 3))], "row of logits"),
        (lambda x: x.mean((2, 3))[:1], "row of logits"),
    ],
)
def test_what_cannot_be_written_down_is_refused_with_a_reason(
    function: Callable[[torch.Tensor], Any], reason: str
) -> None:
    with pytest.raises(UntraceableError, match=reason) as caught:
        record(Refused(function), SHAPE)
    assert "\n" not in str(caught.value)


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    class Single(nn.Module):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("only one of me")

    with pytest.raises(UntraceableError, match="copied"):
        record(Single(), SHAPE)


class Forgetful(nn.Module):
    """Counts its calls, on itself and in a buffer."""

    seen: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first, self.inner = nn.Conv2d(3, 3, 1), small_network()
        self.calls = 0
        self.register_buffer("seen", torch.zeros(1))
        self.plain = torch.ones(1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        self.seen += 1
        self.plain.add_(1)
        return torch.as_tensor(self.inner(self.first(x)))


def test_the_module_is_left_as_it_was() -> None:
    module = Forgetful()
    module.first.train()
    heard: list[object] = []
    module.first.register_forward_hook(lambda *_: heard.append(1))
    module.first.register_forward_pre_hook(lambda *_: heard.append(1))
    before = copy.deepcopy(module.state_dict())
    tensors = [id(t) for t in (*module.parameters(), *module.buffers())]
    modes = [part.training for part in module.modules()]
    record(module, SHAPE)
    assert (module.calls, float(module.plain)) == (0, 1)
    assert not heard
    assert len(module.first._forward_hooks) == len(module.first._forward_pre_hooks) == 1
    assert [id(t) for t in (*module.parameters(), *module.buffers())] == tensors
    assert all(p.requires_grad for p in module.parameters())
    assert [part.training for part in module.modules()] == modes
    for name, value in module.state_dict().items():
        assert torch.equal(value, before[name])


def test_the_graph_holds_the_weights_themselves() -> None:
    module = small_network()
    graph = record(module, SHAPE)
    weights = {p.data_ptr() for p in module.parameters()}
    held = {a.data_ptr() for n in graph.nodes for a in n.args if isinstance(a, torch.Tensor)}
    assert held == weights


class RealWork(TorchDispatchMode):
    """Names of the operations that see a tensor with memory."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        tensors = [a for a in args if isinstance(a, torch.Tensor)]
        if any(a.device.type != "meta" for a in tensors):
            self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


def test_nothing_is_computed_on_real_data() -> None:
    module = network("ShuffleNet")
    with RealWork() as work:
        record(module, SHAPE)
    assert work.names <= {"detach", "to", "_to_copy", "alias"}


def test_an_input_larger_than_any_memory_can_be_recorded() -> None:
    graph = record(small_network(), (3, 1_000_000, 1_000_000))
    assert resolve(graph.nodes[1].shapes[0], 2) == (2, 8, 500_000, 500_000)


def test_other_threads_are_not_watched() -> None:
    other, x, answers = small_network(), inputs(2), []

    def forward(net: Any, ghost: torch.Tensor) -> Any:
        thread = threading.Thread(target=lambda: answers.append(other(x)))
        thread.start()
        thread.join()
        return net.head(ghost)

    graph = record(Lambda(forward, head=head(3)), SHAPE)
    assert "conv2d" not in names(graph)
    assert all(torch.equal(found, other(x)) for found in answers)
