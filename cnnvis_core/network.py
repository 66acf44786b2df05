"""A network as a plan: its stages, its layers, and how they are connected."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import nn

from cnnvis_core.models.graph import Graph, Ref, UntraceableError
from cnnvis_core.models.model import Layer, Model

Family = Literal["convolution", "linear", "pooling", "normalisation", "activation", "other"]

_FAMILIES: tuple[tuple[Family, tuple[str, ...]], ...] = (
    ("convolution", ("Conv",)),
    ("linear", ("Linear", "Bilinear")),
    ("pooling", ("Pool",)),
    ("normalisation", ("Norm", "LocalResponse")),
    (
        "activation",
        (
            *("ReLU", "SiLU", "GELU", "ELU", "Sigmoid", "Tanh", "Hardswish", "Hardsigmoid"),
            *("Softmax", "Softplus", "Mish", "Swish", "Threshold", "Hardtanh"),
        ),
    ),
)
LANES = 6  # branches beside each other; further ones move on to the next column
MAIN: frozenset[Family] = frozenset({"convolution", "linear", "pooling"})


@dataclass(frozen=True)
class Stage:
    """Layers whose maps have one size.

    Attributes
    ----------
    size : tuple of int
        Height and width of the maps; (1, 1) where there are none.
    layers : tuple of Layer
        In the order of the forward pass.
    """

    size: tuple[int, int]
    layers: tuple[Layer, ...]


def family(layer: Layer) -> Family:
    """What kind of layer it is, by the name of its class."""
    for name, parts in _FAMILIES:
        if any(part in layer.kind for part in parts):
            return name
    return "other"


def map_size(layer: Layer) -> tuple[int, int]:
    """Height and width of a layer's maps; (1, 1) where it has none."""
    _, row, col = layer.axes
    return (
        1 if row is None else layer.output_shape[row],
        1 if col is None else layer.output_shape[col],
    )


def stages(layers: Iterable[Layer]) -> tuple[Stage, ...]:
    """Group layers by the size of their maps, in order.

    Layers that sum a whole map up on the way, as squeeze-and-excitation does, stay in the stage
    around them.
    """
    listed = list(layers)
    sizes = [map_size(layer) for layer in listed]
    final = max((i for i, size in enumerate(sizes) if size != (1, 1)), default=-1)
    found: list[tuple[tuple[int, int], list[Layer]]] = []
    for index, (layer, size) in enumerate(zip(listed, sizes, strict=True)):
        aside = size == (1, 1) and index < final
        if not found or (size != found[-1][0] and not aside):
            found.append((size, []))
        found[-1][1].append(layer)
    return tuple(Stage(size, tuple(members)) for size, members in found)


def connections(model: Model) -> dict[str, tuple[str, ...]]:
    """Which layers each layer reads, looking through the operations between them.

    Returns
    -------
    dict
        Layer name -> names of the layers whose values it is made from, in the order of the pass;
        empty for the first. Where the pass cannot be followed each layer reads the one before.
    """
    names = [layer.name for layer in model.layers]
    try:
        graph = model.recording(tuple(model.input_shape))
    except UntraceableError:
        return {name: tuple(names[max(0, i - 1) : i]) for i, name in enumerate(names)}
    return _sources(graph, [name for name in names if name in graph.calls])


def reads_input(model: Model, layer: str) -> bool:
    """Whether a layer reads the network's input itself, no other layer's value."""
    return connections(model).get(layer) == ()


def _sources(graph: Graph, names: Sequence[str]) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    made_by: dict[Ref, str] = {}
    order = {name: place for place, name in enumerate(names)}
    for name in sorted(names, key=lambda name: graph.calls[name].output.node):
        call = graph.calls[name]
        upstream = set().union(*(_makers(graph, ref, made_by) for ref in call.inputs))
        found[name] = tuple(sorted(upstream - {name}, key=order.__getitem__))
        made_by[call.output] = name
    return found


def _makers(graph: Graph, ref: Ref, made_by: dict[Ref, str]) -> set[str]:
    """Layers that a value was made from, the nearest ones."""
    makers: set[str] = set()
    seen: set[Ref] = set()
    open_ = [ref]
    while open_:
        ref = open_.pop()
        if ref in seen:
            continue
        seen.add(ref)
        if ref in made_by:
            makers.add(made_by[ref])
        else:
            open_ += graph.nodes[ref.node].refs()
    return makers


def without(
    sources: Mapping[str, Sequence[str]], shown: Callable[[str], bool]
) -> dict[str, tuple[str, ...]]:
    """Connections among the layers that are shown, looking through the others."""
    reach: dict[str, tuple[str, ...]] = {}
    for name, before in sources.items():
        through: dict[str, None] = {}
        for source in before:
            through.update(dict.fromkeys([source] if shown(source) else reach.get(source, ())))
        reach[name] = tuple(through)
    return {name: reach[name] for name in sources if shown(name)}


@dataclass(frozen=True)
class Box:
    """A layer in its place.

    Attributes
    ----------
    layer : Layer
        The layer.
    stage : int
        Index of its stage.
    column, lane : int
        Steps from the start of the stage, and the branch.
    size : tuple of int
        Height and width of its maps.
    kernel : tuple of int
        Height and width of its kernel or window; empty where it has none.
    parameters : int
        Number of its weights.
    """

    layer: Layer
    stage: int
    column: int
    lane: int
    size: tuple[int, int]
    kernel: tuple[int, ...]
    parameters: int

    @property
    def family(self) -> Family:
        """What kind of layer it is."""
        return family(self.layer)


@dataclass(frozen=True)
class Plan:
    """A network to be drawn.

    Attributes
    ----------
    stages : tuple of Stage
        In order.
    boxes : tuple of Box
        The layers, in the order of the forward pass.
    links : tuple of pairs of str
        Names of a layer and of one that reads it.
    """

    stages: tuple[Stage, ...]
    boxes: tuple[Box, ...]
    links: tuple[tuple[str, str], ...]


def plan(model: Model, every_layer: bool = False) -> Plan:
    """Place the layers of a network.

    Parameters
    ----------
    model : Model
        Not changed.
    every_layer : bool
        Also those that are no convolution, pooling or linear layer, as where there are none.
    """
    shown = {layer.name: layer for layer in model.layers if every_layer or family(layer) in MAIN}
    shown = shown or {layer.name: layer for layer in model.layers}
    sources = without(connections(model), shown.__contains__)
    grouped = stages(shown.values())
    parts = dict(model.module.named_modules())
    boxes = tuple(
        Box(
            layer,
            number,
            *place,
            map_size(layer),
            _window(parts[layer.name]),
            sum(weight.numel() for weight in parts[layer.name].parameters()),
        )
        for number, stage in enumerate(grouped)
        for layer, place in zip(stage.layers, _places(stage, sources), strict=True)
    )
    links = tuple((source, name) for name, before in sources.items() for source in before)
    return Plan(grouped, boxes, links)


def _window(part: nn.Module) -> tuple[int, ...]:
    """Height and width of a module's kernel."""
    size = getattr(part, "kernel_size", ())
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    return tuple(int(n) for n in sizes) if len(sizes) != 1 else (1, int(sizes[0]))


def _places(stage: Stage, sources: Mapping[str, Sequence[str]]) -> list[tuple[int, int]]:
    """Column and lane of each layer: one column behind what it reads, beside its likes."""
    found: dict[str, tuple[int, int]] = {}
    taken: dict[int, set[int]] = {}
    for layer in stage.layers:
        before = [found[name] for name in sources.get(layer.name, ()) if name in found]
        column = max((column + 1 for column, _ in before), default=0)
        while len(taken.setdefault(column, set())) >= LANES:
            column += 1
        wanted = min((lane for _, lane in before), default=0)
        lane = next(lane for lane in (wanted, *range(LANES)) if lane not in taken[column])
        taken[column].add(lane)
        found[layer.name] = column, lane
    return list(found.values())
