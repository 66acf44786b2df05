"""Loading programs in processes of their own, which may crash, fill their memory or never end.

    python -m cnnvis_core.programs.child

reads a line of JSON with the size of a file, the arguments of `load_program` and the seconds that
there are, then the file, and writes a line of JSON with what is wrong with it, until its input
ends. `Trials` begins it and asks.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cnnvis_core.errors import InputError
from cnnvis_core.programs.opening import load_program

# Elsewhere a process that has loaded its libraries cannot safely be copied, or not at all.
FORKS = sys.platform == "linux"
CPU_SECONDS = 60
ROOM = 4 << 30  # bytes beyond the libraries, and what the file asks for
BREAKS = "The program breaks what it is run by; export a plainer network."
LATE = "The program takes too long to load; export a smaller network."


def _bound(size: int, seconds: float) -> None:
    """Take away what a program could use against others, where the system can."""
    try:
        import resource
    except ImportError:  # another system than Unix
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        held = next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmData"))
    except (OSError, StopIteration, ValueError, IndexError):
        return
    most = held + ROOM + 8 * size
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def _load(asked: Mapping[str, Any], data: bytes) -> str:
    """Load a program; returns what is wrong with it, or nothing."""
    _bound(len(data), asked["seconds"])
    try:
        load_program(data, **asked["told"], device="cpu")
    except InputError as refusal:
        return str(refusal)
    except MemoryError:
        return "The program needs more memory than there is for it; export a smaller network."
    return ""


def _load_in_a_copy(asked: Mapping[str, Any], data: bytes) -> str:
    """As `_load`, in a copy of this process."""
    reading, writing = os.pipe()
    copy = os.fork()
    if copy == 0:
        # Whatever happens, the copy does not come back from here.
        try:
            _cut_off()
            with os.fdopen(writing, "w") as pipe:
                json.dump(_load(asked, data), pipe)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(copy, 0)
    late = os.WIFSIGNALED(status) and os.WTERMSIG(status) in (signal.SIGALRM, signal.SIGXCPU)
    return str(json.loads(said)) if said else LATE if late else BREAKS


def _cut_off() -> None:
    """Let a copy neither read what is for others nor answer for them; of all, it goes first."""
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _answer(header: bytes) -> dict[str, Any]:
    """Read a file and tell how its loading went; nothing of it is kept."""
    asked = json.loads(header)
    data = sys.stdin.buffer.read(asked["size"])
    said = (_load_in_a_copy if FORKS else _load)(asked, data)
    return {"number": asked["number"], "error": said}


def main() -> None:
    """Answer until the input ends; where a process cannot be copied, once."""
    while header := sys.stdin.buffer.readline():
        print(json.dumps(_answer(header)), flush=True)
        if not FORKS:
            return


if __name__ == "__main__":
    main()
