"""Ranking units that hear by what moving ripples tell of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnvis_core.brief import Brief
from cnnvis_core.errors import InputError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe
from cnnvis_core.orientation import tuning
from cnnvis_core.orientation.curves import Curves, beyond_chance, curves, in_one
from cnnvis_core.orientation.responses import Heard, Place, listener, rounds, show
from cnnvis_core.orientation.ripples import Ripples, RippleStimuli, frontend_of, usual_ripples

Order = Literal["rate", "scale", "direction", "modulation"]
FIELD_SCALES = 33  # evenly spaced ones that a receptive field is made of
ORDERS: tuple[Order, ...] = ("rate", "scale", "direction", "modulation")


@dataclass(frozen=True, eq=False, repr=False)
class LayerModulation(Brief):
    """What ripples tell of a layer's units.

    Attributes
    ----------
    table : DataFrame
        A row a unit, in the order of the units: ``unit``; ``preferred_rate_hz``, above 0;
        ``preferred_scale`` in cycles an octave; ``direction``, (down - up) / (down + up) of the
        responses at these, -1 to 1; ``selective``, whether its size before the non-linearity
        exceeds what 95 % of the layer's kernels reach with their weights shuffled (missing where
        the layer has none of its own); ``modulation``, F1/F0; ``peak_response``; ``responds``.
        What responds to nothing has no rate.
    transfer : ndarray (units, signed rates, scales)
        Responses, the transfer function of modulations.
    harmonic : ndarray of complex (units, signed rates, scales)
        First harmonics, from which `strf` is made.
    """

    table: pd.DataFrame
    transfer: NDArray[np.float64]
    harmonic: NDArray[np.complex64]


@dataclass(frozen=True, eq=False, repr=False)
class ModulationTuning(Brief):
    """What ripples tell of the units of some layers.

    Attributes
    ----------
    layers : dict
        Layer -> `LayerModulation`.
    ripples : Ripples
        What was played.
    """

    layers: dict[str, LayerModulation]
    ripples: Ripples

    @property
    def nbytes(self) -> int:
        """Bytes of its transfer functions and harmonics."""
        return sum(one.transfer.nbytes + one.harmonic.nbytes for one in self.layers.values())

    @property
    def table(self) -> pd.DataFrame:
        """The table of the only layer, or of all with a column ``layer``."""
        return in_one({name: found.table for name, found in self.layers.items()})


def rank_modulation(
    model: Model,
    layer: str | Sequence[str],
    ripples: Ripples | None = None,
    place: Place = "middle",
    rectified: bool = True,
    control: bool = True,
    seed: int = 0,
) -> Job[ModulationTuning, ModulationTuning]:
    """Measure by moving ripples which rate, scale and direction every unit of some layers prefers.

    Parameters
    ----------
    model : Model
        For sound; not changed.
    layer : str or sequence of str
        Whose units; one pass serves all of them.
    ripples : Ripples, optional
        What is played; by default `usual_ripples`.
    place, rectified, control, seed
        As for `rank_orientation`.

    Returns
    -------
    Job
        Previews and result are `ModulationTuning`; rates are played from coarse to fine.

    Raises
    ------
    InputError
        If the place is another one.
    ModelError
        If there is no such layer, or the model is none for sound.
    """
    frontend_of(model)
    probe = listener(model, layer, place, rectified, control, seed)
    return Job(_rank(RippleStimuli(model, ripples or usual_ripples(model)), probe, place))


def _rank(
    stimuli: RippleStimuli, probe: Probe, place: Place
) -> Generator[Step[ModulationTuning], None, ModulationTuning]:
    ripples, count = stimuli.ripples, len(stimuli.ripples.rates_hz)
    # A rate is shown in both directions before the next one.
    pairs = [(count - 1 - rate, count + rate) for part in rounds(count, 2) for rate in part]
    each = 2 * len(ripples.scales) * ripples.phases
    everything = range(2 * count)
    found: ModulationTuning | None = None
    measured = 0
    order = [index for pair in pairs for index in pair]
    for heard in show(stimuli.model, probe, stimuli, order, everything):
        full = heard.done // each
        if full > measured:
            measured = full
            shown = sorted(index for pair in pairs[:full] for index in pair)
            found = ModulationTuning(
                {name: _tuning(heard, name, ripples, place, shown) for name in heard.units},
                ripples,
            )
        yield Step(heard.done, len(ripples), found)
    if found is None:
        raise InputError("Too few ripples were played.")
    return found


def _tuning(
    heard: Heard, name: str, ripples: Ripples, place: Place, shown: list[int]
) -> LayerModulation:
    answers = heard.units[name]
    found = curves(answers, place, shown, heard.control.get(name))
    rates, half = ripples.signed_rates[shown], len(shown) // 2
    units, first, _ = found.best
    # Of either direction the rates ascend from the middle of the axis outwards.
    over_rate = np.where(
        (first < half)[:, None], found.over_first[:, half - 1 :: -1], found.over_first[:, half:]
    )
    table = pd.DataFrame(
        {
            "unit": units,
            "preferred_rate_hz": tuning.peak_place(over_rate, rates[half:]),
            "preferred_scale": tuning.peak_place(found.over_second, np.array(ripples.scales)),
            "direction": _direction(found),
            "modulation": found.modulation,
            "peak_response": found.peak,
        }
    )
    table.loc[~found.responds, table.columns[1:-1]] = np.nan
    table["responds"] = found.responds
    beyond = beyond_chance(
        (heard.drive.get(name), heard.control.get(name)),
        place,
        shown,
        len(units),
        lambda of: np.abs(_direction(of)),
    )
    table.insert(4, "selective", beyond)
    transfer = np.full((len(units), *answers.middle.f0.shape[1:]), np.nan)
    transfer[:, shown] = found.response
    return LayerModulation(table, transfer, getattr(answers, place).f1)


def _direction(found: Curves) -> NDArray[np.float64]:
    """(down - up) / (down + up) of the responses at each unit's best rate and scale."""
    units, first, second = found.best
    count = found.response.shape[1]
    down, up = (
        found.response[units, index, second]
        for index in (np.maximum(first, count - 1 - first), np.minimum(first, count - 1 - first))
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        return (down - up) / (down + up)


def strf(
    found: LayerModulation,
    ripples: Ripples,
    unit: int,
    seconds: NDArray[np.float64],
    octaves: NDArray[np.float64],
) -> NDArray[np.float64]:
    """A unit's spectro-temporal receptive field (octaves, seconds), up to a factor.

    The inverse Fourier transform of its first harmonics (D. J. Klein et al., "Robust
    spectrotemporal reverse correlation for the auditory system", J. Comput. Neurosci. 2000),
    interpolated between the rates and scales that were shown; what lies farther from the middle
    than these can tell fades away. Of a linear unit it is the kernel.

    Parameters
    ----------
    found : LayerModulation
        Finished.
    ripples : Ripples
        What was played.
    unit : int
        The unit.
    seconds, octaves : ndarray
        Where to give it, about the middle of the unit's field; what was heard before is below 0.
    """
    rates, scales = ripples.signed_rates, np.array(ripples.scales)
    even_rates = np.arange(-rates[-1], rates[-1] + 1e-9, min(ripples.rates_hz[0], rates[-1] / 8))
    even_scales = np.linspace(scales[0], scales[-1], FIELD_SCALES)
    weights = np.ones(FIELD_SCALES)
    weights[0] = 0.5 if scales[0] == 0 else 1.0  # up and down are one there
    values = _along(found.harmonic[unit], rates, even_rates)
    values = _along(values.T, scales, even_scales) * weights[:, None]
    turn_time = np.exp(-2j * np.pi * np.outer(even_rates, seconds))
    turn_bands = np.exp(-2j * np.pi * np.outer(even_scales, octaves))
    made: NDArray[np.float64] = (turn_bands.T @ values @ turn_time).real
    return made


def _along(values: NDArray[Any], axis: NDArray[Any], at: NDArray[Any]) -> NDArray[Any]:
    """Complex values (axis, others) at other places of the axis, between those that are known."""
    low = np.clip(np.searchsorted(axis, at, "right") - 1, 0, max(len(axis) - 2, 0))
    high = np.minimum(low + 1, len(axis) - 1)
    share = (at - axis[low]) / np.maximum(axis[high] - axis[low], 1e-12)
    found: NDArray[Any] = values[low] * (1 - share)[:, None] + values[high] * share[:, None]
    return found


def ranked(table: pd.DataFrame, by: Order, rate_hz: float = 0.0) -> NDArray[np.int64]:
    """Units in an order, those that it does not apply to last.

    Parameters
    ----------
    table : DataFrame
        Of a `LayerModulation`.
    by : {"rate", "scale", "direction", "modulation"}
        Nearest to ``rate_hz`` in octaves first, above 0 for downward ones and below for upward
        ones; finest scale; from downward to upward; most modulated, that is simple, first.
    rate_hz : float
        Not 0.

    Raises
    ------
    InputError
        If there is no such order, or no such rate.
    """
    if by not in ORDERS:
        raise InputError(f"Units are ranked by {', '.join(ORDERS)}, not by {by!r}.")
    if by == "rate":
        if rate_hz == 0:
            raise InputError("Name a rate above 0 Hz for downward ripples, below for upward.")
        away = np.abs(np.log2(table["preferred_rate_hz"] / abs(rate_hz)))
        wrong_way = np.sign(table["direction"]) * np.sign(rate_hz) < 0
        key = (away + 100.0 * wrong_way).to_numpy()
    else:
        column = {"scale": "preferred_scale", "direction": "direction", "modulation": "modulation"}
        key = -table[column[by]].to_numpy()
    return tuning.ascending(key)
