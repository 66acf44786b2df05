"""Choosing what to look at: a file, the camera, the microphone, or a sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Literal

import streamlit as st

from cnnvis_core.errors import InputError
from cnnvis_core.inputs import decode_image, read_audio
from cnnvis_core.inputs.samples import Sample, samples
from cnnvis_core.render.pictures import fit
from cnnvis_core.ui.uploads import MEDIA_MB, content, upload_box

Modality = Literal["image", "audio"]
SHOWN_SIDE = 900  # pixels; the page is hardly ever wider


@dataclass(frozen=True, eq=False)
class Chosen:
    """An input that was read.

    Attributes
    ----------
    key : str
        sha256 of the file's bytes.
    name : str
        What to call it in file names; never the visitor's own file name.
    item : PIL image or Clip
        The input.
    notes : tuple of str
        What was changed on the way in.
    shown : PIL image or None
        A picture at the size of the page, made once; None for sound.
    """

    key: str
    name: str
    item: Any
    notes: tuple[str, ...]
    shown: Any = None


# Keyed by the hash of all bytes: Streamlit's own hash of an image looks at a sample of it.
@st.cache_resource(scope="session", max_entries=4, show_spinner=False)
def _read(modality: Modality, digest: str, _data: bytes) -> tuple[Any, tuple[str, ...], Any]:
    if modality == "image":
        picture = decode_image(_data)
        return picture.image, picture.notes, fit(picture.image, SHOWN_SIDE)
    clip = read_audio(_data)
    return clip, clip.notes, None


def _chosen(modality: Modality, data: bytes, name: str) -> Chosen:
    digest = hashlib.sha256(data).hexdigest()
    item, notes, shown = _read(modality, digest, data)
    return Chosen(digest, name, item, notes, shown)


def sample_input(sample: Sample) -> Chosen:
    """A sample, read."""
    return _chosen(sample.modality, sample.read(), sample.id)


def _turn_to(source: str, modality: Modality) -> None:
    st.session_state[f"source-{modality}"] = source


def choose_input(modality: Modality) -> Chosen:
    """Draw the widgets and return what was chosen last; a bad file changes nothing.

    Raises
    ------
    InputError
        If not even a sample can be read.
    """
    own = _own_input(modality)
    sample = _choose_sample(modality, marked=own is None)
    st.session_state[f"own-{modality}"] = own
    chosen = own or sample_input(sample)
    for note in chosen.notes:
        st.caption(f":material/info: {note}")
    return chosen


def _own_input(modality: Modality) -> Chosen | None:
    """Draw the ways to bring an input; return the visitor's own if it is what to look at."""
    word = "picture" if modality == "image" else "sound"
    upload = upload_box(
        f"Drop a {word} here",
        MEDIA_MB,
        key=f"upload-{modality}",
        on_change=_turn_to,
        args=("upload", modality),
        help="JPEG, PNG, WebP, GIF, BMP or TIFF."
        if modality == "image"
        else "WAV, FLAC, OGG or MP3; the first 30 seconds are analysed.",
    )
    live = None
    device = "camera" if modality == "image" else "microphone"
    # Drawn only when asked for: the browser asks for permission as soon as it appears.
    if st.toggle(f"Use the {device}", key=f"{device}-on"):
        recorder = st.camera_input if modality == "image" else st.audio_input
        live = recorder(f"Your {device}", key=device, on_change=_turn_to, args=(device, modality))
    source = st.session_state.get(f"source-{modality}", "sample")
    given = {"upload": upload, device: live}.get(source)
    if given is None:
        return None
    advice = "make it smaller and try again" if modality == "image" else "cut it and try again"
    try:
        return _chosen(modality, content(given, MEDIA_MB, advice), f"your-{word}")
    except InputError as error:
        st.error(str(error), icon=":material/error:")
        return st.session_state.get(f"own-{modality}")


def _choose_sample(modality: Modality, marked: bool) -> Sample:
    """Draw the samples, none of them marked where the visitor's own input is shown."""
    offered = {sample.id: sample for sample in samples(modality)}
    key = f"sample-{modality}"
    first = next(iter(offered))
    last = st.session_state.get(f"last-{key}", first)
    # A marked sample could not be chosen again, so an input of one's own takes the mark away.
    change = key in st.session_state and (st.session_state[key] is not None) != marked
    if change:
        st.session_state[key] = last if marked else None
    sample_id = st.pills(
        "Or a sample",
        list(offered),
        format_func=lambda name: offered[name].title if name in offered else name,
        # A default beside a value that was set here would be one too many.
        default=first if marked and not change else None,
        required=True,
        wrap=True,
        key=key,
        bind="query-params",
        on_change=_turn_to,
        args=("sample", modality),
    )
    st.session_state[f"last-{key}"] = sample_id or last
    return offered[sample_id or last]
