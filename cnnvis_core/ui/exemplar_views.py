"""How exemplars are drawn on the page: crops of pictures, parts of sounds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import streamlit as st
import torch
from PIL import Image

from cnnvis_core.attribution import attribute
from cnnvis_core.datasets import MemoryDataset
from cnnvis_core.datasets.decoding import whole_clip, windows
from cnnvis_core.errors import CnnvisError
from cnnvis_core.exemplars import By, Exemplars, picture_crop, sound_patch
from cnnvis_core.exemplars.crops import input_patch
from cnnvis_core.inputs import Clip, read_image
from cnnvis_core.jobs import Progress
from cnnvis_core.maximization import Maximization, maximize
from cnnvis_core.models import Layer, Model
from cnnvis_core.models.units import Reduction
from cnnvis_core.render import exemplars as drawn
from cnnvis_core.render.colour import sequential
from cnnvis_core.render.files import wav
from cnnvis_core.render.pictures import png
from cnnvis_core.render.sprites import Sprite, largest, signed_tiles
from cnnvis_core.ui.jobs import run_job
from cnnvis_core.ui.maximization_views import drawn_view
from cnnvis_core.ui.models import is_public
from cnnvis_core.ui.text import plain

BYS: tuple[By, ...] = ("max", "mean")
STRENGTHS: dict[By, str] = {"max": "Maximum", "mean": "Mean"}
STEPS, LARGEST_BESIDE = 128, 128  # of a maximised picture, and pixels of its side
SIDE = 112  # pixels of a crop
MOST_OF = 0.8  # of a picture's area, which needs no other view
HEARD = 4  # sounds that are played
KEPT_SHEETS = 8
A_PAGE = 256  # units of a layer on one sheet


def choose_strength() -> By:
    """Draw the choice between maxima and means of maps."""
    return st.segmented_control(
        "Strongest by its map's", BYS, format_func=STRENGTHS.__getitem__, default="max",
        required=True, key="strongest", bind="query-params",
    ) or "max"  # fmt: skip


def choose_page(count: int, unit: int) -> range:
    """Draw the choice of which units of a large layer are shown; first those about the chosen."""
    pages = [range(first, min(first + A_PAGE, count)) for first in range(0, count, A_PAGE)]
    chosen = st.selectbox(
        "Units shown", pages, unit // A_PAGE, key=f"page-{count}-{unit // A_PAGE}",
        format_func=lambda page: f"{page[0]:,} to {page[-1]:,}",
    )  # fmt: skip
    return chosen or pages[0]


def remembered(key: tuple[str, ...], make: Callable[[], Sprite]) -> Sprite:
    """A sheet that takes a moment to cut out, made once."""
    kept: dict[tuple[str, ...], Sprite] = st.session_state.setdefault("_crops", {})
    if key not in kept:
        if len(kept) >= KEPT_SHEETS:
            kept.pop(next(iter(kept)))
        kept[key] = make()
    return kept[key]


class ExemplarView(Protocol):
    """What the page asks of a kind of input."""

    def draw_top(self, table: pd.DataFrame, unit: int, ask: bool = True) -> None:
        """Draw a unit's exemplars, strongest first; ``ask`` how, which a page can do once."""

    def crops(self, table: pd.DataFrame, units: range) -> list[Image.Image | None]:
        """The strongest exemplar of some units, for a sheet."""


def exemplar_view(model: Model, dataset: MemoryDataset, layer: Layer) -> ExemplarView:
    """The view that suits the model's input."""
    if model.modality == "audio":
        return SoundExemplars(model, dataset, layer)
    return PictureExemplars(model, dataset, layer)


@dataclass(frozen=True)
class PictureExemplars:
    """Crops of pictures."""

    model: Model
    dataset: MemoryDataset
    layer: Layer

    def _box(self, row: Any, size: tuple[int, int]) -> drawn.Crop:
        if row.row < 0:  # of a mean, the whole map
            return (0.0, 0.0, float(size[0]), float(size[1]))
        return picture_crop(self.model, self.layer, row.row, row.col, size)

    def crops(self, table: pd.DataFrame, units: range) -> list[Image.Image | None]:
        """The strongest exemplar of some units, for a sheet."""
        found: list[Image.Image | None] = [None] * len(units)
        pictures: dict[int, Image.Image] = {}
        for row in first_of(table, units):
            if row.item not in pictures:
                pictures[row.item] = read_image(self.dataset.data[row.item])
            picture = pictures[row.item]
            found[units.index(row.unit)] = drawn.crop(
                picture, self._box(row, picture.size), drawn.TILE
            )
        return found

    def draw_top(self, table: pd.DataFrame, unit: int, ask: bool = True) -> None:
        """Draw the crops, the pictures around them and, if asked for, guided gradients."""
        guided = ask and st.toggle(
            "Guided gradients", key="guided", bind="query-params",
            help="What in each crop drives the unit: guided backpropagation of its maximum, or the "
            "plain gradient where the network has no ReLU before it, or others than ReLUs.",
        )  # fmt: skip
        with st.container(horizontal=True):
            for row in table.itertuples():
                picture = read_image(self.dataset.data[row.item])
                box = self._box(row, picture.size)
                with st.container(width=SIDE):
                    st.image(
                        png(drawn.crop(picture, box, SIDE)), width=SIDE,
                        alt=f"Exemplar {row.rank + 1} of unit {unit}: {row.file}",
                    )  # fmt: skip
                    if _is_part(box, picture.size):
                        st.image(
                            png(drawn.whole_with_frame(picture, box, SIDE)), width=SIDE,
                            alt="The picture that it comes from",
                        )  # fmt: skip
                    if guided:
                        self._draw_guided(picture, row, unit)
                    st.caption(f"**{row.activation:.3g}**  \n{plain(row.file)}")

    def _draw_guided(self, picture: Image.Image, row: Any, unit: int) -> None:
        reduction: Reduction = "mean" if row.row < 0 else "maximum"
        x, name = self.model.preprocess(picture), self.layer.name
        try:
            found = attribute(self.model, x, None, "guided_backprop", name, unit, reduction)
        except CnnvisError:  # where no ReLU stands before the unit, or others than ReLUs do
            found = attribute(self.model, x, None, "saliency", name, unit, reduction)
        values = found.values.sum(0)[None]
        gradient = Image.fromarray(signed_tiles(values, largest(values))[0])
        part: drawn.Crop = (0.0, 0.0, float(gradient.width), float(gradient.height))
        if row.row >= 0:  # the gradient is that of the network's input, not of the original
            seen = input_patch(self.model, self.layer, row.row, row.col)
            part = (float(seen.left), float(seen.top), float(seen.right), float(seen.bottom))
        st.image(png(drawn.crop(gradient, part, SIDE)), width=SIDE, alt="Its guided gradient")
        if _is_part(part, gradient.size):
            st.image(
                png(drawn.whole_with_frame(gradient, part, SIDE)), width=SIDE,
                alt="The gradient of the whole input",
            )  # fmt: skip


def _is_part(box: drawn.Crop, size: tuple[int, int]) -> bool:
    """Whether a crop leaves out enough of the picture for the rest to be worth seeing."""
    return (box[2] - box[0]) * (box[3] - box[1]) < MOST_OF * size[0] * size[1]


@dataclass(frozen=True)
class SoundExemplars:
    """Parts of sounds."""

    model: Model
    dataset: MemoryDataset
    layer: Layer

    def _part(self, row: Any) -> tuple[Clip, float, float, str]:
        """The part of a clip that was heard: samples, from, to, and the band in words."""
        clip = whole_clip(self.dataset.data[row.item])
        if row.row < 0:
            return clip, 0.0, clip.seconds, "all bands"
        patch = sound_patch(self.model, self.layer, row.row, row.col, row.window, clip.seconds)
        return clip, patch.start, patch.end, f"{patch.low_hz:.0f} to {patch.high_hz:.0f} Hz"

    def crops(self, table: pd.DataFrame, units: range) -> list[Image.Image | None]:
        """The spectrogram around the strongest place of some units."""
        found: list[Image.Image | None] = [None] * len(units)
        heard: dict[int, list[torch.Tensor]] = {}
        for row in first_of(table, units):
            if row.item not in heard:
                heard[row.item] = windows(self.model, whole_clip(self.dataset.data[row.item]))
            found[units.index(row.unit)] = self._patch(heard[row.item], row, drawn.TILE)
        return found

    def _patch(self, heard: list[torch.Tensor], row: Any, side: int) -> Image.Image:
        """The spectrogram that a place sees, of the windows of a clip; low frequencies below."""
        levels = heard[max(row.window, 0)][0, 0].numpy()
        if row.row >= 0:
            patch = input_patch(self.model, self.layer, row.row, row.col)
            levels = levels[patch.top : patch.bottom, patch.left : patch.right]
        low, high = float(levels.min()), float(levels.max())
        tile = Image.fromarray(sequential(levels[::-1], low, max(high, low + 1e-6)))
        return tile.resize((side, side), Image.Resampling.NEAREST)

    def draw_top(self, table: pd.DataFrame, unit: int, ask: bool = True) -> None:
        """Play the clips, or the parts of them that were heard."""
        whole = ask and st.toggle(
            "Whole clips", key="whole-clips", bind="query-params",
            help="Play all of each clip, not only the part that its strongest place heard.",
        )  # fmt: skip
        for row in table.head(HEARD).itertuples():
            clip, start, end, band = self._part(row)
            first, last = (round(edge * clip.sample_rate) for edge in (start, end))
            part = clip.samples if whole else clip.samples[first : max(last, first + 1)]
            with st.container(horizontal=True, vertical_alignment="center"):
                st.image(
                    png(self._patch(windows(self.model, clip), row, SIDE)), width=SIDE,
                    alt=f"Spectrogram of what unit {unit} heard in {row.file}",
                )  # fmt: skip
                said = f"**{row.activation:.3g}** {plain(row.file)}, "
                if end <= start and not whole:
                    st.caption(f"{said}the silence behind it")
                    continue
                with st.container(width=260):
                    st.audio(wav(part, clip.sample_rate), format="audio/wav")
                st.caption(f"{said}{start:.2f} to {end:.2f} s, {band}")
        if len(table) > HEARD:
            rest = table.iloc[HEARD:]
            named = zip(rest["file"], rest["activation"], strict=True)
            st.caption(
                "Then: " + "; ".join(f"{plain(file)} ({value:.3g})" for file, value in named)
            )


def draw_maximized(model: Model, layer: Layer, unit: int) -> None:
    """Draw what the network itself makes up for a unit, if asked for."""
    if not st.toggle(
        "Its maximised picture beside", key="beside", bind="query-params",
        help="The input that maximisation draws for the unit; see the page about it.",
    ):  # fmt: skip
        return
    view, canvas = drawn_view(model), st.empty()

    def show(progress: Progress[Maximization]) -> None:
        if progress.preview is not None:
            values = progress.preview.images[0].numpy()
            view.draw_forming(canvas, values, "The picture as it forms")

    size = max(model.input_shape[1:])
    outcome = run_job(
        ("beside", model.card.id, layer.name, unit),
        lambda: maximize(model, layer.name, [unit], STEPS, min(size, LARGEST_BESIDE)),
        "Climbing",
        show,
        is_public(model),
    )
    if outcome.value is not None:
        values = outcome.value.images[0].numpy()
        view.draw_forming(canvas, values, f"The input that drives unit {unit}, made up")
        st.caption(f"Made up by {STEPS} steps from noise.")


def typical(found: Exemplars, layer: Layer, unit: int, by: By) -> None:
    """Draw which classes drive a unit, and how strong its answers are."""
    if found.classes:
        table = found.by_class(layer.name, unit)
        names = [plain(name) for name in table.dropna(subset=["mean_max"])["class"].head(3)]
        st.markdown(f"**Most typical: {', '.join(names)}**")
        st.altair_chart(
            drawn.class_bars(table), width="stretch",
            alt=f"Mean of the maxima by class, most for {table['class'].iloc[0]}",
        )  # fmt: skip
        counts = found.top(layer.name, unit, by)["class"].value_counts()
        st.caption(
            "Among its strongest: "
            + ", ".join(f"{plain(name)} {count}" for name, count in counts.items()) + "."
        )  # fmt: skip
    spread = found.quantiles(layer.name, unit).set_index("share")["max"]
    st.caption(
        f"Maxima of its map over all {found.manifest['items']:,} items: half are below "
        f"{spread[0.5]:.3g}, one in twenty above {spread[0.95]:.3g}."
    )


def best_of(table: pd.DataFrame, by: str) -> pd.DataFrame:
    """The rows of one order; those of means are about whole maps."""
    return table[table["by"] == by].sort_values(["unit", "rank"], ignore_index=True)


def first_of(table: pd.DataFrame, units: range) -> Iterator[Any]:
    """The rows of the strongest exemplars of some units."""
    return table[(table["rank"] == 0) & table["unit"].isin(units)].itertuples()


def unit_names(table: pd.DataFrame, units: range) -> list[str]:
    """What to say of the tiles of some units."""
    names = [f"Unit {unit}: nothing" for unit in units]
    for row in first_of(table, units):
        names[units.index(row.unit)] = f"Unit {row.unit}: {row.activation:.3g}, {row.file}"
    return names
