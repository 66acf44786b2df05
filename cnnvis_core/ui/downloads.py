"""A row of buttons that download what a page shows."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import streamlit as st

_KINDS = {
    "png": ("image/png", ":material/image:"),
    "json": ("application/json", ":material/data_object:"),
    "npz": ("application/octet-stream", ":material/data_array:"),
    "csv": ("text/csv", ":material/table:"),
    "webp": ("image/webp", ":material/animation:"),
    "gif": ("image/gif", ":material/gif_box:"),
    "safetensors": ("application/octet-stream", ":material/neurology:"),
    "wav": ("audio/wav", ":material/volume_up:"),
}


def draw_downloads(
    stem: str, files: Mapping[str, Callable[[], bytes]], kind: str | None = None
) -> None:
    """Draw a button for each file; a file is made when its button is pressed.

    Parameters
    ----------
    stem : str
        Start of the files' names.
    files : mapping
        Makes the bytes of a file, by what stands on its button: its kind in `_KINDS`, such as
        "PNG", or any name where all are of one ``kind``, which then is a part of the file's name.
    kind : str, optional
        "png", "npz" or "csv".
    """
    with st.container(horizontal=True):
        for label, make in files.items():
            ending = kind or label.lower()
            mime, icon = _KINDS[ending]
            name = f"{stem}-{label.lower().replace(' ', '-')}" if kind else stem
            st.download_button(
                label, make, f"{name}.{ending}", mime, on_click="ignore", icon=icon,
            )  # fmt: skip
