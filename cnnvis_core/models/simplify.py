"""A recorded graph with less to do: idle operations dropped, batch norm inside convolutions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace as with_fields
from typing import Any

import torch

from cnnvis_core.models.graph import Call, Graph, Node, Ref, replace


def simplify(graph: Graph, kept: Collection[str] = ()) -> Graph:
    """Return an equal graph of fewer operations, with convolution weights in channels-last order.

    A batch norm behind a convolution that nothing else reads becomes part of its weights, in
    double precision (Jacob et al. 2018, section 3.2); answers differ by rounding only. Nodes keep
    their numbers; those that are not needed any more have the operation ``None``.

    Parameters
    ----------
    graph : Graph
        As recorded.
    kept : collection of str
        Names among ``graph.calls`` whose outputs stay; the others, which may be gone, are left out.
    """
    nodes = list(graph.nodes)
    readers = Counter(ref.node for node in nodes for ref in node.refs())
    for ref in (graph.output, *(graph.calls[name].output for name in kept)):
        readers[ref.node] += 1
    stands_for: dict[Ref, Ref] = {}

    def current(value: Any) -> Any:
        return stands_for.get(value, value) if isinstance(value, Ref) else value

    for number, node in enumerate(nodes):
        if node.op is None:
            continue
        node = with_fields(
            node,
            args=replace(node.args, current),
            kwargs={key: replace(value, current) for key, value in node.kwargs.items()},
        )
        nodes[number] = node
        source = next(node.refs(), None)
        if source is not None and _does_nothing(node, nodes):
            stands_for[Ref(number)] = source
            readers[source.node] += readers[number] - 1
            nodes[number] = _gone(node)
        elif node.name == "batch_norm" and source is not None and readers[source.node] == 1:
            folded = _fold(nodes[source.node], node)
            if folded is not None:
                nodes[source.node] = folded
                stands_for[Ref(number)] = source
                readers[source.node] = readers[number]
                nodes[number] = _gone(node)
    output = stands_for.get(graph.output, graph.output)
    made = tuple(_any_layout(_fixed_squeeze(node, nodes)) for node in nodes)
    calls = {name: Call((), current(graph.calls[name].output)) for name in kept}
    return Graph(made, output, calls)


def _gone(node: Node) -> Node:
    return Node(None, (), {}, node.shapes, node.depends)


def _does_nothing(node: Node, nodes: list[Node]) -> bool:
    """Whether a node's only output equals its only input."""
    values = node.values()
    if node.name in ("dropout", "feature_dropout", "alpha_dropout"):
        return not values["train"]
    if node.name in ("alias", "contiguous", "detach", "lift_fresh"):
        return True
    if node.name == "pad" or node.name == "constant_pad_nd":
        return not any(values["pad"])
    if node.name == "adaptive_avg_pool2d":
        source = next(node.refs())
        return node.shapes[0] == nodes[source.node].shapes[source.item or 0]
    return False


def _fold(convolution: Node, norm: Node) -> Node | None:
    """Convolution and batch norm as one convolution; None where they cannot be."""
    if convolution.op is None or convolution.name != "conv2d":
        return None
    first, second = convolution.values(), norm.values()
    mean, variance = second["running_mean"], second["running_var"]
    weight, bias = first["weight"], first["bias"]
    fixed = (weight, mean, variance)
    if second["training"] or not all(isinstance(v, torch.Tensor) for v in fixed):
        return None
    if isinstance(bias, Ref) or any(isinstance(second[k], Ref) for k in ("weight", "bias")):
        return None
    scale = (variance.double() + second["eps"]).rsqrt()
    if second["weight"] is not None:
        scale = scale * second["weight"].double()
    shift = -mean.double() * scale
    if bias is not None:
        shift = shift + bias.double() * scale
    if second["bias"] is not None:
        shift = shift + second["bias"].double()
    scaled = (weight.double() * scale.view(-1, 1, 1, 1)).to(weight.dtype)
    rest = {k: v for k, v in first.items() if k not in ("input", "weight", "bias")}
    return Node(
        convolution.op,
        (first["input"], scaled, shift.to(weight.dtype)),
        rest,
        norm.shapes,
        convolution.depends,
    )


def _fixed_squeeze(node: Node, nodes: list[Node]) -> Node:
    """Name the axes that a squeeze of all axes removes, lest a batch of one be squeezed away."""
    if node.op is not torch.ops.aten.squeeze.default:
        return node
    source = next(node.refs())
    shape = nodes[source.node].shapes[source.item or 0]
    axes = [axis for axis, size in enumerate(shape) if size == 1]
    return with_fields(node, op=torch.ops.aten.squeeze.dims, args=(source, axes))


def _any_layout(node: Node) -> Node:
    """Make an operation fit for maps in channels-last order."""
    if node.op is None:
        return node
    if node.name in ("view", "_unsafe_view"):
        return with_fields(node, op=torch.ops.aten.reshape.default)
    if node.name == "conv2d" and isinstance(node.args[1], torch.Tensor):
        weight = node.args[1].contiguous(memory_format=torch.channels_last)
        return with_fields(node, args=(node.args[0], weight, *node.args[2:]))
    return node
