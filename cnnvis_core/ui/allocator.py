"""What was freed is given back to the system."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from typing import Any


@lru_cache(maxsize=1)
def _allocator() -> Any:
    """The C library, where it is glibc; it keeps what a job has freed unless it is asked not to."""
    try:
        library = ctypes.CDLL(None)
        return library if hasattr(library, "malloc_trim") else None
    except (OSError, TypeError):  # another system's C library
        return None


def give_back_memory() -> None:
    """Give back what is free, where the C library would keep it; takes some milliseconds."""
    library = _allocator()
    if library is not None:
        library.malloc_trim(0)
