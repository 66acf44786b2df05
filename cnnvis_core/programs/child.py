"""Trying a program in a process of its own, which may crash, fill its memory or never end.

    python -m cnnvis_core.programs.child

reads a line of JSON with the arguments of `load_program`, then the file, and writes a line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnvis_core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 90  # by the clock, waiting for others included
CPU_SECONDS = 60
ROOM = 4 << 30  # bytes beyond the libraries, and what the file asks for
BREAKS = "The program breaks what it is run by; export a plainer network."


def try_program(data: bytes, told: Mapping[str, Any], seconds: float = SECONDS) -> None:
    """Load a program elsewhere, to see whether it can be loaded here.

    Parameters
    ----------
    data : bytes
        Content of the file.
    told : mapping
        Arguments of `load_program`, such as JSON can hold.
    seconds : float
        How long it may take.

    Raises
    ------
    InputError
        As `load_program`; also if the program ends its process or takes too long.
    """
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            [sys.executable, "-m", "cnnvis_core.programs.child"],
            input=json.dumps(dict(told)).encode() + b"\n" + data,
            capture_output=True,
            timeout=seconds,
            check=False,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        )
    except subprocess.TimeoutExpired as error:
        raise InputError("The program takes too long to load; export a smaller network.") from error
    try:
        said = json.loads(done.stdout.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise InputError(BREAKS) from error
    if said["error"]:
        raise InputError(str(said["error"]))


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


def main() -> None:
    """Load the program of the standard input, and say how that went."""
    from cnnvis_core.programs.opening import load_program

    told = json.loads(sys.stdin.buffer.readline())
    data = sys.stdin.buffer.read()
    _bound(len(data))
    error = ""
    try:
        load_program(data, **told, device="cpu")
    except InputError as refusal:
        error = str(refusal)
    except MemoryError:
        error = "The program needs more memory than there is for it; export a smaller network."
    print(json.dumps({"error": error}))


if __name__ == "__main__":
    main()
