"""How an occlusion map of a picture, and of a sound, is drawn on the page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import streamlit as st
from PIL import Image
from streamlit.delta_generator import DeltaGenerator

from cnnvis_core.models import Model
from cnnvis_core.occlusion import Occlusion, PictureOccluder, SoundOccluder, top_share
from cnnvis_core.occlusion.grid import Box, Cell
from cnnvis_core.render import charts
from cnnvis_core.render.colour import symmetric_limit
from cnnvis_core.render.files import wav
from cnnvis_core.render.pictures import fit, outlined, overlay, png
from cnnvis_core.render.spectrogram import spectrogram_picture
from cnnvis_core.ui.answers import draw_top, probabilities
from cnnvis_core.ui.inputs import SHOWN_SIDE, Chosen
from cnnvis_core.ui.text import plain

MAP_HEIGHT = 420  # pixels; a portrait must not push everything else off the screen
COVERED_WIDTH = 240
GRID_WIDTH = 420  # pixels; tiles of a square input are then about square


class OcclusionView(Protocol):
    """What the page asks of a kind of input."""

    @property
    def width(self) -> int:
        """Pixels that the map takes where there is room."""

    def draw_plain(self, canvas: DeltaGenerator) -> None:
        """Draw the input without a map."""

    def draw_map(self, canvas: DeltaGenerator, found: Occlusion, opacity: float) -> None:
        """Draw the input under its map."""

    def draw_caption(self, canvas: DeltaGenerator, found: Occlusion) -> None:
        """Say what was measured, in which unit."""

    def draw_result(
        self, canvas: DeltaGenerator, found: Occlusion, opacity: float, key: str
    ) -> Drawn:
        """Draw the final map; return what was drawn on it, if that can be done."""

    def draw_positions(self, found: Occlusion, drawn: Drawn, key: str) -> Drawn:
        """Draw every position with its numbers, and the covered input of the chosen one.

        Returns what was drawn on either picture.
        """

    def draw_extras(self, found: Occlusion) -> None:
        """Draw what only this kind of input has."""

    def png(self, found: Occlusion, opacity: float) -> bytes:
        """The map over the input as a PNG file."""


def view_for(model: Model, chosen: Chosen, occluder: Any) -> OcclusionView:
    """The view that suits the model's input."""
    if model.modality == "audio":
        return SoundView(model, chosen, occluder)
    return PictureView(model, chosen, occluder)


@dataclass(frozen=True)
class Drawn:
    """What a visitor drew on a chart: a click on a place, or a box."""

    cell: Cell | None = None
    box: Box | None = None


def _drawn(event: Any, found: Occlusion) -> Drawn:
    """What an event of a chart says; a place off the grid is none."""
    cell, box = None, None
    points = event.selection.get(charts.CELL, [])
    if points:
        row, col = int(points[0]["row"]), int(points[0]["col"])
        rows, cols = found.grid.shape
        cell = (row, col) if 0 <= row < rows and 0 <= col < cols else None
    ends = event.selection.get(charts.BOX, {})
    if ends.get("x") and ends.get("y"):
        (top, bottom), (left, right) = sorted(ends["y"]), sorted(ends["x"])
        if bottom > top and right > left:
            box = (top, left, bottom, right)
    return Drawn(cell, box)


def _numbers(found: Occlusion, cell: Cell) -> str:
    drop = float(found.drop[cell])
    return (
        f"Covered here, the {found.score} of “{plain(found.class_name)}” goes from "
        f"{found.baseline:.4f} to {found.baseline - drop:.4f} (drop {drop:+.4f})."
    )


def _measured(found: Occlusion) -> str:
    limit = symmetric_limit(found.drop)
    asked, measured = int(found.inside.sum()), int(found.measured.sum())
    approximate = (
        f" **Approximate:** {measured:,} of {asked:,} places were measured, the others estimated."
        if measured < asked
        else ""
    )
    return (
        f"Drop of the {found.score} of “{plain(found.class_name)}” (clean: {found.baseline:.3f}) "
        f"when a place is covered with {found.fill}; full colour is ±{limit:.3f}.{approximate}"
    )


def _engine(found: Occlusion) -> str:
    kind = (
        "Only what each place changes was computed anew"
        if found.engine == "incremental"
        else "The whole network was computed for every place"
    )
    return f"{kind} ({found.note})."


@dataclass(frozen=True)
class PictureView:
    """Maps over a picture."""

    model: Model
    chosen: Chosen
    occluder: PictureOccluder

    @property
    def width(self) -> int:
        """As wide as the picture is at the height of a map; the slider below needs some room."""
        width, height = self.chosen.shown.size
        return max(240, round(MAP_HEIGHT * width / height))

    def _overlay(self, found: Occlusion, opacity: float, side: int) -> Image.Image:
        small = self.chosen.shown
        picture = small if side <= SHOWN_SIDE else fit(self.chosen.item, side)
        box = self.model.frontend.crop_box(picture.size)  # type: ignore[attr-defined]
        limit = symmetric_limit(found.drop)
        return overlay(picture, found.heatmap, box, limit, opacity, side)

    def draw_plain(self, canvas: DeltaGenerator) -> None:
        """Draw the picture alone."""
        canvas.image(
            self.chosen.shown,
            width="stretch",
            output_format="JPEG",
            alt="The picture, without a map",
        )

    def draw_map(self, canvas: DeltaGenerator, found: Occlusion, opacity: float) -> None:
        """Draw the picture under a preview of its map, coarsely and at once."""
        self._draw(canvas, found, opacity, final=False)

    def _draw(self, canvas: DeltaGenerator, found: Occlusion, opacity: float, final: bool) -> None:
        canvas.image(
            self._overlay(found, opacity, SHOWN_SIDE if final else 480),
            width="stretch",
            output_format="PNG" if final else "JPEG",
            alt=f"The picture; places that support {found.class_name} are orange, "
            "places that oppose it blue",
        )

    def draw_caption(self, canvas: DeltaGenerator, found: Occlusion) -> None:
        """Say what was measured; a gray border is said to be unseen."""
        box = self.model.frontend.crop_box(self.chosen.item.size)  # type: ignore[attr-defined]
        cut = box[0] > 0.5 or box[1] > 0.5
        unseen = " The network does not see the gray border." if cut else ""
        canvas.caption(_measured(found) + unseen)

    def draw_result(
        self, canvas: DeltaGenerator, found: Occlusion, opacity: float, key: str
    ) -> Drawn:
        """Draw the picture under its map; tiles are chosen on the grid below."""
        self._draw(canvas, found, opacity, final=True)
        return Drawn()

    def draw_positions(self, found: Occlusion, drawn: Drawn, key: str) -> Drawn:
        """Draw the grid and, beside it, the covered picture of the chosen tile."""
        st.subheader("Every position")
        with st.container(horizontal=True):
            grid, place = st.container(width=GRID_WIDTH), st.container()
        with grid:
            event = st.altair_chart(
                charts.picture_grid(found),
                width="stretch",
                on_select="rerun",
                key=key,
                alt=f"Grid of {found.grid.shape[0]} by {found.grid.shape[1]} drops",
            )
        drawn = _drawn(event, found)
        cell = drawn.cell
        with place:
            if cell is None:
                st.caption(
                    "Numbers under the pointer. Choose a tile to see that covered picture; draw a "
                    f"box to measure only there.\n\n{_engine(found)}"
                )
                return drawn
            covered = self.occluder.covered([cell])
            height, width = covered.shape[2:]
            shown = self.model.frontend.to_image(covered)  # type: ignore[attr-defined]
            st.image(
                outlined(shown, found.grid.box(cell), (height, width)),
                width=COVERED_WIDTH,
                output_format="PNG",
                alt="What the network sees with the chosen place covered",
            )
            st.markdown(_numbers(found, cell))
            draw_top(self.model, probabilities(self.model, covered), found.target, key="covered")
        return drawn

    def draw_extras(self, found: Occlusion) -> None:
        """Pictures have none."""

    def png(self, found: Occlusion, opacity: float) -> bytes:
        """The map over the picture at up to 2048 pixels."""
        return png(self._overlay(found, opacity, min(2048, max(self.chosen.item.size))))


@dataclass(frozen=True)
class SoundView:
    """Maps over a spectrogram."""

    model: Model
    chosen: Chosen
    occluder: SoundOccluder

    @property
    def width(self) -> int:
        """Three to two."""
        return MAP_HEIGHT * 3 // 2

    def _levels(self) -> tuple[Any, Any, Any]:
        levels = self.occluder.clean()[0, 0].cpu().numpy()
        frontend = self.occluder.frontend
        return levels, frontend.frame_seconds(levels.shape[1]), frontend.mel_centres_hz()

    def _play(self, samples: Any, label: str) -> None:
        length = round(self.chosen.item.seconds * self.occluder.sample_rate)
        st.audio(
            wav(samples.cpu().numpy()[:length], self.occluder.sample_rate),
            format="audio/wav",
            alt=label,
        )

    def draw_plain(self, canvas: DeltaGenerator) -> None:
        """Draw the spectrogram alone."""
        canvas.altair_chart(
            charts.spectrogram(*self._levels()), width="stretch", alt="Spectrogram of the sound"
        )

    def draw_map(self, canvas: DeltaGenerator, found: Occlusion, opacity: float) -> None:
        """Draw the spectrogram under its map."""
        canvas.altair_chart(
            charts.occluded_spectrogram(*self._levels(), found, opacity),
            width="stretch",
            alt=f"Spectrogram; places that support {found.class_name} are orange",
        )

    def draw_caption(self, canvas: DeltaGenerator, found: Occlusion) -> None:
        """Say what was measured, and play the clip."""
        canvas.caption(_measured(found))
        with canvas:
            self._play(self.occluder.samples, "The sound as the network is given it")

    def draw_result(
        self, canvas: DeltaGenerator, found: Occlusion, opacity: float, key: str
    ) -> Drawn:
        """Draw the map with every place to be chosen."""
        event = canvas.altair_chart(
            charts.occluded_spectrogram(*self._levels(), found, opacity),
            width="stretch",
            on_select="rerun",
            key=key,
            alt=f"{len(found.grid)} places of the spectrogram, to be chosen",
        )
        drawn = _drawn(event, found)
        if drawn.box is None:
            return drawn
        low, left, high, right = drawn.box
        centres = self._levels()[2]
        hertz = np.interp([low - 0.5, high - 0.5], np.arange(len(centres)), centres)
        return Drawn(drawn.cell, (float(hertz[0]), left, float(hertz[1]), right))

    def draw_positions(self, found: Occlusion, drawn: Drawn, key: str) -> Drawn:
        """Draw and play the sound without the chosen place."""
        cell = drawn.cell
        if cell is None:
            st.caption(
                "Numbers under the pointer. Choose a place on the map to hear the sound without "
                f"it; draw a box to measure only there.\n\n{_engine(found)}"
            )
            return drawn
        samples = self.occluder.covered_samples(cell)
        with st.container(horizontal=True, vertical_alignment="center"):
            sound, answer = st.container(width=COVERED_WIDTH), st.container()
        with sound:
            covered = self.occluder.covered([cell])
            _, seconds, centres = self._levels()
            st.altair_chart(
                charts.spectrogram(covered[0, 0].cpu().numpy(), seconds, centres).properties(
                    height=200
                ),
                alt="Spectrogram of the covered sound",
            )
            self._play(samples, "The sound with the chosen place covered")
        with answer:
            st.markdown(_numbers(found, cell))
            draw_top(self.model, probabilities(self.model, covered), found.target, key="covered")
        return drawn

    def draw_extras(self, found: Occlusion) -> None:
        """Play only what matters."""
        st.subheader("Play only what matters")
        share = st.slider(
            "Share of the spectrogram that is kept", 0.02, 0.6, 0.2, 0.02, format="percent",
            key="keep", bind="query-params",
        )  # fmt: skip
        keep = top_share(found.heatmap, share)
        samples = self.occluder.masked_samples(~keep)
        self._play(samples, "The places that matter most, all others covered")
        answer = probabilities(self.model, self.occluder.masked([~keep]))
        st.caption(
            f"From this alone, “{plain(found.class_name)}” has a probability of "
            f"{answer[found.target]:.3f}."
        )
        st.download_button(
            "WAV",
            lambda: wav(samples.cpu().numpy(), self.occluder.sample_rate),
            f"what-matters-{self.chosen.name}.wav",
            "audio/wav",
            on_click="ignore",
            icon=":material/music_note:",
        )

    def png(self, found: Occlusion, opacity: float) -> bytes:
        """The map over the spectrogram."""
        levels, _, _ = self._levels()
        return png(spectrogram_picture(levels, found, opacity))
