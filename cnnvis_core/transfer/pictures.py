"""What two networks draw for the same units, from the same starts."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.jobs import Step
from cnnvis_core.maximization import Maximization, maximize
from cnnvis_core.models.levels import levels_of
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe
from cnnvis_core.transfer.change import Pair
from cnnvis_core.transfer.measures import cosine, gram_distance

SEED_APART = 104_729  # between the seeds of control pictures
BATCH = 16


@dataclass(frozen=True)
class Drawing:
    """How pictures are drawn.

    Attributes
    ----------
    steps : int
        Of the ascent.
    size : int
        Pixels a side.
    seed : int
        Of the first noise.
    seeds : int
        How many other seeds tell the noise.
    """

    steps: int
    size: int
    seed: int
    seeds: int


@dataclass(frozen=True, eq=False)
class Drawn:
    """Pictures of units in two networks, and how alike they look to the first one.

    Attributes
    ----------
    pairs : dict
        Unit -> `Pair`.
    cosine, gram : ndarray (units,)
        Of the pair.
    cosine_noise, gram_noise : ndarray (units,)
        The same of pictures that the first network draws from other seeds: what no change looks
        like.
    """

    pairs: dict[int, Pair]
    cosine: NDArray[np.float64]
    gram: NDArray[np.float64]
    cosine_noise: NDArray[np.float64]
    gram_noise: NDArray[np.float64]


def drawn(
    a: Model, b: Model, layer: str, units: Sequence[int], how: Drawing, controls: Sequence[Model]
) -> Generator[Step[None], None, Drawn]:
    """Draw the units in both networks, and once more for the noise.

    Noise is how far the first network's pictures from other seeds lie from that of the first seed;
    with ``controls``, how far their pictures lie from that of ``b``.
    """
    others = len(controls) or how.seeds
    total = (2 + others) * how.steps
    before = yield from _ascent(a, layer, units, how, how.seed, 0, total)
    after = yield from _ascent(b, layer, units, how, how.seed, 1, total)
    reference, against = (after, controls) if controls else (before, ())
    cosines, grams = [], []
    for number in range(others):
        if against:
            other = yield from _ascent(
                against[number], layer, units, how, how.seed, 2 + number, total
            )
        else:
            seed = how.seed + SEED_APART * (number + 1)
            other = yield from _ascent(a, layer, units, how, seed, 2 + number, total)
        found = _alike(a, layer, reference.images, other.images)
        cosines.append(found[0])
        grams.append(found[1])
    same = _alike(a, layer, before.images, after.images)
    blank = {(False, False): "", (True, False): "before", (False, True): "after"}
    pairs = {
        unit: Pair(
            before.images[number],
            after.images[number],
            blank.get((bool(before.blank[number]), bool(after.blank[number])), "both"),
            bool(before.notes[number] or after.notes[number]),
        )
        for number, unit in enumerate(units)
    }
    nothing = np.full(len(units), np.nan)
    return Drawn(
        pairs,
        *same,
        np.mean(cosines, 0) if cosines else nothing,
        np.mean(grams, 0) if grams else nothing,
    )


def _ascent(
    model: Model, layer: str, units: Sequence[int], how: Drawing, seed: int, number: int, total: int
) -> Generator[Step[None], None, Maximization]:
    with maximize(model, layer, list(units), how.steps, how.size, seed) as job:
        for progress in job:
            share = progress.done / max(progress.total, 1)
            yield Step(int((number + share) * how.steps), total)
    return job.result


def _alike(
    base: Model, layer: str, one: torch.Tensor, other: torch.Tensor
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Cosine of the embeddings of pictures in a network, and distance of their textures.

    Embeddings are taken from that of the empty picture, which all have in common.
    """
    last = embedding_layer(base)
    probe = Probe(base, tuple(dict.fromkeys((last, layer))), tuple(one.shape[1:]))
    levels = levels_of(base)
    cosines, distances = [], []
    with torch.inference_mode():
        empty = torch.full_like(one[:1], levels.empty).to(base.device)
        common = probe.maps(levels.to_input(empty).float())[last].mean((2, 3))
        for a, b in zip(one.split(BATCH), other.split(BATCH), strict=True):
            maps = [probe.maps(levels.to_input(x.to(base.device)).float()) for x in (a, b)]
            means = [found[last].mean((2, 3)) - common for found in maps]
            cosines.append(cosine(means[0], means[1]).cpu())
            distances.append(gram_distance(maps[0][layer], maps[1][layer]).cpu())
    return torch.cat(cosines).numpy(), torch.cat(distances).numpy()


def embedding_layer(model: Model) -> str:
    """The last layer with a map; its mean over places is a network's summary of a picture."""
    found = [layer.name for layer in model.layers if layer.axes[1] is not None]
    spread = [
        name for name in found
        if len(shape := model.layer(name).output_shape) == 3 and shape[1] * shape[2] > 1
    ]  # fmt: skip
    return (spread or found or [model.layers[-1].name])[-1]
