"""How much memory is free, and what to do when there is too little."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import torch

Made = TypeVar("Made")

ASSUMED_FREE = 2 * 2**30  # where the system does not tell


def free_bytes(device: torch.device) -> int:
    """Bytes that can still be had on a device."""
    if device.type == "cuda":
        # What torch holds ready for itself can be had, too.
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + held
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(line for line in lines if line.startswith("MemAvailable"))
        return int(available.split()[1]) * 1024
    except (OSError, StopIteration, ValueError, IndexError):
        return ASSUMED_FREE


def in_halves(
    compute: Callable[[torch.Tensor], Made], x: torch.Tensor, join: Callable[[list[Made]], Made]
) -> Made:
    """What a computation makes of a batch, in smaller ones where the memory does not suffice.

    Parameters
    ----------
    compute : callable
        Looks at each input of a batch (N, ...) by itself.
    x : Tensor (N, ...)
        The batch.
    join : callable
        Puts together what was made of its parts.

    Raises
    ------
    torch.OutOfMemoryError
        If a single input is too large, or a gradient is to be taken: that needs all parts at once.
    """
    try:
        return compute(x)
    except torch.OutOfMemoryError:
        if len(x) < 2 or torch.is_grad_enabled():
            raise
    forget_spare(x.device)
    middle = len(x) // 2
    return join([in_halves(compute, part, join) for part in (x[:middle], x[middle:])])


def forget_spare(device: torch.device) -> None:
    """Give back what torch holds ready; in pieces it may be of no use for a smaller batch."""
    if device.type == "cuda":
        torch.cuda.empty_cache()
