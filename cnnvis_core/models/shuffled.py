"""Control units: kernels with their weights shuffled, computed beside the real ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from dataclasses import replace as with_fields
from typing import Any

import torch

from cnnvis_core.models.graph import Graph, Node, Ref, replace
from cnnvis_core.models.replay import readers

# Each unit's value is made of that unit's alone, by the same rule for all.
_NAMES = (
    "relu relu6 hardtanh clamp clamp_min leaky_relu elu selu gelu silu mish softplus hardswish "
    "hardsigmoid sigmoid tanh dropout alias contiguous detach max_pool2d avg_pool2d "
    "adaptive_avg_pool2d adaptive_max_pool2d"
)
_UNIT_BY_UNIT = frozenset(_NAMES.split())
_PER_UNIT = ("weight", "bias", "running_mean", "running_var")


def with_shuffled(
    graph: Graph, refs: Mapping[str, tuple[Ref, Ref]], count: int, seed: int
) -> tuple[Graph, dict[str, Ref], Callable[[Ref], Ref]]:
    """The same pass, with values of ``count`` control units beside some layers' own.

    A control unit is one of the layer's kernels with its weights shuffled within itself: it keeps
    the weights and loses what they are arranged to. It is given what the kernel is given, and the
    normalisation, the shortcut and the non-linearity of its unit.

    Parameters
    ----------
    graph : Graph
        As recorded, not simplified; not changed.
    refs : mapping
        Layer -> a value that its kernels make, and the one behind it that is listened to.
    count : int
        Control units a layer; kernels are shuffled several times where there are fewer.
    seed : int
        Chooses the kernels and shuffles them.

    Returns
    -------
    Graph
        With more nodes; ``calls`` are left out.
    dict
        Layer -> value (N, count, h, w) of its control units, for layers that a convolution makes,
        with nothing behind it that mixes units.
    callable
        Gives a value of the old graph in the new one.
    """
    paths = {name: _path(graph, own, heard) for name, (own, heard) in refs.items()}
    drawn: dict[int, torch.Tensor] = {}
    generator = torch.Generator().manual_seed(seed)
    for path in paths.values():
        if path and path[0] not in drawn:
            drawn[path[0]] = _draw(graph.nodes[path[0]], count, generator)
    # Paths of a convolution's layers may share their beginning; each node has one twin a kernel.
    twin_of: dict[tuple[int, int], Ref] = {}
    on_path = {(path[0], number) for path in paths.values() for number in path}
    maker = _Maker([], {})
    for number, node in enumerate(graph.nodes):
        maker.renumbered[number] = maker.add(maker.moved(node))
        for first, _ in sorted(pair for pair in on_path if pair[1] == number):
            before = {old: twin for (kernel, old), twin in twin_of.items() if kernel == first}
            if first == number:
                twin = maker.kernels(node, drawn[first], generator)
            else:
                twin = maker.follow(node, before, drawn[first])
            twin_of[first, number] = twin
    found = {name: twin_of[path[0], path[-1]] for name, path in paths.items() if path}
    return Graph(tuple(maker.nodes), maker.new(graph.output)), found, maker.new


def _draw(node: Node, count: int, generator: torch.Generator) -> torch.Tensor:
    """Which kernels are shuffled (count,), as few as can be more than once."""
    weight = node.values()["weight"]
    rounds = -(-count // len(weight))
    orders = [torch.randperm(len(weight), generator=generator) for _ in range(rounds)]
    return torch.cat(orders)[:count].to(weight.device)


def _path(graph: Graph, own: Ref, heard: Ref) -> list[int]:
    """Nodes from the convolution that makes a layer's value to the value that is listened to."""
    back: list[int] = []
    number = own.node
    while not _is_kernel(graph.nodes[number]):
        back.append(number)
        before = _before(graph, number)
        if before is None:
            return []
        number = before
    path = [number, *reversed(back)]
    reading = readers(graph)
    ref = own
    while ref != heard:
        following = reading.get(ref, [])
        if len(following) != 1 or _before(graph, following[0]) is None:
            return []
        path.append(following[0])
        ref = Ref(following[0])
    return path


def _is_kernel(node: Node) -> bool:
    if node.op is None or node.name != "conv2d":
        return False
    values = node.values()
    return isinstance(values["weight"], torch.Tensor) and not isinstance(values["bias"], Ref)


def _before(graph: Graph, number: int) -> int | None:
    """The value that a unit's value is made from on the way, the latest of two; None if mixed."""
    node = graph.nodes[number]
    if node.op is None:
        return None
    sources = [ref.node for ref in node.refs()]
    if node.name in _UNIT_BY_UNIT and len(sources) == 1:
        return sources[0]
    if node.name == "batch_norm" and len(sources) == 1 and not node.values()["training"]:
        return sources[0]
    if node.name == "add" and len(sources) == 2 and len(node.shapes[0]) == 4:
        shapes = [graph.nodes[ref.node].shapes[ref.item or 0] for ref in node.refs()]
        # A sum that spreads one channel over all of them would be another one for some units.
        return max(sources) if all(shape == node.shapes[0] for shape in shapes) else None
    return None


@dataclass
class _Maker:
    """Writes down nodes one after the other."""

    nodes: list[Node]
    renumbered: dict[int, Ref]

    def add(self, node: Node) -> Ref:
        self.nodes.append(node)
        return Ref(len(self.nodes) - 1)

    def new(self, ref: Ref) -> Ref:
        return Ref(self.renumbered[ref.node].node, ref.item)

    def moved(self, node: Node) -> Node:
        def change(leaf: Any) -> Any:
            return self.new(leaf) if isinstance(leaf, Ref) else leaf

        kwargs = {key: replace(value, change) for key, value in node.kwargs.items()}
        return with_fields(node, args=replace(node.args, change), kwargs=kwargs)

    def chosen(self, ref: Ref, units: torch.Tensor, shape: tuple[Any, ...]) -> Ref:
        """Some units of a value (N, units, h, w)."""
        sides = (shape[0], len(units), *shape[2:])
        op = torch.ops.aten.index_select.default
        return self.add(Node(op, (ref, 1, units), {}, (sides,), True))

    def kernels(self, node: Node, units: torch.Tensor, generator: torch.Generator) -> Ref:
        """The convolution with the shuffled kernels of some units."""
        values = self.moved(node).values()
        weight, bias, source = values["weight"], values["bias"], values["input"]
        rows = weight[units].flatten(1)
        order = torch.rand(rows.shape, generator=generator).argsort(1).to(weight.device)
        shuffled = rows.gather(1, order).view(len(units), *weight.shape[1:])
        groups = values["groups"]
        if groups > 1:  # each control unit is given the inputs of its own group
            width = weight.shape[1]
            group = units // (len(weight) // groups)
            inputs = (group[:, None] * width + torch.arange(width, device=weight.device)).flatten()
            shape = self.nodes[source.node].shapes[source.item or 0]
            source, groups = self.chosen(source, inputs, shape), len(units)
        rest = {k: v for k, v in values.items() if k not in ("input", "weight", "bias", "groups")}
        twin = with_fields(
            node,
            args=(source, shuffled, None if bias is None else bias[units]),
            kwargs={**rest, "groups": groups},
        )
        return self.add(_of_width(twin, len(units)))

    def follow(self, node: Node, twins: Mapping[int, Ref], units: torch.Tensor) -> Ref:
        """What comes behind the convolution, for the control units."""
        values = node.values()
        source = max((r for r in node.refs() if r.node in twins), key=lambda ref: ref.node)
        for key, value in values.items():
            if value is not None and node.name == "batch_norm" and key in _PER_UNIT:
                values[key] = value[units]
            elif isinstance(value, Ref) and value == source:
                values[key] = twins[source.node]
            elif isinstance(value, Ref):  # a shortcut
                other = self.new(value)
                shape = self.nodes[other.node].shapes[other.item or 0]
                values[key] = self.chosen(other, units, shape)
        by_name = {argument.name for argument in node.op._schema.arguments if argument.kwarg_only}
        twin = with_fields(
            node,
            args=tuple(value for name, value in values.items() if name not in by_name),
            kwargs={name: values[name] for name in by_name},
        )
        return self.add(_of_width(twin, len(units)))


def _of_width(node: Node, units: int) -> Node:
    shapes = tuple((shape[0], units, *shape[2:]) for shape in node.shapes)
    return with_fields(node, shapes=shapes)
