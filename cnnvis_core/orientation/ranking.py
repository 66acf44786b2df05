"""Ranking units by what gratings tell of them, as cells of the visual cortex are ranked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnvis_core.brief import Brief
from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.models.probe import Probe
from cnnvis_core.orientation import tuning
from cnnvis_core.orientation.curves import SILENT, beyond_chance, curves, in_one
from cnnvis_core.orientation.gratings import Colour, Gratings, GratingStimuli, usual_gratings
from cnnvis_core.orientation.responses import PLACES, Heard, Place, listener, rounds, show

FEW_ANGLES = 12  # are enough for control units and for colours
NEAR_DEG = 10.0  # angles of which it is said that they agree
COHERENT = 0.5  # weights that point to one orientation: half of their power or more
CHROMATIC: tuple[Colour, ...] = ("red-green", "blue-yellow")

Order = Literal["angle", "selectivity", "frequency", "bandwidth", "modulation"]
ORDERS: tuple[Order, ...] = ("angle", "selectivity", "frequency", "bandwidth", "modulation")


@dataclass(frozen=True, eq=False, repr=False)
class LayerTuning(Brief):
    """What gratings tell of a layer's units.

    Attributes
    ----------
    table : DataFrame
        A row a unit, in the order of the units: ``unit``; ``preferred_deg``, angle of the stripes
        in [0, 180), counter-clockwise from horizontal; ``selectivity``, 1 - circular variance in
        [0, 1]; ``selective``, whether, before the non-linearity, it exceeds what 95 % of the
        layer's kernels reach with their weights shuffled (missing where it has none of its own);
        ``orthogonal_to_preferred``; ``half_width_deg``; ``preferred_frequency`` in cycles a pixel
        and ``preferred_cycles_per_field`` in cycles a receptive field; ``modulation``, F1/F0;
        ``peak_response``, ``peak_middle`` and ``peak_mean``, the strongest response where it was
        listened to and in either place; ``responds``; and, where colours were shown, ``colour``,
        the one that drives it more, and ``colour_ratio``, peak response to it over that to
        brightness, infinite for units that respond to colour alone (E. N. Johnson et al., Nat.
        Neurosci. 2001: above 2 a cell prefers colour, below 0.5 brightness). What responds to no
        brightness has no angle.
    curves : ndarray (units, orientations)
        Responses at the best frequency.
    frequency_curves : ndarray (units, frequencies)
        Responses at the best orientation.
    orientations_deg : tuple of float
        Those that were shown.
    best, worst : ndarray of int (units, 2)
        Indices into these and into the frequencies, of the strongest and the weakest response.
    """

    table: pd.DataFrame
    curves: NDArray[np.float64]
    frequency_curves: NDArray[np.float64]
    orientations_deg: tuple[float, ...]
    best: NDArray[np.intp]
    worst: NDArray[np.intp]


@dataclass(frozen=True, eq=False, repr=False)
class OrientationTuning(Brief):
    """What gratings tell of the units of some layers.

    Attributes
    ----------
    layers : dict
        Layer -> `LayerTuning`.
    gratings : Gratings
        What was shown.
    """

    layers: dict[str, LayerTuning]
    gratings: Gratings

    @property
    def nbytes(self) -> int:
        """Bytes of its curves."""
        return sum(one.curves.nbytes + one.frequency_curves.nbytes for one in self.layers.values())

    @property
    def table(self) -> pd.DataFrame:
        """The table of the only layer, or of all with a column ``layer``."""
        return in_one({name: found.table for name, found in self.layers.items()})


def rank_orientation(
    model: Model,
    layer: str | Sequence[str],
    gratings: Gratings | None = None,
    place: Place = "middle",
    rectified: bool = True,
    control: bool = True,
    colours: bool = False,
    seed: int = 0,
) -> Job[OrientationTuning, OrientationTuning]:
    """Measure the orientation tuning of every unit of some layers by sinusoidal gratings.

    The indices and their papers: see the functions of `tuning` and `curves`.

    Parameters
    ----------
    model : Model
        For pictures; not changed.
    layer : str or sequence of str
        Whose units; one pass serves all of them.
    gratings : Gratings, optional
        What is shown; by default every 5 degrees, half octaves from one cycle a picture to 0.4
        cycles a pixel, 8 phases, full contrast.
    place : {"middle", "mean"}
        Listen in the middle of each unit's map, or to its mean.
    rectified : bool
        Listen behind the non-linearity that follows a layer, if one does.
    control : bool
        Also listen to control units with shuffled kernels, to tell selectivity from chance.
    colours : bool
        Also show red-green and blue-yellow gratings, every third orientation or so.
    seed : int
        Of the shuffling.

    Returns
    -------
    Job
        Previews and result are `OrientationTuning`; orientations are shown from coarse to fine.

    Raises
    ------
    InputError
        If the place is another one, or colours are asked for where there are none.
    ModelError
        If there is no such layer, or the model is none for pictures.
    """
    if model.modality != "image":
        raise ModelError(
            f"{model.card.title} hears; gratings are for networks that see, ripples for those "
            "that hear."
        )
    if colours and model.input_shape[0] != 3:
        raise InputError(f"{model.card.title} sees no colours.")
    probe = listener(model, layer, place, rectified, control, seed)
    shown = gratings or usual_gratings(min(model.input_shape[1:]))
    return Job(_rank(model, probe, shown, place, colours))


def _rank(
    model: Model,
    probe: Probe,
    gratings: Gratings,
    place: Place,
    colours: bool,
) -> Generator[Step[OrientationTuning], None, OrientationTuning]:
    parts = rounds(len(gratings.orientations_deg))
    ends = np.cumsum([len(part) for part in parts])
    few = int(np.argmax(ends >= min(FEW_ANGLES, ends[-1]))) + 1
    coarse = sorted(index for part in parts[:few] for index in part)
    each = len(gratings.frequencies) * gratings.phases
    total = len(gratings) + colours * len(CHROMATIC) * len(coarse) * each
    found: OrientationTuning | None = None
    stimuli = GratingStimuli(model, gratings)
    measured = 0
    for heard in show(model, probe, stimuli, [i for part in parts for i in part], coarse):
        # After each round, orientations are equally spaced, as the indices need them.
        full = int((ends * each <= heard.done).sum())
        if full > measured:
            measured = full
            shown = sorted(index for part in parts[:full] for index in part)
            layers = {
                name: _tuning(probe.layers[name], heard, gratings, place, shown)
                for name in heard.units
            }
            for name, one in layers.items():
                beyond = _selective(heard, name, gratings, place, sorted(set(shown) & set(coarse)))
                one.table.insert(3, "selective", beyond)
            found = OrientationTuning(layers, gratings)
        yield Step(heard.done, total, found)
    if found is None:
        raise InputError("Too few gratings were shown.")
    if colours:
        found = yield from _with_colours(model, probe, found, place, coarse, total)
    return found


def _with_colours(
    model: Model,
    probe: Probe,
    found: OrientationTuning,
    place: Place,
    angles: list[int],
    total: int,
) -> Generator[Step[OrientationTuning], None, OrientationTuning]:
    """Show gratings of colour as well, and add the columns about it."""
    done = len(found.gratings)
    peaks: dict[str, list[NDArray[np.float64]]] = {name: [] for name in found.layers}
    for colour in CHROMATIC:
        stimuli = GratingStimuli(model, found.gratings, colour)
        for heard in show(model, probe, stimuli, angles, ()):
            yield Step(done + heard.done, total, found)
        done += heard.done
        for name, answers in heard.units.items():
            peaks[name].append(curves(answers, place, angles).peak)
    return replace(
        found,
        layers={
            name: replace(one, table=_coloured(one.table, np.stack(peaks[name])))
            for name, one in found.layers.items()
        },
    )


def _coloured(table: pd.DataFrame, peaks: NDArray[np.float64]) -> pd.DataFrame:
    """The table with the colour that drives each unit more, of peaks (colours, units)."""
    plain, best = table["peak_response"].to_numpy(), peaks.max(0)
    audible = best > SILENT * max(float(plain.max()), float(best.max()), 1e-30)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = np.where(table["responds"], best / plain, np.where(audible, np.inf, np.nan))
    names = np.array(CHROMATIC)[peaks.argmax(0)]
    return table.assign(colour=np.where(audible, names, ""), colour_ratio=ratio)


def _tuning(
    layer: Layer,
    heard: Heard,
    gratings: Gratings,
    place: Place,
    shown: list[int],
) -> LayerTuning:
    answers, beside = heard.units[layer.name], heard.control.get(layer.name)
    found = curves(answers, place, shown, beside)
    angles = np.array(gratings.orientations_deg)
    over_angle, over_band, peak = found.over_first, found.over_second, found.peak
    angle = tuning.preferred(over_angle, angles[shown])
    frequency = tuning.peak_place(over_band, np.array(gratings.frequencies))
    field = layer.receptive_field
    table = pd.DataFrame(
        {
            "unit": np.arange(len(peak)),
            "preferred_deg": angle,
            "selectivity": tuning.selectivity(over_angle, angles[shown]),
            "orthogonal_to_preferred": tuning.orthogonal_to_preferred(
                over_angle, angles[shown], angle
            ),
            "half_width_deg": tuning.half_width(over_angle, angles[shown]),
            "preferred_frequency": frequency,
            "preferred_cycles_per_field": frequency * (max(field.size) if field else np.nan),
            "modulation": found.modulation,
            "peak_response": peak,
        }
    )
    table.loc[~found.responds, table.columns[1:-1]] = np.nan
    for where in PLACES:
        table[f"peak_{where}"] = curves(answers, where, shown).peak
    table["responds"] = found.responds
    _, *best = found.best
    worst = found.response.reshape(len(peak), -1).argmin(1)
    return LayerTuning(
        table,
        over_angle,
        over_band,
        tuple(angles[shown].tolist()),
        np.stack(best, 1),
        np.stack(np.divmod(worst, found.response.shape[2]), 1),
    )


def _selective(
    heard: Heard, name: str, gratings: Gratings, place: Place, shown: list[int]
) -> pd.Series:
    """Which units are more selective than shuffled kernels."""
    angles = np.array(gratings.orientations_deg)[shown]
    return beyond_chance(
        (heard.drive.get(name), heard.control.get(name)),
        place,
        shown,
        len(heard.units[name].middle.blank),
        lambda found: tuning.selectivity(found.over_first, angles),
    )


def ranked(table: pd.DataFrame, by: Order, angle_deg: float = 0.0) -> NDArray[np.int64]:
    """Units in an order, those that it does not apply to last.

    Parameters
    ----------
    table : DataFrame
        Of a `LayerTuning`.
    by : {"angle", "selectivity", "frequency", "bandwidth", "modulation"}
        Nearest to ``angle_deg`` first; most selective; finest stripes; narrowest curve; most
        modulated, that is simple, first.
    angle_deg : float
        In degrees.

    Raises
    ------
    InputError
        If there is no such order.
    """
    if by not in ORDERS:
        raise InputError(f"Units are ranked by {', '.join(ORDERS)}, not by {by!r}.")
    if by == "angle":
        key = tuning.agreement(table["preferred_deg"].to_numpy(), np.array(angle_deg))
    else:
        column, sign = {
            "selectivity": ("selectivity", -1),
            "frequency": ("preferred_frequency", -1),
            "bandwidth": ("half_width_deg", 1),
            "modulation": ("modulation", -1),
        }[by]
        key = sign * table[column].to_numpy()
    return tuning.ascending(key)


def beside_weights(
    table: pd.DataFrame, orientation_deg: NDArray[np.float64], coherence: NDArray[np.float64]
) -> pd.DataFrame:
    """The table with what the weights say, and how far from that the responses are.

    Parameters
    ----------
    table : DataFrame
        Of a `LayerTuning`.
    orientation_deg, coherence : ndarray (units,)
        Of the kernels; see `cnnvis_core.filters.spectral_tuning`.

    Returns
    -------
    DataFrame
        With the columns ``weight_deg``, ``weight_coherence`` and ``apart_deg``, 0 to 90.
    """
    apart = tuning.agreement(table["preferred_deg"].to_numpy(), orientation_deg)
    return table.assign(weight_deg=orientation_deg, weight_coherence=coherence, apart_deg=apart)


def agreeing(table: pd.DataFrame) -> tuple[int, float, float]:
    """How well responses and weights agree for units that are selective by both.

    Parameters
    ----------
    table : DataFrame
        Of `beside_weights`.

    Returns
    -------
    tuple
        Number of such units: selective beyond chance, and with a coherence of at least 0.5; share
        of them with angles within 10 degrees; median of the angle between. NaN where there is none.
    """
    both = table["selective"].fillna(False).astype(bool) & (table["weight_coherence"] >= COHERENT)
    apart = table["apart_deg"][both]
    return len(apart), float((apart <= NEAR_DEG).mean()), float(apart.median())


def cardinal(table: pd.DataFrame) -> tuple[int, int]:
    """How many selective units prefer an angle within 22.5 degrees of 0 or 90, and of how many.

    Half would by chance. V1 has more (the oblique effect; B. Li, M. R. Peterson and R. D. Freeman,
    J. Neurophysiol. 2003).
    """
    chosen = table["preferred_deg"]
    if not table["selective"].isna().all():
        chosen = chosen[table["selective"].fillna(False).astype(bool)]
    chosen = chosen.dropna()
    return int((((chosen + 22.5) % 90) < 45).sum()), len(chosen)
