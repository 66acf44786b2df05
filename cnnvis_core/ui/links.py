"""What a link from another page asks for, where widgets that live on would not listen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import streamlit as st

Value = TypeVar("Value")


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
