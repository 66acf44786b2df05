"""How much belief a map deserves: deletion and insertion curves."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.brief import Brief
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Model, ScoreKind
from cnnvis_core.occlusion.evaluators import batch_size
from cnnvis_core.occlusion.occluder import Occluder


@dataclass(frozen=True, eq=False, repr=False)
class Faithfulness(Brief):
    """Score of the answer while places are taken away or brought back in the map's order.

    Attributes
    ----------
    share : ndarray (steps + 1,)
        Share of the input that is covered (deletion) or shown (insertion), from 0 to 1.
    deletion, insertion : ndarray (steps + 1,)
        Score when the strongest places go, or come, first.
    random_deletion, random_insertion : ndarray (steps + 1,)
        The same in a random order of patches: what a map without meaning would score.
    """

    share: NDArray[np.float64]
    deletion: NDArray[np.float64]
    insertion: NDArray[np.float64]
    random_deletion: NDArray[np.float64]
    random_insertion: NDArray[np.float64]

    @property
    def deletion_area(self) -> float:
        """Area under the deletion curve, in the score's unit; lower is better."""
        return float(np.trapezoid(self.deletion, self.share))

    @property
    def insertion_area(self) -> float:
        """Area under the insertion curve, in the score's unit; higher is better."""
        return float(np.trapezoid(self.insertion, self.share))

    @property
    def random_deletion_area(self) -> float:
        """Deletion area of the random order."""
        return float(np.trapezoid(self.random_deletion, self.share))

    @property
    def random_insertion_area(self) -> float:
        """Insertion area of the random order."""
        return float(np.trapezoid(self.random_insertion, self.share))


def top_share(heatmap: NDArray[np.float32], share: float) -> NDArray[np.bool_]:
    """Mask (H, W) of the given share of places with the highest values, ties by position."""
    count = round(share * heatmap.size)
    mask = np.zeros(heatmap.size, np.bool_)
    mask[np.argsort(-heatmap, axis=None, kind="stable")[:count]] = True
    return mask.reshape(heatmap.shape)


def faithfulness(
    model: Model,
    occluder: Occluder,
    heatmap: NDArray[np.float32],
    target: int,
    steps: int = 20,
    seed: int = 0,
    score: ScoreKind = "probability",
) -> Job[Faithfulness, None]:
    """Deletion and insertion curves of a map (Petsiuk, Das and Saenko 2018, "RISE").

    Parameters
    ----------
    model : Model
        The network.
    occluder : Occluder
        What takes places away; the random order is one of its patches.
    heatmap : ndarray (H, W)
        The map, of any method, over the network's input.
    target : int
        The class.
    steps : int
        Points of each curve after the first.
    seed : int
        Of the random order.
    score : {"probability", "logit"}
        What is measured.

    Returns
    -------
    Job
        Its result is a `Faithfulness`.
    """
    return Job(_curves(model, occluder, heatmap, target, steps, seed, score))


def _curves(
    model: Model,
    occluder: Occluder,
    heatmap: NDArray[np.float32],
    target: int,
    steps: int,
    seed: int,
    score: ScoreKind,
) -> Generator[Step[None], None, Faithfulness]:
    share = np.linspace(0, 1, steps + 1)
    shuffled = np.random.default_rng(seed).random(occluder.grid.shape, np.float32)
    orders = (heatmap, occluder.grid.average(shuffled))
    covers = []
    for order in orders:
        tops = [top_share(order, s) for s in share]
        covers += tops + [~top for top in tops]
    size = batch_size(model, occluder.clean().shape)
    values: list[float] = []
    for first in range(0, len(covers), size):
        scores = model.score(occluder.masked(covers[first : first + size]), score)
        values += scores[:, target].double().tolist()
        yield Step(len(values), len(covers))
    curves = np.array(values).reshape(4, steps + 1)
    return Faithfulness(share, *curves)
