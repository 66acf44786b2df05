"""The collection that exemplars are taken from: the samples, or files of one's own."""

from __future__ import annotations

import streamlit as st

from cnnvis_core.datasets import MemoryDataset, dataset_of_uploads, sample_tiles
from cnnvis_core.limits import limits
from cnnvis_core.models.card import Modality
from cnnvis_core.ui.uploads import limit_mb

SAMPLES, OWN = "Samples", "Yours"


@st.cache_resource(max_entries=2, show_spinner="Cutting the samples into tiles")
def tiles_of(modality: Modality) -> MemoryDataset:
    """Tiles of the sample pictures, or parts of the sample sounds, for all visitors."""
    return sample_tiles(modality)


def choose_collection(modality: Modality) -> MemoryDataset:
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
        return tiles_of(modality)
    given = st.file_uploader(
        f"Your {word}, or a zip of them",
        accept_multiple_files=True,
        max_upload_size=limit_mb(limits().weights_mb),
        key=f"collection-{modality}",
        help="Folders in a zip are classes. They stay in memory and are gone with your visit.",
    )
    name = f"_collection-{modality}"
    kept = st.session_state.get(name)
    if not given:
        if kept is None:
            st.info(
                f"Drop {word} here, several of them or a zip; a zip of folders tells classes apart."
            )
            st.stop()
        # A box is forgotten when another part of the page is drawn; what it held is not.
        before: MemoryDataset = kept[1]
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"The {len(before.names):,} {word} that you sent before.")
            st.button("Forget them", on_click=st.session_state.pop, args=(name, None))
        return before
    key = tuple(file.file_id for file in given)
    if kept is None or kept[0] != key:
        files: dict[str, bytes] = {}
        for file in given:  # two may have one name
            own = file.name if file.name not in files else f"{len(files)}-{file.name}"
            files[own] = file.getvalue()
        kept = key, dataset_of_uploads(files, modality)
        st.session_state[name] = kept
    dataset: MemoryDataset = kept[1]
    return dataset
