"""How a unit's map is drawn over a picture, and over a sound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import streamlit as st
import torch
from numpy.typing import NDArray

from cnnvis_core.activations import feature_maps, statistics, upsample
from cnnvis_core.models import Layer, Model
from cnnvis_core.network import map_size, plan
from cnnvis_core.occlusion import occluder_for
from cnnvis_core.render import charts
from cnnvis_core.render.files import wav
from cnnvis_core.render.maps import map_over, map_sheet
from cnnvis_core.ui.inputs import Chosen
from cnnvis_core.ui.tiles import tile_sheet

SIDE = 640  # pixels of the picture under a map
STRIP_LAYERS = 8
STRIP_UNITS = 10


class MapView(Protocol):
    """What the page asks of a kind of input."""

    @property
    def width(self) -> int:
        """Pixels that the map takes where there is room."""

    def axes(self) -> str:
        """What the sides of a small map mean, where a reader would have to guess."""

    def draw(self, values: NDArray[np.float32], peak: NDArray[np.int64]) -> None:
        """Draw a map (h, w) over the input, with what its strongest place sees."""

    def draw_extras(self, values: NDArray[np.float32]) -> None:
        """Draw what only this kind of input has."""


def map_view_for(model: Model, chosen: Chosen, layer: Layer) -> MapView:
    """The view that suits the model's input."""
    if model.modality == "audio":
        return SoundMapView(model, chosen, layer)
    return PictureMapView(model, chosen, layer)


def _seen(layer: Layer) -> str:
    if layer.receptive_field is None:
        return "Each place sees the whole input."
    height, width = layer.receptive_field.size
    return f"The frame is what the strongest place sees, {height} × {width} input px."


@dataclass(frozen=True)
class PictureMapView:
    """Maps over a picture."""

    model: Model
    chosen: Chosen
    layer: Layer

    @property
    def width(self) -> int:
        """Enough to see a face."""
        return 440

    def axes(self) -> str:
        """A picture's are plain."""
        return ""

    def draw(self, values: NDArray[np.float32], peak: NDArray[np.int64]) -> None:
        """Draw the picture under the map."""
        extent = self.model.input_shape[1], self.model.input_shape[2]
        heat = upsample(values, self.layer, extent)
        picture = self.chosen.shown
        crop = self.model.frontend.crop_box(picture.size)  # type: ignore[attr-defined]
        field = self.layer.receptive_field
        frame = field.box(int(peak[0]), int(peak[1])) if field else None
        st.image(
            map_over(picture, heat, crop, frame, 0.8, SIDE),
            width="stretch",
            output_format="PNG",
            alt="The picture under the unit's map; the frame is what its strongest place sees",
        )
        st.caption(
            f"The map over the picture; full colour is ±{float(np.abs(values).max()):.3g}. "
            + _seen(self.layer)
        )

    def draw_extras(self, values: NDArray[np.float32]) -> None:
        """Pictures have none."""


@dataclass(frozen=True)
class SoundMapView:
    """Maps over a spectrogram."""

    model: Model
    chosen: Chosen
    layer: Layer

    @property
    def width(self) -> int:
        """Wider than high."""
        return 620

    def axes(self) -> str:
        """Seconds and Hz."""
        frontend: Any = self.model.frontend
        low, *_, high = frontend.mel_centres_hz()
        end = self.chosen.item.seconds
        return f" Each runs from 0 to {end:.2g} s to the right and {low:.0f} to {high:.0f} Hz up."

    def draw(self, values: NDArray[np.float32], peak: NDArray[np.int64]) -> None:
        """Draw the spectrogram under the map."""
        frontend: Any = self.model.frontend
        levels = self.model.preprocess(self.chosen.item)[0, 0].cpu().numpy()
        heat = upsample(values, self.layer, levels.shape)
        seconds, centres = frontend.frame_seconds(levels.shape[1]), frontend.mel_centres_hz()
        field = self.layer.receptive_field
        frame = field.box(int(peak[0]), int(peak[1])) if field else None
        st.altair_chart(
            charts.spectrogram(levels, seconds, centres, heat, 0.85, frame=frame),
            width="stretch",
            alt="The spectrogram under the unit's map; the frame is what its strongest place sees",
        )
        where = " Each place sees the whole input."
        if frame is not None:
            low, left, high, right = frame
            times = seconds[np.clip([left, right - 1], 0, len(seconds) - 1)]
            bands = centres[np.clip([low, high - 1], 0, len(centres) - 1)]
            where = (
                f" The frame is what its strongest place sees: {times[0]:.2f} to {times[1]:.2f} s, "
                f"{bands[0]:.0f} to {bands[1]:.0f} Hz."
            )
        st.caption(
            f"The map over the spectrogram; full colour is ±{float(np.abs(values).max()):.3g}."
            + where
        )

    def draw_extras(self, values: NDArray[np.float32]) -> None:
        """Play what the unit heard."""
        occluder: Any = occluder_for(self.model, self.chosen.item)
        levels = occluder.clean()[0, 0]
        heat = upsample(values, self.layer, (levels.shape[0], levels.shape[1]))
        top = float(heat.max())
        if top <= 0:
            st.caption("The unit answers nowhere above zero: there is nothing to play.")
            return
        share = st.slider(
            "Keep places above this share of the maximum", 0.05, 0.95, 0.3, 0.05,
            format="percent", key="heard", bind="query-params",
        )  # fmt: skip
        samples = occluder.masked_samples(heat < share * top)
        length = round(self.chosen.item.seconds * occluder.sample_rate)
        st.audio(
            wav(samples.cpu().numpy()[:length], occluder.sample_rate),
            format="audio/wav",
            alt="What this unit heard: all other places silent",
        )
        st.caption("What this unit heard: the clip with all other places silent.")


def draw_strip(model: Model, x: torch.Tensor) -> None:
    """Draw the strongest units of some layers from the first to the last."""
    with st.expander(
        "From the first layer to the last", icon=":material/view_week:", key="strip",
        on_change="rerun",
    ) as expander:  # fmt: skip
        if not expander.open:
            return
        convolutions = [
            box.layer.name
            for box in plan(model).boxes
            if box.family == "convolution" and max(map_size(box.layer)) > 1
        ]
        usual = np.linspace(0, len(convolutions) - 1, min(STRIP_LAYERS, len(convolutions)))
        names = st.multiselect(
            "Layers",
            convolutions,
            default=[convolutions[round(place)] for place in usual],
            key=f"strip-{model.card.id}",
        )
        maps = feature_maps(model, x, names) if names else {}
        for name in names:
            values = maps[name]
            order = statistics(values).order("maximum")[:STRIP_UNITS]
            st.markdown(f"**{name}** · {' × '.join(map(str, values.shape[1:]))}")
            tile_sheet(
                map_sheet(
                    values[order.copy()].cpu().numpy(),
                    False,
                    STRIP_UNITS,
                    model.modality == "audio",
                ),
                [f"{name}, unit {unit}" for unit in order],
                None,
                lambda index, name=name, order=order: _open(name, int(order[index])),  # type: ignore[misc]
                key=f"strip-{model.card.id}-{name}",
                alt=f"The strongest maps of {name}",
                hint="The units of the highest maximum.",
            )


def _open(layer: str, unit: int) -> None:
    st.session_state["layer"] = layer
    st.session_state["unit"] = unit
