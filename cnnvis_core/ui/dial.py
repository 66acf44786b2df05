"""A dial on which an orientation is chosen; its ring is the legend of the tints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

_HTML = """
<svg class="dial" viewBox="0 0 100 100" tabindex="0" role="slider"
  aria-valuemin="0" aria-valuemax="179">
  <g class="ring" fill="none" stroke-width="9"></g>
  <g class="bar">
    <line x1="11" y1="50" x2="34" y2="50"></line>
    <line x1="66" y1="50" x2="89" y2="50"></line>
    <circle cx="94" cy="50" r="5"></circle>
    <circle cx="6" cy="50" r="5"></circle>
  </g>
  <text x="50" y="56" text-anchor="middle"></text>
</svg>
"""
_CSS = """
.dial { display: block; width: 9rem; max-width: 100%; margin: 0.2rem auto; cursor: grab;
  touch-action: none; border-radius: 50%; user-select: none; }
.dial:active { cursor: grabbing; }
.dial:focus-visible { outline: 2px solid var(--st-primary-color); outline-offset: 2px; }
.bar line { stroke: var(--st-text-color); stroke-width: 2.5; stroke-linecap: round; }
.bar circle { fill: var(--st-background-color); stroke: var(--st-text-color); stroke-width: 2; }
text { font: 600 16px var(--st-font); fill: var(--st-text-color); pointer-events: none; }
"""
_SCRIPT = (Path(__file__).parent / "components" / "dial.js").read_text(encoding="utf-8")
_dial = st.components.v2.component("cnnvis_dial", html=_HTML, css=_CSS, js=_SCRIPT)


def angle_dial(label: str, key: str, tints: Sequence[str]) -> int:
    """Draw the dial and the number beside it; return the angle in whole degrees, 0 to 179.

    Parameters
    ----------
    label : str
        Of the number.
    key : str
        Of the number, and in the address.
    tints : sequence of str
        Colours of the ring at equally spaced angles from 0 to 180 degrees.
    """

    def turned() -> None:
        angle = st.session_state[f"{key}-dial"].turned
        if angle is not None:
            st.session_state[key] = int(angle) % 180

    holder = st.container()
    angle = st.number_input(label, 0, 179, key=key, bind="query-params")
    with holder:
        _dial(
            data={"angle": int(angle), "tints": list(tints)},
            key=f"{key}-dial",
            on_turned_change=turned,
        )
    return int(angle)
