"""Choosing a model, loading it once for all visitors, and a visitor's own weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import streamlit as st

from cnnvis_core.errors import CnnvisError, InputError
from cnnvis_core.models import Model, ModelCard, catalogue, load, load_checkpoint

KINDS = {"Picture": "image", "Sound": "audio"}
CHECKPOINT_BYTES = 200 * 2**20


@dataclass(frozen=True, eq=False)
class Choice:
    """A loaded model and what identifies it.

    Attributes
    ----------
    key : str
        Equal only for equal models: the catalogue's id, with the hash of uploaded weights.
    model : Model
        The network.
    """

    key: str
    model: Model


@st.cache_data(ttl=30, max_entries=1, show_spinner=False)
def cards() -> tuple[ModelCard, ...]:
    """The catalogue; asked again after half a minute, since downloads change it."""
    return catalogue()


@st.cache_resource(max_entries=3, show_spinner=False)
def loaded(model_id: str) -> Model:
    """A model of the catalogue, loaded once a process and shared by all visitors."""
    return load(model_id)


@st.cache_resource(scope="session", max_entries=2, show_spinner=False)
def own_weights(model_id: str, digest: str, _data: bytes) -> Model:
    """A visitor's weights in an architecture of the catalogue; seen by that visitor alone."""
    return load_checkpoint(model_id, _data)


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
    bar = st.progress(0.0, text=f"Downloading {card.title}")
    st.button("Cancel", icon=":material/close:", key="cancel-download")

    def show(done: int, total: int) -> None:
        share = min(done / max(total, 1), 1.0)
        bar.progress(
            share, text=f"Downloading {card.title}: {size_text(done)} of {size_text(total)}"
        )

    load(card.id, progress=show)
    cards.clear()
    st.rerun()


def choose_model() -> Choice:
    """Draw the sidebar's part about the model and return the chosen one, loaded.

    Stops the script, with a sentence on the page, where there is no model to go on with.
    """
    with st.sidebar:
        kind = st.segmented_control(
            "What to look at", list(KINDS), default="Picture", required=True, key="kind",
            bind="query-params", width="stretch",
        )  # fmt: skip
        found = {card.id: card for card in cards() if card.modality == KINDS[kind]}
        model_id = st.selectbox(
            "Model",
            list(found),
            format_func=lambda name: found[name].title if name in found else name,
            key=f"model-{KINDS[kind]}",
            bind="query-params",
            help="The first ones work offline; the others say what they would download. "
            "Type to search.",
        )
    card = found.get(model_id) or next(iter(found.values()))
    try:
        if not card.available_offline:
            _download(card)
        choice = Choice(card.id, loaded(card.id))
    except CnnvisError as error:
        st.error(str(error), icon=":material/error:")
        st.stop()
    with st.sidebar:
        choice = _with_own_weights(choice)
        _facts(choice.model)
    return choice


def _with_own_weights(choice: Choice) -> Choice:
    """The choice with the visitor's weights in it, if there are any that fit."""
    card = choice.model.card
    with st.expander("Your own weights", icon=":material/upload_file:"):
        upload = st.file_uploader(
            f"A state_dict for {card.title} (.safetensors or .pth)",
            key=f"weights-{card.id}",
            help="Another number of classes or of input channels is adapted from the file. "
            "Files that would run code are refused.",
        )
        if upload is None:
            return choice
        data = upload.getvalue()
        try:
            if len(data) > CHECKPOINT_BYTES:
                raise InputError(
                    "The file is larger than 200 MB; save the weights in half precision."
                )
            digest = hashlib.sha256(data).hexdigest()
            model = own_weights(card.id, digest, data)
        except CnnvisError as error:
            st.error(str(error), icon=":material/error:")
            return choice
        st.success(f"Using your weights: {len(model.classes)} classes.", icon=":material/check:")
        return Choice(f"{card.id}@{digest}", model)


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
