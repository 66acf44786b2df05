"""The layers of a network in the order of its forward pass, their shapes and receptive fields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.model import Layer, ReceptiveField
from cnnvis_core.models.receptive import Axis, FieldTracker


def describe_layers(module: nn.Module, input_shape: Sequence[int]) -> tuple[Layer, ...]:
    """Layers of a network: modules without children that its forward pass calls, in that order.

    The network runs once on zeros. A module that is called several times is listed at its first
    call. A network on torch's meta device is described without computing anything.

    Parameters
    ----------
    module : torch.nn.Module
        Not shared with another thread while this runs; left as it was found.
    input_shape : sequence of int
        (C, H, W) of one input.

    Returns
    -------
    tuple of Layer
        ``channels`` is the length of the axis that is neither height nor width, wherever the layer
        keeps it. A receptive field is None where every unit sees the whole input, behind an
        operation that cannot be followed, and where no field could be found. Where units see a part
        of one axis and all of the other, the latter has stride 0.

    Raises
    ------
    ModelError
        If the network cannot take such an input.
    """
    sample = next(iter((*module.parameters(), *module.buffers())), torch.empty(0))
    kind = sample.dtype if sample.is_floating_point() else torch.float32
    found: dict[str, Layer] = {}
    modes = [(part, part.training) for part in module.modules()]
    handles = []
    try:
        with torch.inference_mode():
            x = torch.zeros((1, *input_shape), dtype=kind, device=sample.device)
            tracker = FieldTracker(x)
            for name, part in module.named_modules():
                if name and is_leaf(part):
                    handles.append(part.register_forward_hook(recorder(name, found, tracker)))
            module.eval()
            with tracker:
                module(x)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError, ModelError) as error:
        raise ModelError(
            f"The network cannot take an input of shape {tuple(input_shape)}; give another "
            f"input_shape (channels, height, width)."
        ) from error
    finally:
        for handle in handles:
            handle.remove()
        for part, mode in modes:
            part.training = mode
    return tuple(found.values())


def is_leaf(part: nn.Module) -> bool:
    """Whether a module has no children but those that only compute its own weights."""
    return all(name == "parametrizations" for name, _ in part.named_children())


def recorder(name: str, found: dict[str, Layer], tracker: FieldTracker) -> Any:
    """Return a forward hook that notes a layer at its first call."""

    def note(part: nn.Module, _: Any, output: Any) -> None:
        value = first_tensor(output)
        if name in found or value is None or value.ndim < 2 or "parametrizations." in name:
            return
        field = tracker.field_of(value)
        spatial = {axis.dim for axis in field or ()}
        rest = [dim for dim in range(1, value.ndim) if dim not in spatial]
        channel = rest[0] if rest else 1
        found[name] = Layer(
            name=name,
            kind=kind_of(part),
            channels=int(value.shape[channel]),
            output_shape=tuple(value.shape[1:]),
            receptive_field=None if field is None else as_pairs(field, tracker.extent),
            axes=(channel - 1, *places(field, rest[1:], value.ndim)),
        )

    return note


def places(
    field: tuple[Axis, Axis] | None, rest: Sequence[int], ndim: int
) -> tuple[int | None, int | None]:
    """Axes of rows and columns without the batch's; where unknown, the ones that are left."""
    dims = [axis.dim for axis in field or ()]
    if not any(dims):
        dims = [*rest, None, None] if ndim > 2 else [None, None]
    row, col = (None if dim is None else dim - 1 for dim in dims[:2])
    return row, col


def kind_of(part: nn.Module) -> str:
    """Class name, without the prefix that parametrising a module puts before it.

    A module that stands for many kinds tells its own.
    """
    told = getattr(part, "kind", None)
    if isinstance(told, str):
        return told
    kind = type(part).__name__
    return kind.removeprefix("Parametrized") if hasattr(part, "parametrizations") else kind


def as_pairs(field: tuple[Axis, Axis], extent: tuple[int, int]) -> ReceptiveField | None:
    """Return a receptive field as pairs; None where every unit sees the whole input."""
    covers = [
        axis.stride == 0 and axis.offset <= 0 and axis.offset + axis.size >= length
        for axis, length in zip(field, extent, strict=True)
    ]
    if all(covers):
        return None
    height, width = (
        Axis(axis.dim, length, 0, 0) if whole else axis
        for axis, length, whole in zip(field, extent, covers, strict=True)
    )
    return ReceptiveField(
        (height.size, width.size), (height.stride, width.stride), (height.offset, width.offset)
    )


def first_tensor(output: Any) -> torch.Tensor | None:
    """Return the first tensor in an output that may be nested."""
    if isinstance(output, torch.Tensor):
        return output
    parts = output.values() if isinstance(output, Mapping) else output
    if isinstance(parts, str) or not hasattr(parts, "__iter__"):
        return None
    return next((found for part in parts if (found := first_tensor(part)) is not None), None)
