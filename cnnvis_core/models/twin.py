"""A recorded pass as a module of its own, for methods that hook modules.

Every non-linearity and pooling of the pass is a module that is called once and writes nothing in
place, whether the network had it as a module, shared it, or called a function. Whoever hooks the
twin touches neither the shared network nor another visitor's twin.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace as with_fields
from typing import Any

import torch
from torch import nn

from cnnvis_core.models.graph import Graph, Node, Ref, compute, replace
from cnnvis_core.models.replay import ACTIVATIONS, replay

_LINEAR_NAMES = (
    "conv1d conv2d conv3d convolution conv_transpose1d conv_transpose2d conv_transpose3d linear "
    "batch_norm add sub rsub neg cat stack view reshape _unsafe_view flatten unflatten permute "
    "transpose t movedim contiguous clone alias detach dropout feature_dropout alpha_dropout mean "
    "sum pad constant_pad_nd reflection_pad2d replication_pad2d slice select split "
    "split_with_sizes chunk unbind squeeze unsqueeze expand to _to_copy type_as avg_pool1d "
    "avg_pool2d avg_pool3d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d max_pool1d "
    "max_pool2d max_pool3d max_pool2d_with_indices adaptive_max_pool2d amax upsample_nearest2d "
    "upsample_bilinear2d channel_shuffle pixel_shuffle roll flip"
)
_LINEAR = frozenset(_LINEAR_NAMES.split())  # and pooling, whose rule is that of the gradient


class CappedReLU(nn.ReLU):
    """ReLU that ends at a cap, as ReLU6 does; its gradient rule is that of ReLU."""

    def __init__(self, cap: float) -> None:
        super().__init__()
        self.cap = cap

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Clamp to [0, cap]."""
        return x.clamp(0.0, self.cap)


class Watched(nn.Module):
    """Passes a value on; a place for a hook."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``x``."""
        return x.view_as(x)


class Twin(nn.Module):
    """Computes one value of a recorded pass.

    Parameters
    ----------
    graph : Graph
        From `record`, not simplified.
    output : Ref, optional
        What to compute; by default the logits.
    watched : Ref, optional
        A value on the way that passes through `watch`.
    """

    def __init__(self, graph: Graph, output: Ref | None = None, watched: Ref | None = None) -> None:
        super().__init__()
        self.graph, self.output, self.watched = graph, output or graph.output, watched
        self.watch = Watched()
        made = {n: made for n, node in enumerate(graph.nodes) if (made := as_module(node))}
        self.parts = nn.ModuleDict({str(number): part for number, part in made.items()})
        self._part_of = {id(graph.nodes[number]): part for number, part in made.items()}
        self.eval()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs (N, C, H, W) to the value (N, ...)."""
        if self.watched is None:
            return replay(self.graph, x, [self.output], self._compute)[self.output]
        at = replay(self.graph, x, [self.watched], self._compute)[self.watched]
        given = {self.watched: self.watch(at)}
        return replay(self.graph, x, [self.output], self._compute, given)[self.output]

    def _compute(self, node: Node, value: Callable[[Ref], torch.Tensor], n: int) -> Any:
        part = self._part_of.get(id(node))
        if part is None:
            return compute(node, value, n)
        return part(value(next(node.refs())))


def as_module(node: Node) -> nn.Module | None:
    """The operation of a node as a module; None where methods need no hook or none is known."""
    if node.op is None or not node.depends:
        return None
    values = node.values()
    name = node.name
    if name == "relu":
        return nn.ReLU()
    if name == "relu6" or (name == "hardtanh" and values["min_val"] == 0):
        return CappedReLU(float(values.get("max_val", 6.0)))
    if name == "clamp" and values["min"] == 0 and isinstance(values["max"], int | float):
        return CappedReLU(float(values["max"]))
    if name in ("clamp", "clamp_min") and values["min"] == 0 and values.get("max") is None:
        return nn.ReLU()
    plain = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh}
    if name in plain:
        return plain[name]()
    if name == "leaky_relu":
        return nn.LeakyReLU(values["negative_slope"])
    if name in ("max_pool1d", "max_pool2d"):
        kind = nn.MaxPool1d if name == "max_pool1d" else nn.MaxPool2d
        return kind(
            values["kernel_size"],
            values["stride"] or None,
            values["padding"],
            values["dilation"],
            ceil_mode=values["ceil_mode"],
        )
    return None


def nonlinearities(graph: Graph) -> set[str]:
    """Names of the non-linear operations of a pass."""
    return {
        node.name
        for node in graph.nodes
        if node.op is not None and node.depends and node.name in ACTIVATIONS
    }


def besides_relu(graph: Graph) -> set[str]:
    """Names of the operations of a pass that are neither linear, nor pooling, nor a ReLU."""
    return {
        node.name
        for node in graph.nodes
        if node.op is not None
        and node.depends
        and not isinstance(as_module(node), nn.ReLU)
        and not _is_linear(graph, node)
    }


def _is_linear(graph: Graph, node: Node) -> bool:
    dependent = [ref for ref in node.refs() if graph.nodes[ref.node].depends]
    if node.name in ("mul", "div", "matmul", "mm", "bmm", "addmm"):
        return len(dependent) == 1
    return node.name in _LINEAR


def shuffled(graph: Graph, seed: int = 0) -> Graph:
    """The same pass with the values of every weight tensor in a random order.

    Tensors of one axis, such as biases and statistics, stay as they are.
    """
    generator = torch.Generator().manual_seed(seed)

    def mix(value: Any) -> Any:
        if not isinstance(value, torch.Tensor) or value.ndim < 2:
            return value
        order = torch.randperm(value.numel(), generator=generator).to(value.device)
        return value.flatten()[order].view(value.shape)

    nodes = (
        with_fields(
            node,
            args=replace(node.args, mix),
            kwargs={key: replace(value, mix) for key, value in node.kwargs.items()},
        )
        for node in graph.nodes
    )
    return with_fields(graph, nodes=tuple(nodes))
