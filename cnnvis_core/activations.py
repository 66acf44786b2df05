"""Feature maps: what the units of a network really answer to an input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models.graph import UntraceableError
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.models.probe import Probe

Order = Literal["index", "mean", "maximum", "active share"]
ORDERS: tuple[Order, ...] = ("index", "mean", "maximum", "active share")


def feature_maps(
    model: Model, x: torch.Tensor, layers: str | Sequence[str], rectified: bool = False
) -> dict[str, torch.Tensor]:
    """Activations of layers for one input; nothing behind the last of them is computed.

    Parameters
    ----------
    model : Model
        Left as it was found; nothing is hooked where its pass can be recorded.
    x : Tensor (1, C, H, W)
        From `Model.preprocess`.
    layers : str or sequence of str
        Names from ``model.layers``.
    rectified : bool
        Behind the non-linearity that follows the layer instead, with the normalisation and the sum
        with a shortcut that stand between; layers that none follows are left out.

    Returns
    -------
    dict
        Layer name -> float32 tensor (units, h, w) on the model's device; h and w are 1 for layers
        without a map.

    Raises
    ------
    ModelError
        If there is no such layer, the network cannot take the input, or its pass cannot be followed
        to a non-linearity.
    InputError
        If ``x`` is not one input.
    """
    names = [layers] if isinstance(layers, str) else list(layers)
    if x.ndim != 4 or len(x) != 1:
        raise InputError(f"One input (1, C, H, W) is needed, not {tuple(x.shape)}.")
    x = x.to(model.device)
    with torch.inference_mode():
        try:
            probe = Probe(model, names, tuple(x.shape[1:]), rectified)
        except UntraceableError as error:
            raise ModelError(
                f"The forward pass of {model.card.title} cannot be followed ({error}); look at "
                "the layers of the non-linearity themselves."
            ) from error
        values = probe.maps(x)
    if any(len(value) != 1 for value in values.values()):
        raise ModelError(
            f"{model.card.title} looks at an input of this size in several windows, with maps in "
            f"each; give it one of {model.input_shape}."
        )
    return {name: value[0] for name, value in values.items()}


def upsample(
    maps: NDArray[np.float32], layer: Layer, extent: tuple[int, int]
) -> NDArray[np.float32]:
    """Maps over the input, each value at the middle of what its position sees.

    Between the middles values are interpolated; beyond the outermost they stay as they are.

    Parameters
    ----------
    maps : ndarray (..., h, w)
        Of the layer.
    layer : Layer
        Where its receptive field is not known along an axis, the map is spread over the extent.
    extent : tuple of int
        Height and width of the input.

    Returns
    -------
    ndarray (..., height, width)
    """
    field = layer.receptive_field
    for side, axis in ((0, -2), (1, -1)):
        count, length = maps.shape[axis], extent[side]
        if field is not None and field.stride[side]:
            first = field.offset[side] + field.size[side] / 2
            step = float(field.stride[side])
        else:
            step = length / count
            first = step / 2
        place = np.clip((np.arange(length) + 0.5 - first) / step, 0, count - 1)
        low = np.minimum(place.astype(int), max(count - 2, 0))
        share = (place - low).astype(np.float32)
        share = share.reshape((-1,) + (1,) * (-1 - axis))
        lower = maps.take(low, axis)
        maps = lower + share * (maps.take(np.minimum(low + 1, count - 1), axis) - lower)
    return maps


@dataclass(frozen=True, eq=False)
class UnitStatistics:
    """How strongly each unit of a layer answers to one input.

    Attributes
    ----------
    mean, maximum : ndarray (units,)
        Over the map.
    active_share : ndarray (units,)
        Share of the map's positions above 0, in [0, 1].
    peak : ndarray (units, 2)
        Row and column of the maximum.
    """

    mean: NDArray[np.float32]
    maximum: NDArray[np.float32]
    active_share: NDArray[np.float32]
    peak: NDArray[np.int64]

    def order(self, by: Order) -> NDArray[np.int64]:
        """Units (units,) in an order, strongest first; by index, the first first."""
        named: dict[str, NDArray[Any]] = {
            "index": -np.arange(len(self.mean)),
            "mean": self.mean,
            "maximum": self.maximum,
            "active share": self.active_share,
        }
        return np.argsort(-named[by], kind="stable")


def statistics(maps: torch.Tensor) -> UnitStatistics:
    """Statistics of the maps (units, h, w) of a layer."""
    flat = maps.flatten(1)
    where = flat.argmax(1).cpu().numpy()
    return UnitStatistics(
        flat.mean(1).cpu().numpy(),
        flat.amax(1).cpu().numpy(),
        (flat > 0).float().mean(1).cpu().numpy(),
        np.stack(np.unravel_index(where, tuple(maps.shape[1:])), 1),
    )
