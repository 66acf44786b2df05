"""What both training scripts share: where data and checkpoints live, the log, averaged weights."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("CNNVIS_DATA", ROOT.parent / "shared" / "data"))
RUNS = Path(os.environ.get("CNNVIS_RUNS", ROOT / "training" / "runs"))
LOGS = ROOT / "training" / "logs"


def append_row(path: Path, row: dict[str, Any]) -> None:
    """Append one row to a CSV file, with a header if the file is new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if new:
            writer.writeheader()
        writer.writerow(row)


def save_atomically(state: Any, path: Path) -> None:
    """Write a checkpoint so that a crash leaves either the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    torch.save(state, part)
    part.replace(path)


@torch.no_grad()
def update_average(average: nn.Module, model: nn.Module, decay: float) -> None:
    """Move the averaged weights towards the model's; counters are copied."""
    pairs: Iterable[tuple[torch.Tensor, torch.Tensor]] = zip(
        average.state_dict().values(), model.state_dict().values(), strict=True
    )
    for kept, new in pairs:
        if kept.is_floating_point():
            kept.lerp_(new.to(kept.dtype), 1 - decay)
        else:
            kept.copy_(new)
