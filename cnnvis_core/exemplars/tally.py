"""What is kept of each unit while pictures pass: the strongest ones, means by class, a sketch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

# Buckets of a sketch: a value is known to within a twentieth, from a millionth to a million.
RATIO = 1.1
SMALLEST, LARGEST = 1e-6, 1e6
HALF = int(np.ceil(np.log(LARGEST / SMALLEST) / np.log(RATIO)))
BUCKETS = 2 * HALF + 3  # below zero, zero, above zero, and an end for what lies beyond

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclass(frozen=True, eq=False)
class Tally:
    """What some items made of a layer's units; those of two sets of items add up to that of both.

    Attributes
    ----------
    max_value, mean_value : Tensor (units, k)
        The largest maxima of a map, and means, strongest first; minus infinity where there are
        fewer items.
    max_item, mean_item : Tensor of int64 (units, k)
        Whose they are; of equal ones the first.
    max_place : Tensor of int64 (units, k, 3)
        Row and column of the maximum, the first in reading order if there are several, and the
        window that it lies in, 0 but for long sounds.
    class_max, class_mean : Tensor of float64 (units, classes)
        Sums of maxima and of means by class, of answers that are finite numbers.
    class_count : Tensor of float64 (units, classes)
        How many such answers there were.
    max_sketch, mean_sketch : Tensor of int32 (units, BUCKETS)
        How many maxima and means fell into each bucket; see `quantiles`.
    """

    max_value: torch.Tensor
    max_item: torch.Tensor
    max_place: torch.Tensor
    mean_value: torch.Tensor
    mean_item: torch.Tensor
    class_max: torch.Tensor
    class_mean: torch.Tensor
    class_count: torch.Tensor
    max_sketch: torch.Tensor
    mean_sketch: torch.Tensor

    def plus(self, later: Tally) -> Tally:
        """The tally of these items and of later ones."""
        k = self.max_value.shape[1]
        order = _strongest(torch.cat([self.max_value, later.max_value], 1), k)
        by_mean = _strongest(torch.cat([self.mean_value, later.mean_value], 1), k)

        def both(name: str, by: torch.Tensor) -> torch.Tensor:
            return _taken(torch.cat([getattr(self, name), getattr(later, name)], 1), by)

        return Tally(
            both("max_value", order),
            both("max_item", order),
            both("max_place", order),
            both("mean_value", by_mean),
            both("mean_item", by_mean),
            self.class_max + later.class_max,
            self.class_mean + later.class_mean,
            self.class_count + later.class_count,
            self.max_sketch + later.max_sketch,
            self.mean_sketch + later.mean_sketch,
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its parts by name, on the CPU."""
        return {part.name: getattr(self, part.name).cpu().numpy() for part in fields(self)}

    @classmethod
    def of_arrays(cls, parts: dict[str, NDArray[Any]]) -> Tally:
        """The inverse of `arrays`."""
        return cls(**{part.name: torch.from_numpy(parts[part.name]) for part in fields(cls)})

    def cpu(self) -> Tally:
        """The same on the CPU."""
        return Tally(*(getattr(self, part.name).cpu() for part in fields(self)))

    @cached_property
    def units(self) -> int:
        """Number of units."""
        return len(self.max_value)


@dataclass(frozen=True, eq=False)
class Answers:
    """What a batch of items made of a layer's units.

    Attributes
    ----------
    maximum, mean : Tensor (items, units)
        Of each map.
    place : Tensor of int64 (items, units, 3)
        Row, column and window of the maximum.
    """

    maximum: torch.Tensor
    mean: torch.Tensor
    place: torch.Tensor

    @classmethod
    def joined(cls, parts: Sequence[Answers]) -> Answers:
        """Answers to one batch after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(*(torch.cat([getattr(p, f.name) for p in parts]) for f in fields(cls)))

    @classmethod
    def of_maps(cls, maps: torch.Tensor) -> Answers:
        """Answers to inputs whose maps are (N, units, h, w)."""
        width = maps.shape[3]
        # Maps may lie in memory channel by channel; the first maximum in reading order is meant.
        flat = maps.flatten(2)
        maximum, at = flat.max(2)
        maximum = maximum.where(~maximum.isnan(), float("-inf"))
        mean = flat.mean(2)
        mean = mean.where(~mean.isnan(), float("-inf"))
        return cls(maximum, mean, torch.stack([at // width, at % width, at * 0], 2))


def tally(
    answers: Answers, items: torch.Tensor, labels: torch.Tensor, k: int, classes: int
) -> Tally:
    """The tally of one batch.

    Parameters
    ----------
    answers : Answers
        Of the batch.
    items : Tensor of int64 (items,)
        Index of each item, ascending.
    labels : Tensor of int64 (items,)
        Class of each; -1 for none.
    k : int
        How many are kept.
    classes : int
        Number of classes.
    """
    values, means = answers.maximum.T, answers.mean.T
    order, by_mean = _strongest(values, k), _strongest(means, k)
    each = items.expand(values.shape)
    member = torch.nn.functional.one_hot(labels.clamp_min(0), max(classes, 1))[:, :classes]
    member = (member * (labels >= 0)[:, None]).double()
    finite = values.isfinite() & means.isfinite()
    return Tally(
        _taken(values, order),
        _taken(each, order),
        _taken(answers.place.transpose(0, 1), order),
        _taken(means, by_mean),
        _taken(each, by_mean),
        values.double().where(finite, 0.0) @ member,
        means.double().where(finite, 0.0) @ member,
        finite.double() @ member,
        _sketch(values, finite),
        _sketch(means, finite),
    )


def _strongest(values: torch.Tensor, k: int) -> torch.Tensor:
    """Indices (units, k) of the largest values, of equal ones the first; -1 where there is none."""
    order = values.sort(dim=1, descending=True, stable=True).indices[:, :k]
    short = k - order.shape[1]
    return torch.nn.functional.pad(order, (0, short), value=-1) if short > 0 else order


def _taken(values: torch.Tensor, order: torch.Tensor) -> torch.Tensor:
    """Values (units, n, ...) in an order (units, k); minus infinity, or -1, where there is none."""
    index = order.clamp_min(0)
    missing = order < 0
    if values.ndim == 3:
        index = index[..., None].expand(*order.shape, values.shape[2])
        missing = missing[..., None]
    found = values.gather(1, index)
    return found.masked_fill(missing, -1 if not found.is_floating_point() else float("-inf"))


def _sketch(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """How many of the counted values (units, n) fall into each bucket (units, BUCKETS)."""
    values = values.where(counted, 0.0)
    size = values.abs().double()
    step = ((size / SMALLEST).log() / np.log(RATIO)).ceil().clamp(1, HALF + 1)
    step = torch.where(size <= SMALLEST, 0.0, step).long()
    bucket = HALF + 1 + step * values.sign().long()
    counts = torch.zeros(len(values), BUCKETS, dtype=torch.int32, device=values.device)
    return counts.scatter_add_(1, bucket, counted.int())


def quantiles(
    sketch: NDArray[np.int64], shares: tuple[float, ...] = QUANTILES
) -> NDArray[np.float64]:
    """Quantiles (units, shares) of what a sketch (units, BUCKETS) has counted, within 5 %.

    Buckets grow by a tenth each, so that a value is told by the middle of its bucket (C. Masson,
    J. E. Rim and H. K. Lee, "DDSketch: a fast and fully-mergeable quantile sketch", VLDB 2019).
    """
    steps = np.arange(BUCKETS) - (HALF + 1)
    middle = np.sign(steps) * SMALLEST * RATIO ** np.abs(steps) * 2 / (1 + RATIO)
    below = sketch.cumsum(1)
    count = below[:, -1:]
    found = [middle[(below > np.floor(share * (count - 1))).argmax(1)] for share in shares]
    return np.where(count > 0, np.stack(found, 1), np.nan)
