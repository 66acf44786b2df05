"""The router: which pages there are, and how each is reached."""

from __future__ import annotations

import threading
from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from cnnvis_core.ui.home import home

PAGES = Path(__file__).resolve().parents[2] / "pages"


def pages() -> list[StreamlitPage]:
    """All pages in the order of the menu; the first is the front door."""
    return [
        st.Page(
            home,
            title="Start",
            icon=":material/home:",
            url_path="start",
            default=True,
            help="Samples that are already analysed, and what each page shows.",
        ),
        st.Page(
            PAGES / "occlude.py",
            title="Occlusion",
            icon=":material/center_focus_strong:",
            url_path="occlude",
            help="Cover places of a picture or a sound and see what the answer loses.",
        ),
        st.Page(
            PAGES / "models.py",
            title="Models",
            icon=":material/hub:",
            url_path="models",
            help="Every network at hand: size, licence, accuracy, layers.",
        ),
    ]


@st.cache_resource(show_spinner=False)
def _routed() -> threading.Event:
    """Set once the router has run in this process."""
    return threading.Event()


def route() -> StreamlitPage:
    """Declare the pages and return the one that the visitor asked for."""
    page = st.navigation(pages())
    _routed().set()
    return page


def ensure_router() -> None:
    """Run the router if this page was reached without it.

    Until some visitor has opened ``/``, Streamlit runs a file of ``pages/`` that a deep link names
    without ``app.py``, under a menu of its own making.
    """
    if not _routed().is_set():
        route()
        st.rerun()
