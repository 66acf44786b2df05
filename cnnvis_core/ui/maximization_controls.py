"""The widgets that say what is drawn, and how."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any

import streamlit as st

from cnnvis_core import maximization as mx
from cnnvis_core.activations import feature_maps
from cnnvis_core.limits import limits
from cnnvis_core.maximization import Objective
from cnnvis_core.models import Layer, Model
from cnnvis_core.ui.answers import choose_class, class_labels
from cnnvis_core.ui.ascent_controls import ascent_settings, slug
from cnnvis_core.ui.inputs import Chosen, choose_input, excerpt
from cnnvis_core.ui.layers import choose_behind, choose_layer, choose_unit
from cnnvis_core.ui.links import heed_link
from cnnvis_core.ui.text import plain

UNIT, PLACE, SEVERAL = "One unit", "One place of a unit", "Several pictures of a unit"
GROUP, CLASS, DREAM = "Units together", "A class", "The layer's energy (deep dream)"
LIKENESS = "What the layer makes of your input"
RANGE, ALL = "Several units", "All units of a layer"
KINDS = (UNIT, PLACE, SEVERAL, RANGE, ALL, GROUP, CLASS, DREAM, LIKENESS)
STARTS = {"Noise": "noise", "Gray": "gray", "Your input": "input"}
STEPS = (16, 32, 50, 64, 128, 256, 512, 1024, 2048)
SIZES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320)
LARGEST_OF_MANY = 128  # pixels a side
DIVERSITY = 1.0


@dataclass(frozen=True, eq=False)
class Subject:
    """What is to be drawn.

    Attributes
    ----------
    objective : Objective
        What is climbed.
    words : str
        For the heading.
    key : tuple
        All that the objective depends on.
    layer : Layer or None
        Whose units are drawn.
    units : range
        Which unit each picture shows, where it shows one.
    chosen : Chosen or None
        The input that the objective is about.
    rectified : bool
        Whether activations behind the non-linearity are meant.
    """

    objective: Objective
    words: str
    key: tuple[Hashable, ...]
    layer: Layer | None = None
    units: range = range(0)
    chosen: Chosen | None = None
    rectified: bool = False


@dataclass(frozen=True, eq=False)
class Request:
    """What a visitor asks for.

    Attributes
    ----------
    subject : Subject
        What is drawn.
    arguments : dict
        The other arguments of `maximize`.
    key : tuple
        All that the result depends on.
    own : bool
        Whether an input of the visitor's is part of it.
    """

    subject: Subject
    arguments: dict[str, Any]
    key: tuple[Hashable, ...]
    own: bool

    @property
    def several(self) -> bool:
        """Whether more than one picture is asked for."""
        return len(self.subject.objective) > 1

    @property
    def title(self) -> str:
        """A question for the heading."""
        verb = "silences" if self.arguments["minimize"] else "drives"
        return f"What {verb} {self.subject.words}?"

    @property
    def call(self) -> dict[str, Any]:
        """What `maximize` is called with."""
        return {"objective": self.subject.objective, **self.arguments}


def ask(model: Model) -> Request:
    """Draw the widgets and return what they ask for.

    Raises
    ------
    CnnvisError
        If an input or a value cannot be used.
    """
    heed_link("draw", {kind: kind for kind in KINDS})
    kind = st.selectbox("Draw", KINDS, key="draw", bind="query-params")
    manner = st.selectbox("Manner", list(mx.PRESETS), key="manner", bind="query-params")
    preset = mx.PRESETS[manner]
    st.caption(preset.source + ".")
    subject = _subject(model, PLACE if kind == UNIT and preset.place else kind)
    many = kind in (RANGE, ALL)
    offered = [number for number in STEPS if number <= limits().steps]
    steps = st.select_slider(
        "Steps", offered, min(64 if many else preset.steps, offered[-1]), bind="query-params",
        key="steps-all" if many else f"steps-{slug(manner)}",
    )  # fmt: skip
    size = _size(model, many)
    seed = st.number_input(
        "Seed", 0, 10_000, 0, key="seed", bind="query-params",
        help="Another seed starts from other noise and shakes otherwise.",
    )  # fmt: skip
    towards = st.segmented_control(
        "Towards", ["Maximum", "Minimum"], default="Maximum", required=True, key="towards",
        bind="query-params",
    )  # fmt: skip
    begin, chosen = _start(model, kind == DREAM, subject.chosen)
    settings = ascent_settings(manner, preset.settings, steps, model)
    if many:  # frames of a whole layer would not fit
        settings = replace(settings, frame_every=0)
    arguments = {
        "steps": steps,
        "size": size,
        "seed": int(seed),
        "settings": settings,
        "start": begin if chosen is None else model.preprocess(chosen.item),
        "minimize": towards == "Minimum",
        "rectified": subject.rectified,
    }
    told = {**arguments, "start": begin if chosen is None else chosen.key}
    return Request(
        subject,
        arguments,
        ("maximization", model.card.id, kind, *subject.key, *told.values()),
        any(found is not None and found.own for found in (chosen, subject.chosen)),
    )


def _subject(model: Model, kind: str) -> Subject:
    if kind == CLASS:
        target = choose_class(model)
        words = f"“{plain(class_labels(model.classes)[target])}”"
        return Subject(mx.classes(model, target), words, (target,))
    layer = choose_layer(model, lambda layer: layer.channels > 1, "units", depth=0.7)
    behind = choose_behind(
        model,
        layer,
        " There what lies below zero counts for nothing, so that the picture may hold other things "
        "too.",
    )
    return replace(_of_layer(model, kind, layer, behind), layer=layer, rectified=behind)


def _of_layer(model: Model, kind: str, layer: Layer, behind: bool) -> Subject:
    name, whole = layer.name, range(layer.channels)
    if kind == ALL:
        words = f"the {layer.channels:,} units of {name}"
        return Subject(mx.units(model, name), words, (name,), units=whole)
    if kind == RANGE:
        units = _range(layer, min(8, layer.channels))
        words = f"units {units[0]} to {units[-1]} of {name}"
        return Subject(mx.units(model, name, units), words, (name, units), units=units)
    if kind == GROUP:
        units = _range(layer, layer.channels)
        which = "all units" if units == whole else f"units {units[0]} to {units[-1]}"
        words = f"{which} of {name} together"
        return Subject(mx.group(model, name, units), words, (name, units))
    if kind == DREAM:
        return Subject(mx.energy(model, name), f"{name} as a whole", (name,))
    if kind == LIKENESS:
        chosen = excerpt(model, choose_input(model.modality))
        maps = feature_maps(model, model.preprocess(chosen.item), name, behind)[name]
        objective = mx.direction(model, name, maps.flatten(1).mean(1))
        words = f"{name} in the direction of your input"
        return Subject(objective, words, (name, chosen.key), chosen=chosen)
    unit = choose_unit(layer)
    units, words = range(unit, unit + 1), f"unit {unit} of {name}"
    if kind == PLACE:
        place = _place()
        objective = mx.neurons(model, name, unit, *place)
        return Subject(objective, f"one place of {words}", (name, unit, place), units=units)
    if kind == SEVERAL:
        count = st.slider("Pictures", 2, 8, 4, key="pictures", bind="query-params")
        apart = DIVERSITY * mx.diversity(model, name)
        objective = mx.repeated(mx.units(model, name, unit), count) + apart
        return Subject(objective, words, (name, unit, count), units=units)
    return Subject(mx.units(model, name, unit), words, (name, unit), units=units)


def _range(layer: Layer, usual: int) -> range:
    last = layer.channels - 1
    low, high = st.slider(
        "Units", 0, last, (0, usual - 1), key=f"units-{usual}-{last}", bind="query-params",
    )  # fmt: skip
    return range(low, high + 1)


def _place() -> tuple[int | None, int | None]:
    if st.toggle("The middle of the map", value=True, key="middle", bind="query-params"):
        return None, None
    left, right = st.columns(2)
    row = left.number_input("Row", 0, 999, 0, key="row", bind="query-params")
    col = right.number_input("Column", 0, 999, 0, key="col", bind="query-params")
    return int(row), int(col)


def _size(model: Model, many: bool) -> int:
    if model.modality == "audio":
        return 128  # not used: a spectrogram has the network's own size
    own = max(model.input_shape[1:])
    offered = [size for size in SIZES if not many or size <= LARGEST_OF_MANY]
    usual = max(size for size in offered if size <= max(SIZES[0], min(own, 48 if many else 128)))
    return int(
        st.select_slider("Size (pixels)", offered, usual, key=f"size-{usual}", bind="query-params")
    )


def _start(model: Model, dream: bool, known: Chosen | None) -> tuple[str, Chosen | None]:
    """Where to begin, and the input if that is it; ``known`` is one that was chosen already."""
    begin = STARTS[
        st.segmented_control(
            "Start", list(STARTS), default="Your input" if dream else "Noise", required=True,
            key=f"start{'-dream' * dream}", bind="query-params",
        )
    ]  # fmt: skip
    if begin != "input":
        return begin, None
    return begin, known or excerpt(model, choose_input(model.modality))
