"""Tuning curves: the part of a unit's answer that carries its tuning, and what chance would do."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnvis_core.orientation.responses import Harmonics, Place, Responses

SILENT = 1e-5  # of what the layer reaches at all: below it lies rounding
CHANCE = 0.05  # share of control units that would be called selective

Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Curves:
    """Responses to two parameters.

    Attributes
    ----------
    response : ndarray (units, first, second)
        Never below 0.
    modulation : ndarray (units,)
        F1/F0 at the strongest response: above 1 for simple cells, below for complex ones.
    level : float
        The most that the layer, its blank or its control units reach.
    """

    response: Values
    modulation: Values
    level: float

    @property
    def best(self) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Units and indices (units,) of their strongest response."""
        units, _, second = self.response.shape
        at = self.response.reshape(units, -1).argmax(1)
        return np.arange(units), at // second, at % second

    @property
    def peak(self) -> Values:
        """Strongest response of each unit."""
        found: Values = self.response[self.best]
        return found

    @property
    def responds(self) -> NDArray[np.bool_]:
        """Which units respond to anything."""
        found: NDArray[np.bool_] = self.peak > SILENT * max(self.level, 1e-30)
        return found

    @property
    def over_first(self) -> Values:
        """Curves (units, first) through each unit's strongest response."""
        units, _, second = self.best
        found: Values = self.response[units, :, second]
        return found

    @property
    def over_second(self) -> Values:
        """Curves (units, second) through each unit's strongest response."""
        units, first, _ = self.best
        found: Values = self.response[units, first]
        return found


def curves(
    heard: Responses, place: Place, shown: list[int], beside: Responses | None = None
) -> Curves:
    """Tuning curves over those values of the first parameter that were shown in all phases.

    Simple cells follow the stripes as they pass, complex ones answer to them wherever they are: a
    unit's response is the amplitude of the first harmonic, F1, if that gets stronger than the mean
    above that to no contrast, F0, and else F0 (Skottun et al. 1991). What is not finite counts as
    no response.

    Parameters
    ----------
    heard : Responses
        Of the units.
    place : {"middle", "mean"}
        Where they are listened to.
    shown : list of int
        Those values, by index.
    beside : Responses, optional
        Of control units, which tell how strongly such kernels can respond at all.
    """
    found: Harmonics = getattr(heard, place)
    mean = found.f0[:, shown].astype(np.float64) - found.blank[:, None, None]
    first = np.abs(found.f1[:, shown]).astype(np.float64)
    simple = first.max((1, 2)) > mean.max((1, 2))
    response = np.where(simple[:, None, None], first, mean)
    response = np.maximum(np.nan_to_num(response, nan=0.0, posinf=0.0, neginf=0.0), 0)
    level = max(float(response.max(initial=0)), _most(np.abs(found.blank)))
    if beside is not None:
        other: Harmonics = getattr(beside, place)
        level = max(level, _most(np.abs(other.f1)), _most(np.abs(other.blank)))
    made = Curves(response, np.empty(0), level)
    f0, f1 = mean[made.best], first[made.best]
    with np.errstate(divide="ignore", invalid="ignore"):
        modulation = np.where(f0 > 0, f1 / f0, np.inf)
    return replace(made, modulation=modulation)


def _most(values: NDArray[Any]) -> float:
    """The largest finite value."""
    return float(np.max(values, initial=0.0, where=np.isfinite(values)))


def beyond_chance(
    heard: tuple[Responses | None, Responses | None],
    place: Place,
    shown: list[int],
    units: int,
    index: Callable[[Curves], Values],
) -> pd.Series:
    """Whether units reach more than control units do but for 5 % of them; missing without these.

    Both are compared before the non-linearity: its threshold sharpens the tuning of whatever is
    weak, as shuffled kernels are. The limit is the conformal one: of n control units the one of
    rank ``ceil(0.95 (n + 1))``, so that another unit of their kind exceeds it in 5 % of cases at
    most (V. Vovk et al., Algorithmic learning in a random world, 2005).

    Parameters
    ----------
    heard : tuple
        Of the units and of the control units, before the non-linearity.
    place : {"middle", "mean"}
        Where they are listened to.
    shown : list of int
        Values of the first parameter that both were shown.
    units : int
        Number of units.
    index : callable
        An index of tuning (units,) of curves.
    """
    drive, control = heard
    unknown = pd.Series(pd.NA, index=range(units), dtype="boolean")
    if drive is None or control is None:
        return unknown
    by_chance, own = curves(control, place, shown), curves(drive, place, shown, control)
    chance = np.sort(index(by_chance)[by_chance.responds])
    rank = int(np.ceil((1 - CHANCE) * (len(chance) + 1)))
    if rank > len(chance):
        return unknown
    return pd.Series(own.responds & (index(own) > chance[rank - 1]), dtype="boolean")


def in_one(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """The table of the only layer, or of all with a column ``layer``."""
    if len(tables) == 1:
        return next(iter(tables.values()))
    parts = [table.assign(layer=name) for name, table in tables.items()]
    return pd.concat(parts, ignore_index=True)
