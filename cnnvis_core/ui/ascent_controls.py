"""The widgets that say how an ascent goes, each at a preset's value until it is changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import streamlit as st

from cnnvis_core.maximization import Settings, Transforms
from cnnvis_core.maximization.parameterisation import Kind
from cnnvis_core.maximization.settings import Optimizer
from cnnvis_core.models import Model

FRAMES = 24  # kept of an ascent, about
KINDS: dict[str, Kind] = {"Fourier": "fourier", "Pixels": "pixels", "MaCo": "maco"}
OPTIMIZERS: dict[str, Optimizer] = {"Adam": "adam", "Gradient of length 1": "gradient"}


def slug(preset: str) -> str:
    """A preset's name in widget keys: a widget keeps its value, and each preset has its own."""
    return preset.split()[0].strip(",").lower()


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
    ending = slug(name)

    def number(label: str, field: str, value: float, low: float, high: float, by: float) -> float:
        return float(
            st.number_input(
                label, float(low), float(high), float(value), float(by),
                key=f"{field}-{ending}", format="%.4g", bind="query-params",
            )
        )  # fmt: skip

    def whole(label: str, field: str, value: int) -> int:
        return int(
            st.number_input(label, 0, 64, value, key=f"{field}-{ending}", bind="query-params")
        )

    def toggle(label: str, field: str, value: bool) -> bool:
        return st.toggle(label, value, key=f"{field}-{ending}", bind="query-params")

    with st.expander("Parameters", icon=":material/tune:"):
        kind = KINDS[
            st.selectbox(
                "Parameterisation", list(KINDS),
                list(KINDS.values()).index(preset.parameterisation),
                key=f"parameterisation-{ending}", bind="query-params",
            )
        ]  # fmt: skip
        settings = replace(preset, parameterisation=kind)
        if kind == "pixels":
            settings = _pixels(settings, number)
        else:
            settings = replace(
                settings, decorrelate=toggle("Natural colours", "natural", preset.decorrelate)
            )
        if kind == "fourier":
            settings = replace(settings, decay=number("Decay", "decay", preset.decay, 0, 4, 0.25))
        optimizer = st.selectbox(
            "Optimiser", list(OPTIMIZERS), list(OPTIMIZERS.values()).index(preset.optimizer),
            key=f"optimizer-{ending}", bind="query-params",
        )  # fmt: skip
        settings = replace(
            settings,
            optimizer=OPTIMIZERS[optimizer],
            rate=number("Rate", "rate", preset.rate, 0.0001, 100, 0.01),
            anneal=toggle("Smaller steps towards the end", "anneal", preset.anneal),
        )
        was = preset.transforms
        if model.modality == "audio":
            moved = replace(was, jitter=whole("Shift (frames)", "jitter", was.jitter))
        else:
            moved = Transforms(
                whole("Jitter (px)", "jitter", was.jitter),
                number("Scale (share)", "scale", was.scale, 0, 0.9, 0.05),
                number("Rotation (°)", "rotate", was.rotate, 0, 180, 5),
                whole("Padding (px)", "pad", was.pad),
                was.border,
            )
        every = st.number_input(
            "Keep a frame every … steps", 0, 1000, max(1, steps // FRAMES),
            key=f"every-{steps}", bind="query-params", help="0 keeps none.",
        )  # fmt: skip
    return replace(settings, transforms=moved, frame_every=int(every))


def _pixels(settings: Settings, number: Callable[..., float]) -> Settings:
    """What only pixels have."""
    norm = number("Largest norm (0 for none)", "norm", settings.norm or 0, 0, 1e6, 1)
    return replace(
        settings,
        total_variation=number(
            "Total variation", "variation", settings.total_variation, 0, 1000, 0.5
        ),
        l2=number("L2", "l2", settings.l2, 0, 1000, 0.5),
        blur=number("Blur (px)", "blur", settings.blur, 0, 32, 0.2),
        norm=norm or None,
    )
