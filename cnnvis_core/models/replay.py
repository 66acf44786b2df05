"""Running a recorded forward pass again, as far as is asked for.

Nothing is hooked and no module is touched, so that many visitors can look into one shared network
at once, nothing can be left behind, and operations that write in place show what they were given.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from cnnvis_core.models.graph import Graph, Node, Ref, compute

Computation = Callable[[Node, Callable[[Ref], torch.Tensor], int], Any]

# What is usually meant by the non-linearity of a layer, by the names of ATen's operations.
_ACTIVATION_NAMES = (
    "relu relu6 hardtanh leaky_relu prelu rrelu elu celu selu gelu silu mish softplus hardswish "
    "hardsigmoid sigmoid tanh clamp clamp_min"
)
ACTIVATIONS = frozenset(_ACTIVATION_NAMES.split())
# What may stand between a layer and its non-linearity.
_BETWEEN_NAMES = "batch_norm layer_norm group_norm instance_norm add dropout contiguous alias"
_BETWEEN = frozenset(_BETWEEN_NAMES.split())


def replay(
    graph: Graph,
    x: torch.Tensor,
    wanted: Collection[Ref],
    computation: Computation = compute,
    given: Mapping[Ref, torch.Tensor] | None = None,
) -> dict[Ref, torch.Tensor]:
    """Compute values of a recorded pass; what none of them needs is not computed.

    Gradients flow as autograd's mode says; the network's weights take none.

    Parameters
    ----------
    graph : Graph
        Recorded for inputs of this shape.
    x : Tensor (N, C, H, W)
        The inputs.
    wanted : collection of Ref
        Values to return.
    computation : callable, optional
        Runs one operation, in place of `compute`.
    given : mapping, optional
        Values that are known already; what only they need is not computed.

    Returns
    -------
    dict
        A tensor for each of ``wanted``.
    """
    values: dict[int, Any] = {0: x}
    known = dict(given or {})
    last = last_readers(graph, wanted, known)
    for number in sorted(last):
        node = graph.nodes[number]

        def value(ref: Ref) -> torch.Tensor:
            if ref in known:
                return known[ref]
            found: torch.Tensor = values[ref.node]
            return found if ref.item is None else found[ref.item]

        if node.op is not None:
            values[number] = computation(node, value, len(x))
        for ref in wanted:
            if ref.node == number and ref not in known:
                known[ref] = value(ref)
        for ref in node.refs():
            if last.get(ref.node) == number:
                values.pop(ref.node, None)
    return {ref: known[ref] for ref in wanted}


def last_readers(graph: Graph, wanted: Collection[Ref], known: Collection[Ref]) -> dict[int, int]:
    """For every node that is needed, the last one that reads it (itself if none does)."""
    last: dict[int, int] = {}
    open_ = [ref.node for ref in wanted if ref not in known]
    while open_:
        number = open_.pop()
        if number in last:
            continue
        last[number] = number
        open_ += [ref.node for ref in graph.nodes[number].refs() if ref not in known]
    for number in sorted(last):
        for ref in graph.nodes[number].refs():
            if ref.node in last:
                last[ref.node] = max(last[ref.node], number)
    return last


def readers(graph: Graph) -> dict[Ref, list[int]]:
    """The nodes that read each value."""
    found: dict[Ref, list[int]] = {}
    for number, node in enumerate(graph.nodes):
        for ref in dict.fromkeys(node.refs()):
            found.setdefault(ref, []).append(number)
    return found


def activation_behind(graph: Graph, ref: Ref) -> Ref | None:
    """Value behind the non-linearity that a layer's value goes into.

    Normalisation and a sum with a shortcut may stand between; None where the next operation of
    another kind comes first.
    """
    if graph.nodes[ref.node].op is None or graph.nodes[ref.node].name in ACTIVATIONS:
        return None
    reading, shape = readers(graph), graph.nodes[ref.node].shapes[ref.item or 0]
    while True:
        following = reading.get(ref, [])
        # A value that is read twice is gated, as in x * sigmoid(x), or branches.
        if len(following) != 1:
            return None
        node = graph.nodes[following[0]]
        if node.shapes[0] != shape:
            return None
        ref = Ref(following[0])
        if node.name in ACTIVATIONS:
            return ref
        if node.name not in _BETWEEN:
            return None


def before_activation(graph: Graph, ref: Ref) -> Ref:
    """What goes into the non-linearity that makes a value; the value itself if none does."""
    while graph.nodes[ref.node].op is not None and graph.nodes[ref.node].name in ACTIVATIONS:
        sources = list(graph.nodes[ref.node].refs())
        if len(sources) != 1:
            break
        ref = sources[0]
    return ref
