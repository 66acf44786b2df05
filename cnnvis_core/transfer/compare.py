"""Comparing two networks, unit by unit."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import nn

from cnnvis_core.checks import whole_number
from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.jobs import Job, Step, relay
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.transfer.change import Change
from cnnvis_core.transfer.measures import relative_change
from cnnvis_core.transfer.pictures import Drawing, Drawn, drawn
from cnnvis_core.transfer.responses import (
    LEAST,
    MOST_INPUTS,
    Images,
    Listener,
    Responses,
    batches,
    check_alike,
)
from cnnvis_core.transfer.responses import drawn as drawn_inputs


def compare(
    model_a: Model,
    model_b: Model,
    layer: str,
    images: Images | None = None,
    maximize: bool | Sequence[int] = False,
    *,
    controls: Sequence[Model] = (),
    most: int = 256,
    seed: int = 0,
    seeds: int = 2,
    steps: int = 128,
    size: int = 64,
) -> Job[Change, None]:
    """How the units of a layer changed from one network to another.

    Each measure stands beside its noise. With ``controls``, networks that were made as ``model_b``
    was but with other seeds, that is what the measure reads between these and ``model_b``: what
    another run of the same training would have made of the unit. Without them it is the noise of
    the measurement alone: none for weights; for correlations, of which a copy reads exactly 1, the
    standard error over other draws of the inputs (bootstrap); for pictures what the measure reads
    between those that the first network draws from other seeds.

    Parameters
    ----------
    model_a, model_b : Model
        Before and after; with this layer in one shape.
    layer : str
        Its name.
    images : str, Path, Dataset or Tensor (N, C, H, W), optional
        What is shown to both, at least 8; see `open_dataset`. Without it responses and alignment
        are not measured.
    maximize : bool or sequence of int
        Whether all units are drawn in both networks, from the same start and seed, or which.
    controls : sequence of Model
        See above.
    most : int
        How many of the images are shown, 8 to 4,096.
    seed : int
        Of the draw of the images, and of the pictures.
    seeds : int
        How many other seeds tell the noise of pictures, 0 to 16.
    steps, size : int
        Of the pictures, see `cnnvis_core.maximize`.

    Returns
    -------
    Job
        Its result is a `Change`, ranked by responses where they were measured, else by weights,
        else by pictures.

    Raises
    ------
    ModelError
        If the networks do not share the layer, or there is no such unit.
    InputError
        If a value or the images cannot be used.
    """
    for other in (model_b, *controls):
        check_alike(model_a, other, layer)
    most = whole_number("most", most, LEAST, MOST_INPUTS)
    seed = whole_number("seed", seed, 0, 2**31 - 1)
    seeds = whole_number("seeds", seeds, 0, 16)
    units = _units(model_a.layer(layer), maximize)
    how = Drawing(steps, size, seed, seeds)
    return Job(_compare(model_a, model_b, layer, images, units, controls, most, how))


def _units(layer: Layer, maximize: bool | Sequence[int]) -> tuple[int, ...]:
    if isinstance(maximize, bool):
        return tuple(range(layer.channels)) if maximize else ()
    try:
        chosen = tuple(dict.fromkeys(int(unit) for unit in maximize))
    except (TypeError, ValueError) as error:
        raise InputError("maximize is True, False or a list of units.") from error
    if chosen and not 0 <= min(chosen) <= max(chosen) < layer.channels:
        raise ModelError(f"{layer.name} has units 0 to {layer.channels - 1}.")
    return chosen


def _compare(
    a: Model,
    b: Model,
    layer: str,
    images: Images | None,
    units: tuple[int, ...],
    controls: Sequence[Model],
    most: int,
    how: Drawing,
) -> Generator[Step[None], None, Change]:
    count = a.layer(layer).channels
    pictures = (2 + (len(controls) or how.seeds)) * how.steps if units else 0
    yield Step(0, most + pictures)
    heard: Responses | None = None
    heard_controls: list[Responses] = []
    inputs = 0
    if images is not None:
        decoding = drawn_inputs(a, images, most, how.seed)
        x = yield from relay(decoding, lambda n: Step(min(n, most) // 2, most + pictures))
        inputs = len(x)
        listeners = [Listener(a, b, layer), *(Listener(b, other, layer) for other in controls)]
        parts = batches(x)
        for number, part in enumerate(parts, 1):
            for listener in listeners:
                listener.hear(part)
            done = most // 2 + (most - most // 2) * number // len(parts)
            yield Step(done, most + pictures)
        heard, *heard_controls = [listener.heard() for listener in listeners]
    shown: Drawn | None = None
    if units:
        drawing = drawn(a, b, layer, units, how, controls)
        shown = yield from relay(drawing, lambda step: Step(most + step.done, most + pictures))
    table = _table(count, _weights(a, b, layer), _weight_noise(b, controls, layer))
    table = _with_responses(table, heard, heard_controls, how.seed)
    table = _with_pictures(table, units, shown)
    alignment, spread, control = np.nan, np.nan, np.nan
    if heard is not None:
        alignment, spread = heard.cka(), heard.cka_noise(how.seed)
        if heard_controls:
            control = float(np.mean([other.cka() for other in heard_controls]))
    key = next(
        (name for name in ("response_change", "weight_change", "picture_change")
         if table[name].notna().any()), "unit",
    )  # fmt: skip
    ranked = table.sort_values(
        key, ascending=key == "unit", kind="stable", na_position="last", ignore_index=True
    )
    pairs = {} if shown is None else shown.pairs
    return Change(layer, ranked, alignment, spread, control, inputs, pairs, len(controls))


def weights_of(model: Model, layer: str) -> torch.Tensor | None:
    """All numbers of a layer that belong to one unit each, as (units, n); None if it has none.

    Kernels and biases, and of a normalisation its scale, shift and statistics.
    """
    module, units = model.module.get_submodule(layer), model.layer(layer).channels
    own = {
        **dict(module.named_parameters(recurse=False)),
        **dict(module.named_buffers(recurse=False)),
    }
    # Of parametrised layers, such as weight norm, what the parameters come to.
    own |= {name: getattr(module, name) for name in getattr(module, "parametrizations", ())}
    if isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        weight, groups = own["weight"], module.groups
        split = weight.reshape(groups, -1, weight.shape[1], *weight.shape[2:])
        own["weight"] = split.transpose(1, 2).reshape(units, -1)
    parts = [v.detach().reshape(units, -1).float().cpu() for v in own.values()
             if v.ndim and len(v) == units]  # fmt: skip
    return torch.cat(parts, 1) if parts else None


def _weights(a: Model, b: Model, layer: str) -> NDArray[np.float64]:
    one, other = weights_of(a, layer), weights_of(b, layer)
    if one is None or other is None or one.shape != other.shape:
        return np.full(a.layer(layer).channels, np.nan)
    return relative_change(one, other).numpy()


def _weight_noise(b: Model, controls: Sequence[Model], layer: str) -> NDArray[np.float64]:
    if not controls:
        return np.zeros(b.layer(layer).channels)
    return np.mean([_weights(b, other, layer) for other in controls], 0)


def _table(count: int, weights: NDArray[np.float64], noise: NDArray[np.float64]) -> pd.DataFrame:
    noise = np.where(np.isnan(weights), np.nan, noise)
    return pd.DataFrame({"unit": np.arange(count), "weight_change": weights, "weight_noise": noise})


def _with_responses(
    table: pd.DataFrame, heard: Responses | None, controls: Sequence[Responses], seed: int
) -> pd.DataFrame:
    nothing = np.full(len(table), np.nan)
    correlation = nothing if heard is None else heard.correlation()
    noise = nothing if heard is None else heard.correlation_noise(seed)
    if controls:
        noise = np.mean([1 - other.correlation() for other in controls], 0)
    return table.assign(
        correlation=correlation,
        response_change=1 - correlation,
        response_noise=noise,
        response_excess=1 - correlation - noise,
    )


def _with_pictures(
    table: pd.DataFrame, units: tuple[int, ...], shown: Drawn | None
) -> pd.DataFrame:
    def placed(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        whole = np.full(len(table), np.nan)
        if values is not None:
            whole[list(units)] = values
        return whole

    failed = np.full(len(table), "", dtype=object)
    redrawn = np.zeros(len(table), np.bool_)
    for unit, pair in (shown.pairs if shown is not None else {}).items():
        failed[unit], redrawn[unit] = pair.failed, pair.redrawn
    # Of a picture that shows nothing nothing is told.
    cosine = placed(None if shown is None else shown.cosine)
    cosine[failed != ""] = np.nan
    gram = placed(None if shown is None else shown.gram)
    gram[failed != ""] = np.nan
    return table.assign(
        cosine=cosine,
        picture_change=1 - cosine,
        picture_noise=1 - placed(None if shown is None else shown.cosine_noise),
        gram_distance=gram,
        gram_noise=placed(None if shown is None else shown.gram_noise),
        failed=failed,
        redrawn=redrawn,
    )
