"""The widgets that say what an occluder covers, how finely, and with what."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cnnvis_core.errors import InputError
from cnnvis_core.inputs import Clip
from cnnvis_core.limits import limits
from cnnvis_core.models import Model
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import ScoreKind
from cnnvis_core.occlusion import Box, Grid, default_patch, default_sound_patch

_SCORES: Mapping[str, ScoreKind] = {"Probability": "probability", "Logit": "logit"}
_PICTURE_FILLS = {
    "Mean colour": "mean",
    "Black": "black",
    "White": "white",
    "Gray": "gray",
    "Blur": "blur",
    "Noise": "noise",
    "A colour": "colour",
}
_SOUND_FILLS = {
    "Silence": "silence",
    "Mean spectrum": "mean",
    "Noise": "noise",
    "A level": "level",
}
_MODES = {"Time": "time", "Frequency": "frequency", "Time × frequency": "time x frequency"}


@dataclass(frozen=True)
class OccluderSettings:
    """Keyword arguments of `occlude`, hashable."""

    patch: tuple[Any, Any]
    stride: tuple[Any, Any]
    fill: str | float | tuple[float, float, float]
    score: ScoreKind
    box: Box | None
    adaptive: bool

    def arguments(self) -> dict[str, Any]:
        """What `occluder_for` takes."""
        return {"patch": self.patch, "stride": self.stride, "fill": self.fill}

    def measuring(self) -> dict[str, Any]:
        """What `occlude` takes besides."""
        return {"score": self.score, "box": self.box, "adaptive": self.adaptive}


@dataclass(frozen=True)
class BoxControl:
    """Two sliders that bound the places to be measured, and where their settings are kept.

    Attributes
    ----------
    rows, cols : tuple
        Label, end and step of the slider; an axis of whole numbers has a whole step.
    key : str
        What the sliders are called in the session and in links.
    """

    rows: tuple[str, float, float]
    cols: tuple[str, float, float]
    key: str

    @property
    def _toggle(self) -> str:
        return f"part{self.key}"

    def draw(self) -> Box | None:
        """Draw the sliders; None where everything is to be measured."""
        if not st.toggle(
            "Only a part",
            key=self._toggle,
            bind="query-params",
            help="Measure only places whose middle lies in a box; also by drawing one on the map.",
        ):
            return None
        ends = []
        for name, (label, end, step) in (("rows", self.rows), ("cols", self.cols)):
            ends.append(
                st.slider(
                    label, type(step)(0), end, (type(step)(0), end), step,
                    key=f"{name}{self.key}", bind="query-params",
                )
            )  # fmt: skip
        (top, bottom), (left, right) = ends
        # An empty range stands for its one place.
        return top, left, max(bottom, top + self.rows[2]), max(right, left + self.cols[2])

    def take(self, box: Box) -> None:
        """Set the sliders to a box that was drawn; for a button's callback."""
        top, left, bottom, right = box
        st.session_state[self._toggle] = True
        for name, (low, high), (_, end, step) in (
            ("rows", (top, bottom), self.rows),
            ("cols", (left, right), self.cols),
        ):
            kept = [min(max(round(v / step) * step, 0), end) for v in (low, high)]
            st.session_state[f"{name}{self.key}"] = tuple(type(step)(round(v, 6)) for v in kept)


def box_control(model: Model, item: Any) -> BoxControl:
    """The sliders that suit the kind of input."""
    if isinstance(model.frontend, LogMel):
        highest = float(model.frontend.sample_rate // 2)
        longest = round(item.seconds + 0.05, 1)
        return BoxControl(("From Hz to Hz", highest, 100.0), ("Seconds", longest, 0.1), "-s")
    height, width = model.input_shape[-2:]
    return BoxControl(("Rows (input px)", height, 1), ("Columns (input px)", width, 1), f"{height}")


def _adaptive() -> bool:
    return st.toggle(
        "Approximate, faster",
        key="adaptive",
        bind="query-params",
        help="Measures between two places only where the map changes there, and estimates the "
        "rest. Off: every place is measured.",
    )


def _score() -> ScoreKind:
    label = st.segmented_control(
        "Score",
        list(_SCORES),
        default="Probability",
        required=True,
        key="score",
        bind="query-params",
        help="A probability saturates near 0 and 1; a logit does not, but has no natural scale.",
    )
    return _SCORES[label]


def picture_settings(model: Model, control: BoxControl) -> OccluderSettings:
    """Draw the controls for a picture."""
    height, width = model.input_shape[-2:]
    side = min(height, width)
    (patch, stride) = default_patch(model)
    tall = st.slider(
        "Patch (input px)", 1, side, patch, key=f"patch{side}", bind="query-params",
        help=f"Side of the covered place; the network sees {width} × {height} pixels.",
    )  # fmt: skip
    wide = tall
    step = st.slider(
        "Stride (input px)", 1, max(2, side // 2), stride, key=f"stride{side}",
        bind="query-params", help="From one place to the next; small strides draw fine maps.",
    )  # fmt: skip
    label = st.selectbox("Fill", list(_PICTURE_FILLS), key="fill", bind="query-params")
    fill: Any = _PICTURE_FILLS[label]
    if fill == "colour":
        colour = st.color_picker("Colour", "#808080", key="colour", bind="query-params")
        red, green, blue = (int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5))
        fill = (red, green, blue)
    with st.expander("More", icon=":material/tune:"):
        if st.toggle("Rectangular patch", key="rectangular", bind="query-params"):
            wide = st.slider(
                "Patch width (input px)", 1, width, patch, key=f"patchwidth{side}",
                bind="query-params",
            )  # fmt: skip
        score = _score()
        box, adaptive = control.draw(), _adaptive()
    if step > min(tall, wide):
        st.caption(":material/info: The stride is held to the patch, so that no place is left out.")
    held = (min(step, tall), min(step, wide))
    return OccluderSettings((tall, wide), held, fill, score, box, adaptive)


def sound_settings(clip: Clip, nyquist: float, control: BoxControl) -> OccluderSettings:
    """Draw the controls for a sound."""
    label = st.segmented_control(
        "Cover",
        list(_MODES),
        default="Time",
        required=True,
        key="cover",
        bind="query-params",
        wrap=True,
    )
    mode: Any = _MODES[label]
    (band, seconds), _ = default_sound_patch(mode, clip.seconds)
    if seconds is not None:
        longest = max(0.1, round(min(5.0, clip.seconds), 2))
        seconds = st.slider(
            "Length (s)", 0.05, longest, min(round(seconds, 2), longest), 0.05,
            key=f"seconds-{mode[0]}{mode[-1]}", bind="query-params",
        )  # fmt: skip
    if band is not None:
        highest = int(nyquist // 100 * 100)
        band = st.slider(
            "Band (Hz)", 100, highest, int(min(band, highest)), 100,
            key=f"band-{mode[0]}{mode[-1]}", bind="query-params",
        )  # fmt: skip
    fine = st.segmented_control(
        "Step",
        ["whole", "1/2", "1/4"],
        default="1/2",
        required=True,
        key="step",
        bind="query-params",
        help="From one place to the next, in lengths of the place.",
    )
    share = {"whole": 1.0, "1/2": 0.5, "1/4": 0.25}[fine]
    fill: Any = _SOUND_FILLS[
        st.selectbox("Fill", list(_SOUND_FILLS), key="soundfill", bind="query-params")
    ]
    if fill == "level":
        fill = float(
            st.slider("White noise (dB full scale)", -80, 0, -40, key="level", bind="query-params")
        )
    with st.expander("More", icon=":material/tune:"):
        score = _score()
        box, adaptive = control.draw(), _adaptive()
    stride = (band and band * share, seconds and seconds * share)
    return OccluderSettings((band, seconds), stride, fill, score, box, adaptive)


def occluder_settings(model: Model, item: Any, control: BoxControl) -> OccluderSettings:
    """Draw the controls that suit the kind of input."""
    if isinstance(model.frontend, LogMel):
        return sound_settings(item, model.frontend.sample_rate / 2, control)
    return picture_settings(model, control)


def draw_count(grid: Grid, box: Box | None) -> None:
    """Say how many places will be covered.

    Raises
    ------
    InputError
        If they are more than this server measures.
    """
    count, most = int(grid.inside(box).sum()), limits().positions
    if count > most:
        raise InputError(
            f"These settings give {count:,} positions, and at most {most:,} are measured here; "
            "make the step or the place larger."
        )
    st.caption(f"{count:,} positions")
