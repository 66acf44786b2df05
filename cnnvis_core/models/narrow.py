"""Computing some units of a layer and not the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace as with_fields

import torch

from cnnvis_core.models.graph import Graph, Node, Ref

# What may follow the convolution: each unit's value is made of that unit's alone.
_NAMES = (
    "relu relu6 hardtanh clamp clamp_min leaky_relu elu selu gelu silu mish softplus hardswish "
    "hardsigmoid sigmoid tanh"
)
_ELEMENTWISE = frozenset(_NAMES.split())


def narrowed(graph: Graph, ref: Ref, channels: Sequence[int]) -> Graph | None:
    """The same pass with only some units of one value, in the given order.

    Parameters
    ----------
    graph : Graph
        As recorded or simplified; not changed.
    ref : Ref
        A value of shape (N, units, h, w) that nothing which is asked for reads further.
    channels : sequence of int
        The units.

    Returns
    -------
    Graph or None
        None where the value is not made by a convolution, but for non-linearities behind it.
    """
    made = _made_by(graph, ref)
    if made is None:
        return None
    number, chain = made
    values = graph.nodes[number].values()
    weight, bias = values["weight"], values["bias"]
    if values["groups"] != 1:
        return None
    chosen = torch.tensor(channels, device=weight.device)
    nodes = list(graph.nodes)
    kept = _with_weights(nodes[number], weight[chosen], None if bias is None else bias[chosen])
    nodes[number] = _of_width(kept, len(channels))
    for following in chain:
        nodes[following] = _of_width(nodes[following], len(channels))
    return Graph(tuple(nodes), graph.output, graph.calls)


def _with_weights(node: Node, weight: torch.Tensor, bias: torch.Tensor | None) -> Node:
    """The same convolution with other kernels."""
    values = node.values()
    rest = {k: v for k, v in values.items() if k not in ("input", "weight", "bias")}
    return with_fields(node, args=(values["input"], weight, bias), kwargs=rest)


def _made_by(graph: Graph, ref: Ref) -> tuple[int, list[int]] | None:
    """The convolution that makes a value, and the non-linearities that stand between."""
    readers = Counter(r.node for node in graph.nodes for r in node.refs())
    chain, number = [], ref.node
    while graph.nodes[number].op is not None and graph.nodes[number].name in _ELEMENTWISE:
        sources = list(graph.nodes[number].refs())
        if len(sources) != 1 or readers[sources[0].node] != 1:
            return None
        chain.append(number)
        number = sources[0].node
    node = graph.nodes[number]
    if node.op is None or node.name != "conv2d":
        return None
    values = node.values()
    if not isinstance(values["weight"], torch.Tensor) or isinstance(values["bias"], Ref):
        return None
    return number, chain


def _of_width(node: Node, units: int) -> Node:
    batch, _, *sides = node.shapes[0]
    return with_fields(node, shapes=((batch, units, *sides),))
