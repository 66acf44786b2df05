"""Ranking units by what gratings tell of them, as cells of the visual cortex are ranked."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.models.probe import Probe, has_activation
from cnnvis_core.orientation import tuning
from cnnvis_core.orientation.gratings import Gratings, usual_gratings
from cnnvis_core.orientation.responses import Responses, show

Place = Literal["middle", "mean"]
CHANCE = 0.05  # share of rewired units that would be called selective


@dataclass(frozen=True, eq=False)
class LayerTuning:
    """What gratings tell of a layer's units.

    Attributes
    ----------
    table : DataFrame
        A row a unit, in the order of the units: ``unit``; ``preferred_deg``, angle of the stripes
        in [0, 180), counter-clockwise from horizontal; ``selectivity``, 1 - circular variance in
        [0, 1]; ``selective``, whether it exceeds what 95 % of the layer's units reach with their
        weights shuffled (missing where the layer has none of its own); ``orthogonal_to_preferred``;
        ``half_width_deg``; ``preferred_frequency`` in cycles a pixel and
        ``preferred_cycles_per_field`` in cycles a receptive field; ``modulation``, F1/F0;
        ``peak_response``; ``responds``. What responds to nothing has no angle.
    curves : ndarray (units, orientations)
        Responses at the best frequency.
    frequency_curves : ndarray (units, frequencies)
        Responses at the best orientation.
    orientations_deg : tuple of float
        Those that were shown.
    """

    table: pd.DataFrame
    curves: NDArray[np.float64]
    frequency_curves: NDArray[np.float64]
    orientations_deg: tuple[float, ...]


@dataclass(frozen=True, eq=False)
class OrientationTuning:
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
    def table(self) -> pd.DataFrame:
        """The table of the only layer, or of all with a column ``layer``."""
        if len(self.layers) == 1:
            return next(iter(self.layers.values())).table
        parts = [found.table.assign(layer=name) for name, found in self.layers.items()]
        return pd.concat(parts, ignore_index=True)


def rank_orientation(
    model: Model,
    layer: str | Sequence[str],
    gratings: Gratings | None = None,
    place: Place = "middle",
    rectified: bool = True,
    control: bool = True,
    seed: int = 0,
) -> Job[OrientationTuning, OrientationTuning]:
    """Measure the orientation tuning of every unit of some layers by sinusoidal gratings.

    A unit's response is the part of its activation that carries most of the tuning: the mean over
    the phases above that to even gray (F0), or the amplitude of the first harmonic (F1), as for
    complex and simple cells (Skottun et al. 1991). Indices: see `tuning`.

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
        Also measure each layer with the weights of its kernels shuffled, which takes as long again,
        to tell selectivity from chance.
    seed : int
        Of the shuffling.

    Returns
    -------
    Job
        Previews and result are `OrientationTuning`; orientations are shown from coarse to fine.

    Raises
    ------
    InputError
        If the place is another one.
    ModelError
        If there is no such layer, or the model is none for pictures.
    """
    names = [layer] if isinstance(layer, str) else list(layer)
    if not names:
        raise InputError("Name at least one layer.")
    layers = {name: model.layer(name) for name in names}
    if model.modality != "image":
        raise ModelError(f"{model.card.title} hears; gratings are for networks that see.")
    if place not in ("middle", "mean"):
        raise InputError(f"The place is 'middle' or 'mean', not {place!r}.")
    extent = model.input_shape[1], model.input_shape[2]
    shown = gratings or usual_gratings(min(extent))
    behind = {name for name in names if rectified and has_activation(model, name)}
    return Job(_rank(model, layers, behind, shown, place, control, seed))


def _rank(
    model: Model,
    layers: dict[str, Layer],
    behind: set[str],
    gratings: Gratings,
    place: Place,
    control: bool,
    seed: int,
) -> Generator[Step[OrientationTuning], None, OrientationTuning]:
    shape = tuple(model.input_shape)
    probes = [
        Probe(model, [name for name in layers if (name in behind) == after], shape, after, True)
        for after in (False, True)
        if any((name in behind) == after for name in layers)
    ]
    count = len(probes)
    if control:
        singles = (Probe(model, [name], shape, name in behind, True) for name in layers)
        probes += [other for one in singles if (other := one.rewired(seed)) is not None]
    extent = model.input_shape[1], model.input_shape[2]
    found: OrientationTuning | None = None
    angles = -1
    for done, heard in show(model, probes, gratings, extent):
        measured = done // (len(gratings.frequencies) * gratings.phases)
        if measured >= 4 and (measured != angles or done == len(gratings)):
            angles = measured
            true = {name: r for part in heard[:count] for name, r in part.items()}
            chance = {name: r for part in heard[count:] for name, r in part.items()}
            found = OrientationTuning(
                {
                    name: _tuning(layers[name], true[name], chance.get(name), gratings, place)
                    for name in layers
                },
                gratings,
            )
        yield Step(done, len(gratings), found)
    if found is None:
        raise InputError("Too few gratings were shown.")
    return found


@dataclass(frozen=True, eq=False)
class _Curves:
    """Responses (units, orientations, frequencies), and the modulation of each."""

    response: NDArray[np.float64]
    modulation: NDArray[np.float64]
    angles: NDArray[np.float64]


def _curves(found: Responses, gratings: Gratings, place: Place) -> _Curves:
    values = (found.middle if place == "middle" else found.mean).astype(np.float64)
    blank = found.blank_middle if place == "middle" else found.blank_mean
    shown = ~np.isnan(values).any((0, 2, 3))
    mean, first = tuning.harmonics(values[:, shown])
    mean = mean - blank[:, None, None]
    # Simple cells follow the stripes as they pass, complex ones answer to them wherever they are.
    simple = first.max((1, 2)) > mean.max((1, 2))
    response = np.where(simple[:, None, None], first, mean)
    with np.errstate(divide="ignore", invalid="ignore"):
        modulation = np.where(mean > 0, first / mean, np.inf)
    return _Curves(np.maximum(response, 0), modulation, np.array(gratings.orientations_deg)[shown])


def _at_best(
    curves: _Curves,
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[NDArray[np.int64], ...]]:
    """Curves over orientation and over frequency through each unit's strongest response."""
    units, _, bands = curves.response.shape
    best = curves.response.reshape(units, -1).argmax(1)
    angle, band = best // bands, best % bands
    each = np.arange(units)
    return curves.response[each, :, band], curves.response[each, angle], (each, angle, band)


def _tuning(
    layer: Layer,
    found: Responses,
    chance: Responses | None,
    gratings: Gratings,
    place: Place,
) -> LayerTuning:
    curves = _curves(found, gratings, place)
    over_angle, over_band, best = _at_best(curves)
    peak = curves.response[best]
    responds = peak > tuning.SILENT * max(float(peak.max(initial=0)), 1e-30)
    angle = tuning.preferred(over_angle, curves.angles)
    selectivity = tuning.selectivity(over_angle, curves.angles)
    frequency = tuning.peak_place(over_band, np.array(gratings.frequencies))
    field = layer.receptive_field
    table = pd.DataFrame(
        {
            "unit": np.arange(len(peak)),
            "preferred_deg": angle,
            "selectivity": selectivity,
            "orthogonal_to_preferred": tuning.orthogonal_to_preferred(
                over_angle, curves.angles, angle
            ),
            "half_width_deg": tuning.half_width(over_angle, curves.angles),
            "preferred_frequency": frequency,
            "preferred_cycles_per_field": frequency * (max(field.size) if field else np.nan),
            "modulation": curves.modulation[best],
            "peak_response": peak,
        }
    )
    table.loc[~responds, table.columns[1:-1]] = np.nan
    table["responds"] = responds
    table.insert(3, "selective", _beyond(table["selectivity"], chance, gratings, place))
    return LayerTuning(table, over_angle, over_band, tuple(curves.angles.tolist()))


def _beyond(
    selectivity: pd.Series, chance: Responses | None, gratings: Gratings, place: Place
) -> pd.Series:
    """Whether selectivities exceed what shuffled weights reach by chance; missing without them."""
    if chance is None:
        return pd.Series(pd.NA, index=selectivity.index, dtype="boolean")
    curves = _curves(chance, gratings, place)
    over_angle, _, best = _at_best(curves)
    peak = curves.response[best]
    heard = peak > tuning.SILENT * max(float(peak.max(initial=0)), 1e-30)
    reached = tuning.selectivity(over_angle, curves.angles)[heard]
    if not len(reached):
        return pd.Series(pd.NA, index=selectivity.index, dtype="boolean")
    limit = float(np.quantile(reached, 1 - CHANCE))
    return (selectivity > limit).astype("boolean")
