"""The collection that exemplars are taken from: the samples, or files of one's own."""

from __future__ import annotations

import tempfile
from pathlib import Path

import streamlit as st

from cnnvis_core.exemplars import BytesSource, bytes_source, sample_tiles
from cnnvis_core.models import Model
from cnnvis_core.models.card import Modality
from cnnvis_core.ui.uploads import WEIGHTS_MB, limit_mb

SAMPLES, OWN = "Samples", "Yours"


@st.cache_resource(scope="session", show_spinner=False)
def index_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for a visitor's indices, which is gone with the visit."""
    return tempfile.TemporaryDirectory(prefix="cnnvis-")


@st.cache_resource(max_entries=2, show_spinner="Cutting the samples into tiles")
def _tiles(modality: Modality) -> BytesSource:
    return sample_tiles(modality)


def choose_collection(modality: Modality) -> BytesSource:
    """Draw the choice between the samples and files of one's own.

    Raises
    ------
    InputError
        If the files cannot be used.
    """
    word = "pictures" if modality == "image" else "sounds"
    which = st.segmented_control(
        "Collection", [SAMPLES, OWN], default=SAMPLES, required=True, key="collection",
        bind="query-params", help=f"Tiles of the sample {word}, or {word} of your own.",
    )  # fmt: skip
    if which == SAMPLES:
        return _tiles(modality)
    given = st.file_uploader(
        f"Your {word}, or a zip of them",
        accept_multiple_files=True,
        max_upload_size=limit_mb(WEIGHTS_MB),
        key=f"collection-{modality}",
        help="Folders in a zip are classes. They stay in memory and are gone with your visit.",
    )
    if not given:
        st.session_state.pop(f"_collection-{modality}", None)
        st.info(f"Drop {word} here to see which of them drive each unit; a zip of folders will do.")
        st.stop()
    key = tuple(file.file_id for file in given)
    kept = st.session_state.get(f"_collection-{modality}")
    if kept is None or kept[0] != key:
        files: dict[str, bytes] = {}
        for file in given:  # two may have one name
            name = file.name if file.name not in files else f"{len(files)}-{file.name}"
            files[name] = file.getvalue()
        kept = key, bytes_source(files, modality)
        st.session_state[f"_collection-{modality}"] = kept
    source: BytesSource = kept[1]
    return source


def index_path(model: Model, source: BytesSource) -> Path:
    """Where the visitor's index of a model and a collection lies."""
    return Path(index_folder().name) / f"{model.card.id}-{source.fingerprint[:16]}"
