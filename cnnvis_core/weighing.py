"""How many bytes a result holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import pandas as pd

LEAST = 1_000  # bytes of anything
DEEP = 6  # parts of parts


def held_bytes(item: Any, depth: int = DEEP) -> int:
    """Bytes of the arrays, tables, texts and files in a result, of its parts and of theirs.

    Networks count nothing: others hold them, too.
    """
    if item is None or depth == 0:
        return 0
    size = getattr(item, "nbytes", None)
    if isinstance(size, int):
        return size
    if isinstance(item, bytes | str):
        return len(item)
    if isinstance(item, pd.DataFrame):
        return LEAST + int(item.memory_usage(deep=True).sum())
    if isinstance(item, Mapping):
        return LEAST + sum(held_bytes(part, depth - 1) for part in item.values())
    if isinstance(item, list | tuple):
        return LEAST + sum(held_bytes(part, depth - 1) for part in item)
    if is_dataclass(item) and not hasattr(item, "module"):
        return LEAST + sum(held_bytes(getattr(item, f.name), depth - 1) for f in fields(item))
    return LEAST
