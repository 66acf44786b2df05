"""Several methods on one input, and how far their maps deserve belief."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.attribution.gradients import Attribution, Method, attribute
from cnnvis_core.errors import ModelError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Model


@dataclass(frozen=True, eq=False)
class Comparison:
    """Several methods on one input.

    Attributes
    ----------
    found : dict
        Method -> its `Attribution`.
    refused : dict
        Method -> why it does not fit the network.
    """

    found: dict[Method, Attribution]
    refused: dict[Method, str]


def compare_methods(
    model: Model, x: torch.Tensor, methods: Sequence[Method], **question: Any
) -> Job[Comparison, Comparison]:
    """Explain one thing by several methods, one after the other.

    Parameters
    ----------
    model, x
        As for `attribute`.
    methods : sequence of str
        From `METHODS`.
    **question
        The other arguments of `attribute`.

    Returns
    -------
    Job
        Its result, and its previews, are a `Comparison`.
    """
    return Job(_compare(model, x, methods, question))


def _compare(
    model: Model, x: torch.Tensor, methods: Sequence[Method], question: dict[str, Any]
) -> Generator[Step[Comparison], None, Comparison]:
    comparison = Comparison({}, {})
    for done, method in enumerate(methods):
        yield Step(done, len(methods), Comparison({**comparison.found}, {**comparison.refused}))
        try:
            comparison.found[method] = attribute(model, x, method=method, **question)
        except ModelError as error:
            comparison.refused[method] = str(error)
    return comparison


def quarter_share(heatmap: NDArray[np.float32], row: int, col: int) -> float:
    """Share of a map's (H, W) positive mass in one quarter; 0 where nothing is positive."""
    height, width = heatmap.shape
    positive = np.maximum(heatmap, 0)
    part = positive[
        row * height // 2 : (row + 1) * height // 2, col * width // 2 : (col + 1) * width // 2
    ]
    total = float(positive.sum())
    return float(part.sum()) / total if total else 0.0


def root_mean_square(heatmap: NDArray[np.float32]) -> float:
    """Strength of a map (H, W), by which maps of different units are brought to one scale."""
    return max(float(np.sqrt(np.mean(np.square(heatmap, dtype=np.float64)))), 1e-12)


def likeness(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Rank correlation (Spearman) of two maps (H, W), -1 to 1; 0 where one of them is flat."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return 0.0
    from scipy.stats import spearmanr

    return float(spearmanr(a, b, axis=None).statistic)
