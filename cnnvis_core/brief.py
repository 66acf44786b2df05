"""One line that tells what a result holds, where its numbers would fill a page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

import numpy as np
import pandas as pd
import torch
from torch import nn

MOST = 4  # plain things that are shown one by one
LONGEST = 60  # characters of a text or a list


class Brief:
    """A dataclass, made with ``repr=False``, whose repr is one line.

    Of an array or a table it tells the shape, of what holds many things how many.
    """

    def __repr__(self) -> str:
        shown = (f for f in fields(cast("Any", self)) if f.repr and not f.name.startswith("_"))
        parts = (f"{f.name}={brief(getattr(self, f.name))}" for f in shown)
        return f"{type(self).__name__}({', '.join(parts)})"


def brief(item: object) -> str:
    """A few words for anything."""
    if isinstance(item, Brief):
        return repr(item)
    if isinstance(item, np.ndarray | torch.Tensor):
        return f"<{str(item.dtype).removeprefix('torch.')} {tuple(item.shape)}>"
    if isinstance(item, pd.DataFrame):
        return f"<table {item.shape}>"
    if isinstance(item, float):
        return f"{item:.6g}"
    if isinstance(item, bool | int | None):
        return repr(item)
    if isinstance(item, str):
        return repr(item if len(item) <= LONGEST else item[: LONGEST - 1] + "…")
    if isinstance(item, Mapping):
        parts = [f"{key!r}: {brief(part)}" for key, part in list(item.items())[:MOST]]
        text = f"{{{', '.join(parts)}}}"
        short = f"<dict of {len(item)}: {next(iter(item))!r}, …>" if item else "{}"
    elif isinstance(item, list | tuple):
        text = f"({', '.join(brief(part) for part in item[:MOST])}{',' * (len(item) == 1)})"
        short = f"<{type(item).__name__} of {len(item)}>"
    else:
        text = "" if isinstance(item, nn.Module) else repr(item)
        return text if 0 < len(text) <= LONGEST else f"<{type(item).__name__}>"
    return text if len(item) <= MOST and len(text) <= LONGEST else short
