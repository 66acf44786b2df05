"""Garbage is collected rarely, so that a click is answered at once.

After every script run Streamlit collects garbage among all objects of the process. With torch there
are half a million, which takes a fifth of a second that no other visitor's thread can use. What has
lived through a full collection is therefore set aside (``gc.freeze``) until the next one.
"""

from __future__ import annotations

import atexit
import gc
import threading
import time

import streamlit as st

SECONDS = 60.0  # between two full collections
NEW_OBJECTS = 60_000  # from which one is due at once, such as behind the import of a library


class Housekeeper:
    """Sets aside what lives long, and looks through it again now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = float("-inf")
        atexit.register(gc.unfreeze)  # else libraries complain of leaks when the process ends

    def look(self) -> bool:
        """Collect and set aside if that is due; returns whether it was."""
        if not self._lock.acquire(blocking=False):
            return False  # another visitor's thread is at it
        try:
            waited = time.monotonic() - self._last
            if waited < SECONDS and len(gc.get_objects()) < NEW_OBJECTS:
                return False
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._last = time.monotonic()
            return True
        finally:
            self._lock.release()


@st.cache_resource(show_spinner=False)
def housekeeper() -> Housekeeper:
    """The one of this process."""
    return Housekeeper()
