"""How maximised pictures, and sounds, are drawn on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from cnnvis_core.inputs import Clip
from cnnvis_core.maximization import Maximization, listen, spectrogram_levels
from cnnvis_core.models import Model
from cnnvis_core.render import charts
from cnnvis_core.render.files import wav
from cnnvis_core.render.maximized import activation_curve, map_picture, parts
from cnnvis_core.render.pictures import enlarged, png
from cnnvis_core.ui.text import plain

SIDE = 320  # pixels of the picture that is forming
SMALL = 150  # pixels of the others


class DrawnView(Protocol):
    """What the page asks of a kind of input."""

    @property
    def sound(self) -> bool:
        """Whether pictures are spectrograms."""

    def draw_forming(self, canvas: DeltaGenerator, values: NDArray[Any], what: str) -> None:
        """Draw one picture (C, H, W), finished or not."""

    def draw_extras(self, found: Maximization, number: int, key: str) -> None:
        """Draw what only this kind of input has."""


def drawn_view(model: Model) -> DrawnView:
    """The view that suits the model's input."""
    return SpectrogramView(model) if model.modality == "audio" else PictureView()


def _shown(picture: Image.Image, side: int) -> bytes:
    return png(enlarged(picture, side), quick=True)


@dataclass(frozen=True)
class PictureView:
    """Pictures, the parts beyond red, green and blue apart."""

    sound = False

    def draw_forming(self, canvas: DeltaGenerator, values: NDArray[Any], what: str) -> None:
        """Draw the picture, enlarged without smoothing."""
        shown = parts(values)
        canvas.image(
            [_shown(picture, SIDE if len(shown) == 1 else SMALL) for _, picture in shown],
            width=SIDE if len(shown) == 1 else SMALL,
            caption=[name or ("" if len(shown) == 1 else "colours") for name, _ in shown],
            alt=what if len(shown) == 1 else None,
        )

    def draw_extras(self, found: Maximization, number: int, key: str) -> None:
        """Pictures have none."""


@dataclass(frozen=True)
class SpectrogramView:
    """Spectrograms with their axes, and what they sound like."""

    model: Model
    sound = True

    def draw_forming(self, canvas: DeltaGenerator, values: NDArray[Any], what: str) -> None:
        """Draw the spectrogram over seconds and Hz."""
        frontend: Any = self.model.frontend
        unit = values / 255.0 if values.dtype == np.uint8 else values
        levels = spectrogram_levels(self.model, unit)
        canvas.altair_chart(
            charts.spectrogram(
                levels, frontend.frame_seconds(levels.shape[1]), frontend.mel_centres_hz()
            ).properties(height=260),
            width="stretch",
            alt=what,
        )

    def draw_extras(self, found: Maximization, number: int, key: str) -> None:
        """Let it be heard."""
        clip = heard(self.model, found, number, key)
        st.audio(
            wav(clip.samples, clip.sample_rate),
            format="audio/wav",
            alt="What the picture sounds like",
        )
        answer = self.model.predict(self.model.preprocess(clip))[0]
        best = int(answer.argmax())
        st.caption(
            "One of the sounds with nearly this spectrogram (Griffin and Lim). The network hears "
            f"“{plain(self.model.classes[best])}” in it, {float(answer[best]):.0%}."
        )


def heard(model: Model, found: Maximization, number: int, key: str) -> Clip:
    """The sound of a picture, made once."""
    kept = st.session_state.setdefault("_heard", {})
    if kept.get("key") != (key, number):
        kept.update(key=(key, number), clip=listen(model, found.images[number].numpy()))
    clip: Clip = kept["clip"]
    return clip


def draw_matrix(view: DrawnView, found: Maximization, number: int, step: int | None) -> None:
    """Draw the start and the maps beside the result, with the activation curve below."""
    cells: list[tuple[str, Image.Image]] = []
    if not view.sound:
        cells += [
            (f"Start{f', {name}' if name else ''}", picture)
            for name, picture in parts(found.starts[number].numpy())
        ]
    for title, maps in (("Map at the start", found.start_maps), ("Map at the end", found.end_maps)):
        if maps is not None and maps[number].size > 1 and not np.isnan(maps[number]).any():
            cells.append((title, map_picture(maps[number], SMALL, view.sound)))
    with st.container(horizontal=True):
        for title, picture in cells:
            with st.container(width=SMALL):
                st.image(_shown(picture, SMALL), width="stretch", alt=title)
                st.caption(title)
    start, end = found.start_activation[number], found.end_activation[number]
    st.altair_chart(
        activation_curve(found, number, step),
        width="stretch",
        alt=f"The activation from {start:.3g} to {end:.3g} over the steps",
    )
    st.caption(
        f"The score at each step, in the network's own unit, as the shaken picture got it; "
        f"of the picture itself it was {start:.4g} at the start and "
        + (f"is {end:.4g} at the end." if end == end else "is not known before the end.")
        + _maps_said(found, number)
    )


def _maps_said(found: Maximization, number: int) -> str:
    if found.end_maps is None or found.end_maps[number].size <= 1:
        return ""
    most = float(np.nanmax(np.abs(found.end_maps[number]), initial=0.0))
    return f" Maps are each on their own scale, the last one up to {most:.3g}."
