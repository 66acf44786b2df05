"""How much memory is free."""

from __future__ import annotations

from pathlib import Path

import torch

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
