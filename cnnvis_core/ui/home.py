"""The front door: samples that are already analysed, and the way to every page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import streamlit as st
from PIL import Image

from cnnvis_core.errors import CnnvisError
from cnnvis_core.inputs.samples import Sample, samples
from cnnvis_core.jobs import run
from cnnvis_core.occlusion import occlude, occluder_for
from cnnvis_core.render.colour import symmetric_limit
from cnnvis_core.render.pictures import fit, overlay
from cnnvis_core.render.spectrogram import spectrogram_picture
from cnnvis_core.ui.inputs import sample_input
from cnnvis_core.ui.models import KINDS, cards, loaded
from cnnvis_core.ui.text import draw_error

TILES = {"image": 6, "audio": 3}


@dataclass(frozen=True, eq=False)
class Tile:
    """A sample with its map."""

    picture: Image.Image
    answer: str
    probability: float


@st.cache_resource(max_entries=16, show_spinner=False)
def _tile(model_id: str, sample_id: str, modality: Literal["image", "audio"]) -> Tile:
    """The map of a sample; the same for all visitors."""
    model = loaded(model_id)
    sample = next(s for s in samples(modality) if s.id == sample_id)
    item = sample_input(sample).item
    x = model.preprocess(item)
    found = run(occlude(model, x if modality == "image" else item))
    probability = float(model.predict(x)[0, found.target])
    if modality == "image":
        small = fit(item, 480)
        box = model.frontend.crop_box(small.size)  # type: ignore[attr-defined]
        picture = overlay(small, found.heatmap, box, symmetric_limit(found.drop), side=480)
        edge = min(picture.size)
        left, top = (picture.width - edge) // 2, (picture.height - edge) // 2
        picture = picture.crop((left, top, left + edge, top + edge))
    else:
        levels = occluder_for(model, item).clean()[0, 0].cpu().numpy()
        picture = spectrogram_picture(levels, found, 0.8).resize((480, 240))
    return Tile(picture, found.class_name, probability)


def _gallery(modality: Literal["image", "audio"]) -> None:
    """A row of analysed samples, each a link to its own page."""
    kind = next(name for name, value in KINDS.items() if value == modality)
    card = next((c for c in cards() if c.modality == modality and c.available_offline), None)
    shown: tuple[Sample, ...] = samples(modality)[: TILES[modality]]
    if card is None or not shown:
        return
    st.subheader("Pictures" if modality == "image" else "Sounds")
    for column, sample in zip(st.columns(3) * 2, shown, strict=False):
        with column, st.container(border=True):
            try:
                tile = _tile(card.id, sample.id, modality)
            except CnnvisError as error:
                draw_error(error)
                continue
            st.image(
                tile.picture,
                width="stretch",
                output_format="PNG",
                alt=f"{sample.title}, with the places that support the answer in orange",
            )
            st.markdown(f"**{tile.answer.split(',')[0]}**, {tile.probability:.0%}")
            st.page_link(
                "pages/occlude.py",
                label=f"Open {sample.title.lower()}",
                icon=":material/arrow_forward:",
                query_params={"kind": kind, f"sample-{modality}": sample.title},
            )


def home() -> None:
    """Draw the front door."""
    st.title("cnnvis")
    st.markdown(
        "Open a convolutional network like a specimen. Every picture below was just analysed on "
        "this machine: orange places carry the network's answer, blue ones speak against it."
    )
    st.page_link(
        "pages/occlude.py",
        label="Try your own picture or sound",
        icon=":material/upload:",
        query_params={},
    )
    _gallery("image")
    _gallery("audio")
