"""One line that tells what a result holds, where its numbers would fill a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

import numpy as np
import pandas as pd
import torch

MOST = 4  # plain things that are shown one by one
LONGEST = 60  # characters of a text or a list
DEEP = 2  # parts of parts


class Brief:
    """A dataclass, made with ``repr=False``, whose repr is one line.

    Of an array or a table it tells the shape, of what holds many things how many.
    """

    def __repr__(self) -> str:
        shown = (f for f in fields(cast("Any", self)) if f.repr and not f.name.startswith("_"))
        parts = (f"{f.name}={brief(getattr(self, f.name))}" for f in shown)
        return f"{type(self).__name__}({', '.join(parts)})"


def brief(item: object, depth: int = DEEP) -> str:
    """A few words for anything, in one line; parts of parts are counted."""
    if isinstance(item, Brief):
        return repr(item)
    if isinstance(item, np.ndarray | torch.Tensor):
        return f"<{str(item.dtype).removeprefix('torch.')} {tuple(item.shape)}>"
    if isinstance(item, pd.DataFrame):
        return f"<table {item.shape}>"
    if isinstance(item, np.generic):
        return brief(item.item())
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, bool | int | None):
        return repr(item)
    if isinstance(item, str):
        return repr(item if len(item) <= LONGEST else item[: LONGEST - 1] + "…")
    if isinstance(item, Mapping | list | tuple):
        return _parts(item, depth)
    return f"<{type(item).__name__}>"


def _parts(item: Mapping[Any, Any] | list[Any] | tuple[Any, ...], depth: int) -> str:
    """What a container holds, or how many things."""
    if not item:
        return repr(item)
    if isinstance(item, Mapping):
        short = f"<dict of {len(item)}: {brief(next(iter(item)), depth - 1)}, …>"
    else:
        short = f"<{type(item).__name__} of {len(item)}>"
    if len(item) > MOST or depth == 0:
        return short
    if isinstance(item, Mapping):
        parts = [f"{brief(key)}: {brief(part, depth - 1)}" for key, part in item.items()]
        text = f"{{{', '.join(parts)}}}"
    elif isinstance(item, list):
        text = f"[{', '.join(brief(part, depth - 1) for part in item)}]"
    else:
        text = f"({', '.join(brief(part, depth - 1) for part in item)}{',' * (len(item) == 1)})"
    return text if len(text) <= LONGEST else short
