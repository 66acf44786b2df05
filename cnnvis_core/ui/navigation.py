"""The router: which pages there are, and how each is reached."""

from __future__ import annotations

from pathlib import Path

import streamlit as st
from streamlit.navigation.page import StreamlitPage

from cnnvis_core.ui.departures import doorkeeper, is_full
from cnnvis_core.ui.home import home
from cnnvis_core.ui.housekeeping import housekeeper
from cnnvis_core.ui.links import note_arrival
from cnnvis_core.ui.models import draw_sidebar
from cnnvis_core.ui.sign_in import admitted, draw_sign_in, draw_sign_out
from cnnvis_core.ui.uploads import keep_uploads_in_memory

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
            PAGES / "feature_maps.py",
            title="Feature maps",
            icon=":material/layers:",
            url_path="feature_maps",
            help="What the units of any layer answer to your input.",
        ),
        st.Page(
            PAGES / "gradients.py",
            title="Gradients",
            icon=":material/gradient:",
            url_path="gradients",
            help="Gradient methods beside each other, and which of them deserves belief.",
        ),
        st.Page(
            PAGES / "kernels.py",
            title="Kernels",
            icon=":material/grid_on:",
            url_path="kernels",
            help="The weights of any convolution.",
        ),
        st.Page(
            PAGES / "maximize.py",
            title="Maximisation",
            icon=":material/auto_awesome:",
            url_path="maximize",
            help="Draw the input that drives a unit, a layer or a class.",
        ),
        st.Page(
            PAGES / "orientation.py",
            title="Orientation",
            icon=":material/explore:",
            url_path="orientation",
            help="Rank units by the stripes they prefer, or by the ripples of sound.",
        ),
        st.Page(
            PAGES / "exemplars.py",
            title="Exemplars",
            icon=":material/photo_library:",
            url_path="exemplars",
            help="The pictures or sounds of a collection that drive each unit most.",
        ),
        st.Page(
            PAGES / "transfer.py",
            title="Transfer",
            icon=":material/compare_arrows:",
            url_path="transfer",
            help="How a network changes as it learns a new task.",
        ),
        st.Page(
            PAGES / "models.py",
            title="Models",
            icon=":material/hub:",
            url_path="models",
            help="Every network at hand: size, licence, accuracy, layers.",
        ),
    ]


def run_page() -> None:
    """Declare the pages, draw what all of them share, and run the one that was asked for."""
    keeper = housekeeper()
    doorkeeper()
    keep_uploads_in_memory()
    if is_full():
        st.navigation(pages(), position="hidden")
        st.warning(
            "As many visitors as this server takes are here; try again in a moment.",
            icon=":material/hourglass:",
        )
        st.button("Try again", icon=":material/refresh:", key="come-in")
        st.stop()
    inside = admitted()
    page = st.navigation(pages(), position="sidebar" if inside else "hidden")
    if not inside:
        draw_sign_in()
    note_arrival(page.url_path)
    draw_sidebar()
    draw_sign_out()
    st.session_state["_routed"] = True
    try:
        page.run()
    finally:
        keeper.look()
        st.session_state.pop("_routed", None)


def ensure_router() -> None:
    """Start again with the router if this page was reached without it.

    Until some visitor has opened ``/``, Streamlit runs a file of ``pages/`` that a deep link names
    without ``app.py``, under a menu of its own making.
    """
    if "_routed" not in st.session_state:
        st.navigation(pages(), position="hidden")  # whether they may be seen is the router's part
        st.rerun()
