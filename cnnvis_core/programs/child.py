"""Loading programs in processes of their own, which may crash, fill their memory or never end.

    python -m cnnvis_core.programs.child

reads a line of JSON with the size of a file and the arguments of `load_program`, then the file, and
writes a line of JSON, until its input ends. `Trials` begins it and asks.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnvis_core.errors import InputError
from cnnvis_core.programs.opening import load_program

CPU_SECONDS = 60
ROOM = 4 << 30  # bytes beyond the libraries, and what the file asks for


def _bound(size: int) -> None:
    """Take away what a program could use against others, where the system can."""
    try:
        import resource
    except ImportError:  # another system than Unix
        return
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        held = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
    except (OSError, StopIteration, ValueError, IndexError):
        return
    most = held + ROOM + 8 * size
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _load(told: Mapping[str, Any], data: bytes) -> str:
    """Load a program; returns what is wrong with it, or nothing."""
    _bound(len(data))
    try:
        load_program(data, **told, device="cpu")
    except InputError as refusal:
        return str(refusal)
    except MemoryError:
        return "The program needs more memory than there is for it; export a smaller network."
    return ""


def _elsewhere(told: Mapping[str, Any], data: bytes) -> dict[str, str]:
    """Load a program in a copy of this process; nothing is told of one that broke its copy."""
    reading, writing = os.pipe()
    copy = os.fork()
    if copy == 0:
        # Whatever happens, the copy does not come back from here.
        try:
            with os.fdopen(writing, "w") as pipe:
                json.dump({"error": _load(told, data)}, pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(copy, 0)
    return dict(json.loads(said)) if said else {}


def main() -> None:
    """Answer until the input ends; where a process cannot be copied, once."""
    forks = hasattr(os, "fork")
    while header := sys.stdin.buffer.readline():
        asked = json.loads(header)
        data = sys.stdin.buffer.read(asked["size"])
        said = _elsewhere(asked["told"], data) if forks else {"error": _load(asked["told"], data)}
        print(json.dumps(said), flush=True)
        if not forks:
            return


if __name__ == "__main__":
    main()
