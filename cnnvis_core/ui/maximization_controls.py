"""The widgets that say what is drawn, and how."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal

import streamlit as st

from cnnvis_core import maximization as mx
from cnnvis_core.activations import feature_maps
from cnnvis_core.jobs import Job
from cnnvis_core.maximization import Maximization, Objective, Settings, Transforms
from cnnvis_core.models import Layer, Model, has_activation
from cnnvis_core.ui.answers import choose_class, class_labels
from cnnvis_core.ui.inputs import Chosen, choose_input, excerpt
from cnnvis_core.ui.layers import choose_layer, choose_unit
from cnnvis_core.ui.links import heed_link

UNIT, PLACE, SEVERAL = "One unit", "One place of a unit", "Several pictures of a unit"
GROUP, CLASS, DREAM = "Units together", "A class", "The layer's energy (deep dream)"
LIKENESS, ALL = "What the layer makes of your input", "All units of a layer"
KINDS = (UNIT, PLACE, SEVERAL, GROUP, CLASS, DREAM, LIKENESS, ALL)
STARTS = {"Noise": "noise", "Gray": "gray", "Your input": "input"}
SIZES = (32, 48, 64, 96, 128, 160, 192, 224, 256, 320)
FRAMES = 24
DIVERSITY = 1.0


@dataclass(frozen=True, eq=False)
class Request:
    """What a visitor asks for.

    Attributes
    ----------
    key : tuple
        All that the result depends on.
    title : str
        For the heading.
    objective : Objective
        What is climbed.
    arguments : dict
        The other arguments of `maximize`.
    several : bool
        Whether many pictures are asked for.
    layer : Layer or None
        Whose units are drawn.
    units : range
        Which unit each picture shows, where it shows one.
    """

    key: tuple[Hashable, ...]
    title: str
    objective: Objective
    arguments: dict[str, Any]
    several: bool
    layer: Layer | None
    units: range

    def job(self, model: Model) -> Job[Maximization, Maximization]:
        """The job that was asked for."""
        return mx.maximize(model, objective=self.objective, **self.arguments)


def ask(model: Model) -> Request:
    """Draw the widgets and return what they ask for.

    Raises
    ------
    CnnvisError
        If an input or a value cannot be used.
    """
    heed_link("draw", {kind: kind for kind in KINDS})
    kind = st.selectbox("Draw", KINDS, key="draw", bind="query-params")
    layer, unit, target = None, 0, 0
    units = range(0)
    if kind == CLASS:
        target = choose_class(model)
    else:
        layer = choose_layer(model, lambda layer: layer.channels > 1, "units")
        if kind in (UNIT, PLACE, SEVERAL):
            unit = choose_unit(layer)
            units = range(unit, unit + 1)
        elif kind == GROUP:
            units = _range(layer)
        elif kind == ALL:
            units = range(layer.channels)
    row = col = None
    if kind == PLACE:
        row, col = _place()
    count = st.slider("Pictures", 2, 8, 4, key="pictures", bind="query-params") if (
        kind == SEVERAL
    ) else 1  # fmt: skip
    rectified = layer is not None and _behind(model, layer)
    name = st.selectbox("Manner", list(mx.PRESETS), key="manner", bind="query-params")
    preset = mx.PRESETS[name]
    st.caption(preset.source + ".")
    if preset.place and kind == UNIT:
        kind = PLACE
    small = kind == ALL
    steps = st.select_slider(
        "Steps", [16, 32, 64, 128, 256, 512, 1024, 2048], 64 if small else 128, key="steps" +
        ("-all" if small else ""), bind="query-params",
    )  # fmt: skip
    size = _size(model, small)
    seed = st.number_input(
        "Seed", 0, 10_000, 0, key="seed", bind="query-params",
        help="Another seed starts from other noise and shakes otherwise.",
    )  # fmt: skip
    sign = st.segmented_control(
        "Towards", ["Maximum", "Minimum"], default="Maximum", required=True, key="towards",
        bind="query-params",
    )  # fmt: skip
    begin, chosen = _start(model, kind)
    settings = _settings(name, preset.settings, steps, model)
    # Frames of a whole layer would not fit.
    settings = replace(settings, frame_every=0 if small else settings.frame_every)
    objective = _objective(model, kind, layer, unit, units, target, (row, col), count, chosen)
    start: Any = begin
    if begin == "input" and chosen is not None:
        start = model.preprocess(chosen.item)
    asked = (
        kind, layer.name if layer else None, unit, units, target, row, col, count, rectified,
        settings, steps, size, int(seed), sign, begin, chosen.key if chosen else None,
    )  # fmt: skip
    return Request(
        ("maximization", model.card.id, *asked),
        _title(model, kind, layer, unit, units, target, sign == "Minimum"),
        objective,
        {
            "steps": steps,
            "size": size,
            "seed": int(seed),
            "settings": settings,
            "start": start,
            "minimize": sign == "Minimum",
            "rectified": rectified,
        },
        kind in (SEVERAL, ALL),
        layer,
        units,
    )


def _range(layer: Layer) -> range:
    last = layer.channels - 1
    low, high = st.slider(
        "Units", 0, last, (0, last), key=f"group-{last}", bind="query-params",
        help="Drawn together in one picture.",
    )  # fmt: skip
    return range(low, high + 1)


def _place() -> tuple[int | None, int | None]:
    if st.toggle("The middle of the map", value=True, key="middle", bind="query-params"):
        return None, None
    left, right = st.columns(2)
    row = left.number_input("Row", 0, 999, 0, key="row", bind="query-params")
    col = right.number_input("Column", 0, 999, 0, key="col", bind="query-params")
    return int(row), int(col)


def _behind(model: Model, layer: Layer) -> bool:
    if not has_activation(model, layer.name):
        return False
    chosen = st.segmented_control(
        "Non-linearity", ["Before", "Behind"], default="Behind", required=True,
        key="non-linearity", bind="query-params",
        help="Behind: with the normalisation and the shortcut that come in between. There what "
        "lies below zero counts for nothing, so that the picture may hold other things too.",
    )  # fmt: skip
    return bool(chosen == "Behind")


def _size(model: Model, small: bool) -> int:
    if model.modality == "audio":
        return 128
    own = max(model.input_shape[1:])
    usual = max(size for size in SIZES if size <= min(own, 64 if small else 128))
    return int(
        st.select_slider(
            "Size (pixels)", SIZES, usual, key=f"size-{usual}", bind="query-params",
        )
    )  # fmt: skip


def _start(model: Model, kind: str) -> tuple[str, Chosen | None]:
    begin = STARTS[
        st.segmented_control(
            "Start", list(STARTS), default="Your input" if kind == DREAM else "Noise",
            required=True, key="start-dream" if kind == DREAM else "start", bind="query-params",
        )
    ]  # fmt: skip
    if begin != "input" and kind != LIKENESS:
        return begin, None
    return begin, excerpt(model, choose_input(model.modality))


def _settings(name: str, preset: Settings, steps: int, model: Model) -> Settings:
    """Draw the parameters, each at the preset's value until it is changed."""
    with st.expander("Parameters", icon=":material/tune:"):

        def key(field: str) -> str:
            # One a preset: a widget keeps its value, and a preset has its own.
            return f"{field}-{name.split()[0].strip(',').lower()}"

        kinds: tuple[Literal["fourier", "pixels", "maco"], ...] = ("fourier", "pixels", "maco")
        kind = st.selectbox(
            "Parameterisation", kinds, kinds.index(preset.parameterisation),
            format_func=lambda kind: {"maco": "MaCo"}.get(kind, kind.capitalize()),
            key=key("parameterisation"), bind="query-params",
        )  # fmt: skip

        def number(label: str, field: str, value: float, low: float, high: float) -> float:
            return float(
                st.number_input(
                    label, float(low), float(high), float(value), key=key(field),
                    format="%.4g", bind="query-params",
                )
            )  # fmt: skip

        optimizers: dict[str, Literal["adam", "gradient"]] = {
            "Adam": "adam", "Gradient of length 1": "gradient",
        }  # fmt: skip
        optimizer = st.selectbox(
            "Optimiser", list(optimizers), list(optimizers.values()).index(preset.optimizer),
            key=key("optimizer"), bind="query-params",
        )  # fmt: skip
        rate = number("Rate", "rate", preset.rate, 0.0001, 100)
        settings = replace(
            preset, parameterisation=kind, optimizer=optimizers[optimizer], rate=rate
        )
        if kind == "fourier":
            settings = replace(settings, decay=number("Decay", "decay", preset.decay, 0, 4))
        if kind == "pixels":
            settings = replace(
                settings,
                total_variation=number(
                    "Total variation", "variation", preset.total_variation, 0, 1000
                ),
                l2=number("L2", "l2", preset.l2, 0, 1000),
                blur=number("Blur (px)", "blur", preset.blur, 0, 32),
            )
        if kind == "pixels" and preset.norm:
            settings = replace(settings, norm=number("Norm", "norm", preset.norm, 0.01, 1e6))
        was = preset.transforms
        if model.modality == "audio":
            moved = replace(was, jitter=int(number("Shift (frames)", "jitter", was.jitter, 0, 64)))
        else:
            moved = Transforms(
                int(number("Jitter (px)", "jitter", was.jitter, 0, 64)),
                number("Scale (share)", "scale", was.scale, 0, 0.9),
                number("Rotation (°)", "rotate", was.rotate, 0, 180),
                int(number("Padding (px)", "pad", was.pad, 0, 64)),
                was.border,
            )
        every = st.number_input(
            "Keep a frame every … steps", 0, 1000, max(1, steps // FRAMES),
            key=f"every-{steps}", bind="query-params", help="0 keeps none.",
        )  # fmt: skip
    return replace(settings, transforms=moved, frame_every=int(every))


def _objective(
    model: Model,
    kind: str,
    layer: Layer | None,
    unit: int,
    units: range,
    target: int,
    place: tuple[int | None, int | None],
    count: int,
    chosen: Chosen | None,
) -> Objective:
    if layer is None:
        return mx.classes(model, target)
    name = layer.name
    if kind == PLACE:
        return mx.neurons(model, name, unit, *place)
    if kind == SEVERAL:
        apart = DIVERSITY * mx.diversity(model, name)
        return mx.repeated(mx.units(model, name, unit), count) + apart
    if kind == GROUP:
        return mx.group(model, name, units)
    if kind == DREAM:
        return mx.energy(model, name)
    if kind == LIKENESS and chosen is not None:
        maps = feature_maps(model, model.preprocess(chosen.item), name)[name]
        return mx.direction(model, name, maps.flatten(1).mean(1))
    return mx.units(model, name, list(units))


def _title(
    model: Model, kind: str, layer: Layer | None, unit: int, units: range, target: int, low: bool
) -> str:
    verb = "What silences" if low else "What drives"
    if layer is None:
        return f"{verb} “{class_labels(model.classes)[target]}”?"
    if kind == GROUP:
        whole = len(units) == layer.channels
        what = "all units" if whole else f"units {units[0]} to {units[-1]}"
        return f"{verb} {what} of {layer.name} together?"
    if kind == ALL:
        return f"{verb} the {layer.channels:,} units of {layer.name}?"
    if kind in (DREAM, LIKENESS):
        return f"{verb} {layer.name} as a whole?"
    return f"{verb} unit {unit} of {layer.name}?"
