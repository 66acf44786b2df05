"""What a link from another page asks for, where widgets that live on would not listen."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import TypeVar

import streamlit as st

Value = TypeVar("Value")

UNIT_PAGES = {
    "kernels": ("Its kernel", ":material/grid_on:"),
    "feature_maps": ("Its map", ":material/layers:"),
    "gradients": ("What drives it here", ":material/gradient:"),
    "maximize": ("What it looks for", ":material/auto_awesome:"),
    "orientation": ("What it is tuned to", ":material/explore:"),
    "exemplars": ("What drives it most", ":material/photo_library:"),
}


def note_arrival(page: str) -> None:
    """Keep what the address said when the visitor came to this page; call it before any widget.

    Streamlit gives a widget the value in the address when it is first drawn. One that is drawn on
    every page is not drawn first on any, and would ignore a link.
    """
    if st.session_state.get("_page") != page:
        st.session_state["_page"] = page
        st.session_state["_asked"] = st.query_params.to_dict()


def heed_link(key: str, values: Mapping[str, Value]) -> None:
    """Set a widget to what the link asks for, once; call it before the widget.

    Parameters
    ----------
    key : str
        Of the widget, and in the address.
    values : mapping
        What the widget holds for each text that may stand in the address; others are ignored.
    """
    asked = st.session_state.get("_asked", {}).pop(key, None)
    if asked in values:
        st.session_state[key] = values[asked]


def carry_over(key: str, allowed: Container[object], fallback: object) -> None:
    """Give a widget the value that it had on another page; call it before the widget.

    Streamlit forgets a page's widgets when the visitor turns to another one.

    Parameters
    ----------
    key : str
        Of the widget; `keep` is called with it behind the widget.
    allowed : container
        Values that the widget can take.
    fallback : object
        What takes the place of a value that it cannot.
    """
    state = st.session_state
    if key in state:
        # Set anew, a value belongs to this page's widget, no longer to another's.
        state[key] = state[key] if state[key] in allowed else fallback
    elif key not in st.query_params and state.get(f"kept-{key}") in allowed:
        state[key] = state[f"kept-{key}"]


def keep(key: str) -> None:
    """Note a widget's value for other pages; call it behind the widget."""
    st.session_state[f"kept-{key}"] = st.session_state[key]


def unit_links(here: str, layer: str, unit: int) -> None:
    """Draw links that open a unit on the other pages about units."""
    with st.container(horizontal=True):
        for page, (title, icon) in UNIT_PAGES.items():
            if page != here:
                st.page_link(
                    f"pages/{page}.py",
                    label=title,
                    icon=icon,
                    query_params={"layer": layer, "unit": str(unit), "explain": "A unit"},
                )
