"""cnnvis: the front door and the router."""

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import InputError
from cnnvis_core.limits import limits
from cnnvis_core.ui.navigation import run_page

st.set_page_config(page_title="cnnvis", page_icon=":material/biotech:", layout="wide")

try:
    limits()
except InputError as error:
    st.error(f"This server is not set up rightly: {error}", icon=":material/settings:")
    st.stop()

run_page()
