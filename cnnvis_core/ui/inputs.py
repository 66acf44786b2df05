"""Choosing what to look at: a file, the camera, the microphone, or a sample."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Literal

import streamlit as st

from cnnvis_core.errors import InputError
from cnnvis_core.inputs import Clip, decode_image, read_audio
from cnnvis_core.inputs.samples import Sample, samples
from cnnvis_core.limits import limits
from cnnvis_core.models import Model
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.render.pictures import fit
from cnnvis_core.ui.links import carry_over, heed_link, keep
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.uploads import content, upload_box

Modality = Literal["image", "audio"]
OWN = "own"  # in place of a sample's name
_WORDS = {"image": "picture", "audio": "sound"}
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
    own : bool
        Whether it is the visitor's, not a sample.
    """

    key: str
    name: str
    item: Any
    notes: tuple[str, ...]
    shown: Any = None
    own: bool = False


# Keyed by the hash of all bytes: Streamlit's own hash of an image looks at a sample of it.
@st.cache_resource(scope="session", max_entries=4, show_spinner=False)
def _read(modality: Modality, digest: str, _data: bytes) -> tuple[Any, tuple[str, ...], Any]:
    if modality == "image":
        picture = decode_image(_data, limits().megapixels * 10**6)
        return picture.image, picture.notes, fit(picture.image, SHOWN_SIDE)
    clip = read_audio(_data, limits().seconds)
    return clip, clip.notes, None


def _chosen(modality: Modality, data: bytes, name: str, own: bool) -> Chosen:
    digest = hashlib.sha256(data).hexdigest()
    item, notes, shown = _read(modality, digest, data)
    return Chosen(digest, name, item, notes, shown, own)


def sample_input(sample: Sample) -> Chosen:
    """A sample, read."""
    return _chosen(sample.modality, sample.read(), sample.id, own=False)


def choose_input(modality: Modality) -> Chosen:
    """Draw the widgets and return what was chosen last; a bad file changes nothing.

    A visitor's own input stays a choice beside the samples, on every page, until it is removed.

    Raises
    ------
    InputError
        If not even a sample can be read.
    """
    _take_own(modality)
    own: Chosen | None = st.session_state.get(f"own-{modality}")
    offered = {sample.id: sample for sample in samples(modality)}
    titles = {name: sample.title for name, sample in offered.items()}
    mine = f"Your {_WORDS[modality]}"
    if own is not None:
        titles = {OWN: mine, **titles}
    elif st.query_params.get(f"sample-{modality}") == mine:
        # A link of somebody else's, or a server that was started anew.
        st.info(f"{mine} is not here; send it (again) to see it.", icon=":material/info:")
    key = f"sample-{modality}"
    heed_link(key, {title: name for name, title in titles.items()})
    carry_over(key, titles, next(iter(offered)))
    picked = st.pills(
        f"Which {_WORDS[modality]}",
        list(titles),
        format_func=lambda name: titles.get(name, name),
        # A default beside a value that was set here would be one too many.
        default=None if key in st.session_state else next(iter(offered)),
        required=True,
        wrap=True,
        key=key,
        bind="query-params",
    )
    keep(key)
    if picked != OWN:
        st.session_state[f"before-{modality}"] = picked
    chosen = own if picked == OWN and own else sample_input(offered[picked or next(iter(offered))])
    for note in chosen.notes:
        st.caption(f":material/info: {note}")
    return chosen


def excerpt(model: Model, chosen: Chosen) -> Chosen:
    """Draw a choice of the part of a long sound that the network looks at in one go; return it.

    Networks look at long sounds window by window, and a unit has a map in each of them.
    """
    frontend = model.frontend
    if not isinstance(frontend, LogMel) or not isinstance(chosen.item, Clip):
        return chosen
    clip, frames = chosen.item, model.input_shape[2]
    around = 0 if frontend.centred else frontend.window
    seconds = ((frames - 1) * frontend.hop + around) / frontend.sample_rate
    if frontend.frames(round(clip.seconds * frontend.sample_rate)) <= frames:
        return chosen
    start = st.slider(
        f"Part of {seconds:.2g} s that is looked at, from (s)",
        0.0, clip.seconds - seconds, 0.0, 0.05, key=f"from-{seconds:.2f}", bind="query-params",
    )  # fmt: skip
    first = round(start * clip.sample_rate)
    samples = clip.samples[first : first + round(seconds * clip.sample_rate)]
    part = Clip(samples, clip.sample_rate, clip.notes)
    return replace(chosen, key=f"{chosen.key} from {start:.2f}", item=part)


def _take_own(modality: Modality) -> None:
    """Draw the ways to bring an input, and keep what is new and can be read."""
    word = _WORDS[modality]
    key = f"upload-{modality}"
    upload = upload_box(
        f"Drop a {word} here",
        limits().media_mb,
        key=key,
        on_change=_forget_removed,
        args=(modality, key),
        help="JPEG, PNG, WebP, GIF, BMP or TIFF."
        if modality == "image"
        else f"WAV, FLAC, OGG or MP3; the first {limits().seconds} seconds are analysed.",
    )
    live = None
    device = "camera" if modality == "image" else "microphone"
    # Drawn only when asked for: the browser asks for permission as soon as it appears.
    if st.toggle(f"Use the {device}", key=f"{device}-on"):
        recorder = st.camera_input if modality == "image" else st.audio_input
        live = recorder(
            f"Your {device}", key=device, on_change=_forget_removed, args=(modality, device)
        )
    advice = "make it smaller and try again" if modality == "image" else "cut it and try again"
    for source, given in ((key, upload), (device, live)):
        if given is None:
            continue
        try:
            data = content(given, limits().media_mb, advice)
            own = _chosen(modality, data, f"your-{word}", own=True)
        except InputError as error:
            draw_error(error)
            continue
        if st.session_state.get(f"taken-{source}") != given.file_id:
            st.session_state[f"taken-{source}"] = given.file_id
            st.session_state[f"own-{modality}"] = own
            st.session_state[f"sample-{modality}"] = OWN


def _forget_removed(modality: Modality, source: str) -> None:
    """Return to the sample of before when the visitor's own input is taken away."""
    if st.session_state.get(source) is None and f"taken-{source}" in st.session_state:
        for name in (f"taken-{source}", f"own-{modality}"):
            st.session_state.pop(name, None)
        st.session_state[f"sample-{modality}"] = st.session_state[f"before-{modality}"]
