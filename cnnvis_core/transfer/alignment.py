"""How alike the layers of two networks are, every one with every other."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from cnnvis_core.brief import Brief
from cnnvis_core.checks import whole_number
from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.jobs import Job, Step, relay
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe
from cnnvis_core.transfer.measures import centred_gram, cka
from cnnvis_core.transfer.responses import LEAST, MOST_INPUTS, Images, batches, drawn


@dataclass(frozen=True, eq=False, repr=False)
class Alignment(Brief):
    """Centred kernel alignment of layers.

    Attributes
    ----------
    layers_a, layers_b : tuple of str
        Names of the layers of both networks.
    values : ndarray (layers of a, layers of b)
        1 for layers that see inputs alike, about 0 for unrelated ones, NaN for silent ones.
    inputs : int
        How many inputs were shown.
    """

    layers_a: tuple[str, ...]
    layers_b: tuple[str, ...]
    values: NDArray[np.float64]
    inputs: int

    def table(self) -> pd.DataFrame:
        """A layer of the first network a row, one of the second a column."""
        return pd.DataFrame(self.values, list(self.layers_a), list(self.layers_b))


def align(
    model_a: Model,
    model_b: Model,
    images: Images,
    layers_a: str | Sequence[str],
    layers_b: str | Sequence[str] | None = None,
    *,
    most: int = 256,
    seed: int = 0,
) -> Job[Alignment, None]:
    """Centred kernel alignment of every layer of a network with every layer of another one.

    In one pass for all layers; see `measures.cka`.

    Parameters
    ----------
    model_a, model_b : Model
        Of one kind of input.
    images : str, Path, Dataset or Tensor (N, C, H, W)
        What is shown to both, at least 8.
    layers_a, layers_b : str or sequence of str
        Names of layers; by default the same ones of both.
    most : int
        How many of the images are shown.
    seed : int
        Of their draw.

    Returns
    -------
    Job
        Its result is an `Alignment`.

    Raises
    ------
    ModelError
        If a layer is not there, or the networks take other inputs.
    InputError
        If the images cannot be used.
    """
    most = whole_number("most", most, LEAST, MOST_INPUTS)
    names = _names(layers_a), _names(layers_a if layers_b is None else layers_b)
    if not all(names):
        raise InputError("Name at least one layer of each network.")
    for model, wanted in zip((model_a, model_b), names, strict=True):
        for name in wanted:
            model.layer(name)
    if model_a.modality != model_b.modality or model_a.input_shape != model_b.input_shape:
        raise ModelError("The networks do not take the same inputs; choose two of one kind.")
    return Job(_align((model_a, model_b), names, images, most, seed))


def _names(layers: str | Sequence[str]) -> tuple[str, ...]:
    return (layers,) if isinstance(layers, str) else tuple(layers)


@torch.inference_mode()
def _grams(probe: Probe, wanted: tuple[str, ...], part: torch.Tensor) -> torch.Tensor:
    """Centred Gram matrices of some layers for a part of the inputs, on the CPU."""
    maps = probe.maps(part.to(probe.model.device))
    return torch.stack([centred_gram(maps[name]).cpu() for name in wanted])


def _align(
    models: tuple[Model, Model],
    names: tuple[tuple[str, ...], tuple[str, ...]],
    images: Images,
    most: int,
    seed: int,
) -> Generator[Step[None], None, Alignment]:
    decoding = drawn(models[0], images, most, seed)
    x = yield from relay(decoding, lambda done: Step(min(done, most), 2 * most))
    probes = [
        Probe(model, wanted, tuple(model.input_shape))
        for model, wanted in zip(models, names, strict=True)
    ]
    grams: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []
    parts = [part for part in batches(x) if len(part) == len(batches(x)[0])]
    for number, part in enumerate(parts, 1):
        for probe, wanted, kept in zip(probes, names, grams, strict=True):
            kept.append(_grams(probe, wanted, part))
        yield Step(most + most * number // len(parts), 2 * most)
    values = cka(torch.stack(grams[0]), torch.stack(grams[1]))
    return Alignment(*names, values.numpy(), len(x))
