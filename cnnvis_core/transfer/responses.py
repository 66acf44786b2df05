"""Showing the same inputs to two networks."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.datasets import Dataset, open_dataset
from cnnvis_core.datasets.decoding import decoded
from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe
from cnnvis_core.transfer.measures import centred_gram, cka

BATCH = 32
SMALLEST, FEW = 6, 4  # inputs of a batch, and batches from which a spread is told
LEAST, MOST_INPUTS = 8, 4096  # inputs
ROUNDS = 32  # of the bootstrap
SPAN = 1e-9  # of a unit's mean square, below which it counts as silent

Images = str | Path | Dataset | torch.Tensor


@dataclass(frozen=True, eq=False)
class Responses:
    """What a layer of two networks made of the same inputs, as sums over each input's places.

    Attributes
    ----------
    sums : ndarray (inputs, 6, units)
        Number of places, and sums of a, b, a a, b b and a b.
    grams_a, grams_b : Tensor (batches, 1, n, n)
        For `cka`.
    """

    sums: NDArray[np.float64]
    grams_a: torch.Tensor
    grams_b: torch.Tensor

    def correlation(self) -> NDArray[np.float64]:
        """Pearson's correlation (units,) of each unit's responses in both networks.

        Over all places of all inputs. Of a unit that is constant in one network 0, in both 1.
        """
        return _correlation(self.sums.sum(0))

    def correlation_noise(self, seed: int) -> NDArray[np.float64]:
        """Standard deviation (units,) of the correlation over other draws of the inputs.

        By the bootstrap (B. Efron, 1979).
        """
        rng = np.random.default_rng(seed)
        count = len(self.sums)
        rounds = []
        for _ in range(ROUNDS):
            weights = np.bincount(rng.integers(count, size=count), minlength=count)
            rounds.append(_correlation(np.tensordot(weights, self.sums, 1)))
        return np.stack(rounds).std(0)

    def cka(self) -> float:
        """Of the layer in both networks."""
        return float(cka(self.grams_a, self.grams_b))

    def cka_noise(self, seed: int) -> float:
        """Standard deviation of it over other draws of the batches; NaN for fewer than four."""
        rng = np.random.default_rng(seed)
        count = len(self.grams_a)
        if count < FEW:
            return float("nan")
        drawn = [torch.from_numpy(rng.integers(count, size=count)) for _ in range(ROUNDS)]
        return float(np.std([float(cka(self.grams_a[d], self.grams_b[d])) for d in drawn]))


def _correlation(sums: NDArray[np.float64]) -> NDArray[np.float64]:
    count, a, b, aa, bb, ab = sums
    with np.errstate(invalid="ignore", divide="ignore"):
        a, b = a / count, b / count
        spread_a, spread_b = aa / count - a * a, bb / count - b * b
        silent_a, silent_b = spread_a <= SPAN * aa / count, spread_b <= SPAN * bb / count
        found = np.clip((ab / count - a * b) / np.sqrt(spread_a * spread_b), -1.0, 1.0)
    found = np.where(silent_a | silent_b, 0.0, found)
    return np.where(silent_a & silent_b, 1.0, found)


def drawn(model: Model, images: Images, most: int, seed: int) -> Generator[int, None, torch.Tensor]:
    """Inputs (N, C, H, W) in random order; yields how many were decoded by then.

    Raises
    ------
    InputError
        If there are too few, or they are not such as the model takes.
    """
    if isinstance(images, torch.Tensor):
        if images.ndim != 4 or images.shape[1] != model.input_shape[0]:
            raise InputError(
                f"The inputs are (N, {model.input_shape[0]}, H, W), not {tuple(images.shape)}."
            )
        if not bool(images.isfinite().all()):
            raise InputError("The inputs hold values that are no finite numbers.")
        found = list(images[:most].float().cpu().split(1))
    else:
        dataset = open_dataset(images, model.modality)
        chosen = np.random.default_rng(seed).permutation(len(dataset.names))[:most]
        found = []
        for number, (_, parts) in enumerate(decoded(model, dataset, sorted(chosen.tolist())), 1):
            if not isinstance(parts, InputError):
                found.append(parts[len(parts) // 2])  # of a long sound the window in its middle
            yield number
    if len(found) < LEAST:
        raise InputError(f"At least {LEAST} inputs are needed, not {len(found)}; choose others.")
    order = np.random.default_rng(seed).permutation(len(found))
    return torch.cat([found[place] for place in order])


def batches(x: torch.Tensor) -> list[torch.Tensor]:
    """Inputs (N, C, H, W) in batches of one size, four or more where there are enough of them.

    What is too few for a further batch comes last, as a smaller one.
    """
    return list(x.split(min(BATCH, max(SMALLEST, len(x) // FEW))))


def check_alike(a: Model, b: Model, layer: str) -> None:
    """Refuse networks whose layer is not of one shape, or that take other inputs.

    Raises
    ------
    ModelError
        If they cannot be compared.
    """
    if a.modality != b.modality or a.input_shape != b.input_shape:
        raise ModelError(
            f"{a.card.title} and {b.card.title} do not take the same inputs; choose two networks "
            "of one kind."
        )
    one, other = a.layer(layer), b.layer(layer)
    if one.channels != other.channels or len(one.output_shape) != len(other.output_shape):
        raise ModelError(
            f"{layer} has {one.channels} units in {a.card.title} and {other.channels} in "
            f"{b.card.title}; choose a layer that both have."
        )


def common_layers(a: Model, b: Model) -> tuple[str, ...]:
    """Names of the layers that two networks share, with as many units in both."""
    there = {layer.name: layer.channels for layer in b.layers}
    return tuple(x.name for x in a.layers if there.get(x.name) == x.channels)


class Listener:
    """Adds up what a layer of two networks makes of batches."""

    def __init__(self, a: Model, b: Model, layer: str) -> None:
        self._probes = [Probe(model, (layer,), tuple(model.input_shape)) for model in (a, b)]
        self._layer = layer
        self._sums: list[NDArray[np.float64]] = []
        self._grams: tuple[list[torch.Tensor], list[torch.Tensor]] = [], []

    def hear(self, x: torch.Tensor) -> None:
        """Show a batch to both."""
        with torch.inference_mode():
            a, b = (probe.maps(x.to(probe.model.device))[self._layer] for probe in self._probes)
            one, other = a.flatten(2).cpu().double(), b.flatten(2).cpu().double()
            places = torch.full(one.shape[:2], one.shape[2], dtype=torch.float64)
            parts = [one, other, one * one, other * other, one * other]
            self._sums.append(torch.stack([places, *(p.sum(2) for p in parts)], 1).numpy())
            for grams, maps in zip(self._grams, (a, b), strict=True):
                if not grams or len(maps) == len(grams[0]):
                    grams.append(centred_gram(maps).cpu())

    def heard(self) -> Responses:
        """All that was heard."""
        a, b = (torch.stack(grams)[:, None] for grams in self._grams)
        return Responses(np.concatenate(self._sums), a, b)
