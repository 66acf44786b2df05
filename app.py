"""cnnvis: the front door and the router."""

import streamlit as st

from cnnvis_core.ui.navigation import route

st.set_page_config(page_title="cnnvis", page_icon=":material/biotech:", layout="wide")

route().run()
