"""The units of a layer in place of a network's classes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import torch
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.graph import Graph, Node, Ref, UntraceableError
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.models.replay import replay

Reduction = Literal["mean", "maximum"]


def up_to(graph: Graph, layer: Layer, reduction: Reduction) -> Graph:
    """The pass up to a layer, its output the mean or the maximum of each unit's map (N, units).

    Raises
    ------
    UntraceableError
        If the pass does not reach the layer.
    """
    if layer.name not in graph.calls:
        raise UntraceableError(f"it does not reach {layer.name}")
    maps = graph.calls[layer.name].output
    nodes = graph.nodes[: maps.node + 1]
    shape = nodes[maps.node].shapes[maps.item or 0]
    unit = layer.axes[0] + 1  # behind the batch
    across = [axis for axis in range(1, len(shape)) if axis != unit]
    if not across:
        return Graph(nodes, maps, graph.calls)
    aten = torch.ops.aten
    operation = aten.mean.dim if reduction == "mean" else aten.amax.default
    reduced = Node(operation, (maps, across), {}, ((shape[0], shape[unit]),), True)
    return Graph((*nodes, reduced), Ref(len(nodes)), graph.calls)


@dataclass(frozen=True, eq=False)
class _UnitModel(Model):
    """A network that ends at a layer; its recorded pass is that of the whole one, cut there."""

    @cached_property
    def recording(self) -> Callable[[tuple[int, ...]], Graph]:
        """The pass up to the layer."""
        module: _Units = self.module  # type: ignore[assignment]
        return module.recording


class _Units(nn.Module):
    """Maps inputs (N, C, H, W) to the mean or maximum of each unit's map (N, units)."""

    def __init__(self, whole: Model, layer: Layer, reduction: Reduction) -> None:
        super().__init__()
        self.recording = lru_cache(maxsize=4)(
            lambda shape: up_to(whole.recording(shape), layer, reduction)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Run the recorded pass."""
        graph = self.recording(tuple(x.shape[1:]))
        return replay(graph, x, [graph.output])[graph.output]


def unit_model(model: Model, layer: str, reduction: Reduction = "mean") -> Model:
    """The network up to a layer, as a model whose classes are the layer's units.

    Whatever asks a model for a class's logit, such as `occlude`, can so be asked about a unit.

    Parameters
    ----------
    model : Model
        Shares its weights with what is returned; not changed.
    layer : str
        Name of a layer.
    reduction : {"mean", "maximum"}
        What of a unit's map stands for it.

    Raises
    ------
    ModelError
        If there is no such layer, or the forward pass cannot be followed to it.
    """
    found = model.layer(layer)
    module = _Units(model, found, reduction).eval()
    try:
        module.recording(tuple(model.input_shape))
    except UntraceableError as error:
        raise ModelError(
            f"The forward pass of {model.card.title} cannot be followed to {layer!r} ({error}); "
            "explain a class instead."
        ) from error
    return _UnitModel(
        card=model.card,
        module=module,
        device=model.device,
        classes=tuple(f"unit {number} of {layer}" for number in range(found.channels)),
        input_shape=model.input_shape,
        frontend=model.frontend,
        exclusive=False,
    )
