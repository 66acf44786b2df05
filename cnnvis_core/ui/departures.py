"""What a visitor leaves behind is forgotten and given back, also when nobody comes or goes."""

from __future__ import annotations

import logging
import threading
import time

import streamlit as st
from streamlit import runtime

from cnnvis_core.limits import limits
from cnnvis_core.ui.allocator import give_back_memory

SECONDS = 10.0  # between two looks


class Doorkeeper:
    """Drops the sessions of closed tabs when ``server.disconnectedSessionTTL`` is over.

    Streamlit keeps them for that long, so that a broken connection can come back, but looks at the
    clock only when some other visitor leaves.
    """

    def __init__(self) -> None:
        self._thread = threading.Thread(target=self._watch, name="departures", daemon=True)
        self._thread.start()

    def _watch(self) -> None:
        while runtime.exists():
            time.sleep(SECONDS)
            try:
                # Streamlit offers no other way; its sessions live in its event loop's thread.
                server = runtime.get_instance()
                cache = server._session_mgr._session_storage._cache  # type: ignore[attr-defined]
                server._get_async_objs().eventloop.call_soon_threadsafe(cache.expire)
                # Runs that were cancelled leave what they held to be given back here.
                give_back_memory()
            except (AttributeError, RuntimeError):
                logging.getLogger(__name__).warning(
                    "Sessions of closed tabs stay until the next visitor leaves."
                )
                return


def is_full() -> bool:
    """Whether this visitor comes to a server that has as many as it may have."""
    if "_came_in" in st.session_state:
        return False
    if open_tabs() > limits().sessions:
        return True
    st.session_state["_came_in"] = True
    return False


def open_tabs() -> int:
    """How many tabs are connected, this one among them; 0 where that cannot be known."""
    if not runtime.exists():
        return 0
    try:
        sessions = runtime.get_instance()._session_mgr.list_active_sessions()
        return len(sessions)
    except AttributeError:
        return 0


@st.cache_resource(show_spinner=False)
def doorkeeper() -> Doorkeeper:
    """The one of this process."""
    return Doorkeeper()
