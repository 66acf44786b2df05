"""Garbage is collected rarely, so that a click is answered at once.

After every script run Streamlit collects garbage among all objects of the process. With torch there
are half a million, which takes a fifth of a second that no other visitor's thread can use. What has
lived through a full collection is therefore set aside (``gc.freeze``) until the next one.

How much is new is told by the allocator: whoever lists the objects (``gc.get_objects``) holds them
for a moment, also a tuple that another thread is about to fill, which CPython then gives up with a
SystemError (https://github.com/python/cpython/issues/39117).
"""

from __future__ import annotations

import atexit
import gc
import sys
import threading
import time

import streamlit as st

SECONDS = 60.0  # between two full collections
NEW_BLOCKS = 220_000  # of memory, some 60,000 objects, such as a library's: one is due at once


class Housekeeper:
    """Sets aside what lives long, and looks through it again now and then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last = float("-inf")
        self._blocks = 0
        atexit.register(gc.unfreeze)  # else libraries complain of leaks when the process ends

    def look(self) -> bool:
        """Collect and set aside if that is due; returns whether it was."""
        if not self._lock.acquire(blocking=False):
            return False  # another visitor's thread is at it
        try:
            waited = time.monotonic() - self._last
            if waited < SECONDS and sys.getallocatedblocks() - self._blocks < NEW_BLOCKS:
                return False
            gc.unfreeze()
            gc.collect()
            gc.freeze()
            self._last, self._blocks = time.monotonic(), sys.getallocatedblocks()
            return True
        finally:
            self._lock.release()


@st.cache_resource(show_spinner=False)
def housekeeper() -> Housekeeper:
    """The one of this process."""
    return Housekeeper()
