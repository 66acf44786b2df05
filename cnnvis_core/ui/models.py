"""Choosing a model, and loading it once for all visitors."""

from __future__ import annotations

from dataclasses import dataclass

import streamlit as st

from cnnvis_core.errors import CnnvisError
from cnnvis_core.limits import limits
from cnnvis_core.models import Model, ModelCard, catalogue, load
from cnnvis_core.models.shelf import Shelf
from cnnvis_core.ui.links import heed_link
from cnnvis_core.ui.own_networks import Own, draw_own, own_model
from cnnvis_core.ui.text import draw_error

KINDS = {"Picture": "image", "Sound": "audio"}


@st.cache_data(ttl=30, max_entries=1, show_spinner=False)
def cards() -> tuple[ModelCard, ...]:
    """The catalogue; asked again after half a minute, since downloads change it."""
    return catalogue()


@st.cache_resource(show_spinner=False)
def shelf() -> Shelf:
    """Networks of the catalogue that all visitors share."""
    return Shelf(load, limits().models_mb * 2**20)


def loaded(model_id: str) -> Model:
    """A model of the catalogue, loaded once a process and shared by all visitors."""
    return shelf().get(model_id)


def is_public(*models: Model) -> bool:
    """Whether all of these are networks of the catalogue as they are, none a visitor's own."""
    return all(shelf().there(model.card.id) is model for model in models)


def size_text(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 2**20:.0f} MB" if count >= 2**20 else f"{count / 2**10:.0f} kB"


def _download(card: ModelCard) -> None:
    """Ask before fetching weights, then fetch them with a bar and a Cancel button."""
    st.info(
        f"The weights of {card.title} are not on this machine yet ({size_text(card.bytes)}).",
        icon=":material/download:",
    )
    if not st.button(f"Download {card.title}", type="primary", key="download"):
        st.stop()
    frame = st.empty()
    with frame.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, text=f"Downloading {card.title}")
        st.button("Cancel", icon=":material/close:", key="cancel-download")

    def show(done: int, total: int) -> None:
        share = min(done / max(total, 1), 1.0)
        bar.progress(
            share, text=f"Downloading {card.title}: {size_text(done)} of {size_text(total)}"
        )

    try:
        load(card.id, progress=show)
    except CnnvisError:
        frame.empty()
        raise
    cards.clear()
    st.rerun()


@dataclass(frozen=True)
class Choice:
    """A network of the catalogue, and what the visitor sent in its place if there is anything."""

    card: ModelCard
    own: Own


def draw_sidebar() -> None:
    """Draw the sidebar's part about the model; `chosen_model` tells what was chosen.

    The router draws it, so that a choice and an upload live on when the visitor turns to another
    page.
    """
    heed_link("kind", {kind: kind for kind in KINDS})
    with st.sidebar:
        kind = st.segmented_control(
            "What to look at", list(KINDS), required=True, key="kind",
            default=None if "kind" in st.session_state else "Picture",
            bind="query-params", width="stretch",
        ) or "Picture"  # fmt: skip
        found = {card.id: card for card in cards() if card.modality == KINDS[kind]}
        key = f"model-{KINDS[kind]}"
        heed_link(key, {card.title: name for name, card in found.items()})
        model_id = st.selectbox(
            "Model",
            list(found),
            format_func=lambda name: found[name].title if name in found else name,
            key=key,
            bind="query-params",
            help="The first ones work offline; the others say what they would download. "
            "Type to search.",
        )
        card = found.get(model_id) or next(iter(found.values()))
        own = draw_own(card)
    st.session_state["_choice"] = Choice(card, own)


def chosen_model() -> Model:
    """Return the chosen model, loaded, and draw its facts in the sidebar.

    The id on its card tells it from all others, also a visitor's weights from the catalogue's.
    Stops the script, with a sentence on the page, where there is no model to go on with.
    """
    choice: Choice = st.session_state["_choice"]
    try:
        with st.sidebar:
            model = own_model(choice.own, choice.card)
        if model is None:
            if not choice.card.available_offline:
                _download(choice.card)
            model = loaded(choice.card.id)
    except CnnvisError as error:
        draw_error(error)
        st.stop()
    with st.sidebar:
        _facts(model)
    # For the log, which tells nothing of a visitor's own files.
    st.session_state["_model"] = "own" if choice.own else choice.card.id
    return model


def _facts(model: Model) -> None:
    """The model's size and input, and the device."""
    channels, height, width = model.input_shape
    what = (
        f"{width} × {height} pixels, {channels} channel{'s' if channels > 1 else ''}"
        if model.modality == "image"
        else f"{height} mel bands"
    )
    parameters = sum(p.numel() for p in model.module.parameters())
    st.caption(
        f"**Input** {what}  \n**Classes** {len(model.classes)}  \n"
        f"**Parameters** {parameters / 1e6:.1f} million  \n**Device** {model.device}"
    )
    if model.card.accuracy:
        st.caption(f"**Accuracy** {model.card.accuracy.split(' on ')[0].rstrip(',')}")
