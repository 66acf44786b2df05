"""cnnvis: the front door and the router."""

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import CnnvisError
from cnnvis_core.limits import limits
from cnnvis_core.models.catalogue import of_this_server
from cnnvis_core.ui.navigation import run_page
from cnnvis_core.ui.workplaces import workplaces

st.set_page_config(page_title="cnnvis", page_icon=":material/biotech:", layout="wide")

try:
    limits()
    of_this_server()
    workplaces()
except CnnvisError as error:
    st.error(f"This server is not set up rightly: {error}", icon=":material/settings:")
    st.stop()

run_page()
