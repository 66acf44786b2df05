"""The widgets that say how an ascent goes, each at a preset's value until it is changed."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import streamlit as st

from cnnvis_core.maximization import Settings, Transforms
from cnnvis_core.models import Model

FRAMES = 24  # kept of an ascent, about


def ascent_settings(name: str, preset: Settings, steps: int, model: Model) -> Settings:
    """Draw the parameters and return them.

    Parameters
    ----------
    name : str
        Of the preset.
    preset : Settings
        Its values.
    steps : int
        Of the ascent.
    model : Model
        Sounds are shifted in time and hardly in pitch.
    """
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
