"""Whether a program can be loaded: tried elsewhere, before it is loaded here."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any

from cnnvis_core.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 90.0  # by the clock, the start of the process included
IDLE = 120.0  # seconds after which the process is ended
# A process with threads cannot safely be copied.
ALONE = {"OMP_NUM_THREADS": "1"}
BREAKS = "The program breaks what it is run by; export a plainer network."
LATE = "The program takes too long to load; export a smaller network."


class Trials:
    """Loads programs in a process of its own; see `child`.

    The process is begun with the first trial, since its libraries take seconds to load, tries each
    program in a copy of itself, and is ended when nothing was asked of it for a while. One trial at
    a time; others wait for it.

    Parameters
    ----------
    idle : float
        Seconds after a trial until the process is ended.
    """

    def __init__(self, idle: float = IDLE) -> None:
        self._idle = idle
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._rest: Timer | None = None

    def load(self, data: bytes, told: Mapping[str, Any], seconds: float = SECONDS) -> None:
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
            As `load_program`; also if the program breaks its process or takes too long.
        """
        header = json.dumps({"size": len(data), "told": dict(told)}).encode() + b"\n"
        with self._lock:
            if self._rest is not None:
                self._rest.cancel()
            process, over = self._running(), Event()
            late = _timer(seconds, partial(_too_late, process, over))
            said = _ask(process, header, data)
            late.cancel()
            if said is None:
                self._end()
            else:
                self._rest = _timer(self._idle, self.close)
        if not said:
            raise InputError(LATE if over.is_set() else BREAKS)
        if said["error"]:
            raise InputError(said["error"])

    def close(self) -> None:
        """End the process; the next trial begins another one."""
        with self._lock:
            self._end()

    @property
    def process(self) -> int | None:
        """Number of the process, if there is one."""
        return self._process.pid if self._process is not None else None

    def __enter__(self) -> Trials:
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self._end()
            path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
            self._process = subprocess.Popen(
                [sys.executable, "-m", "cnnvis_core.programs.child"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "PYTHONPATH": path, **ALONE},
                start_new_session=True,
            )
        return self._process

    def _end(self) -> None:
        if self._process is not None:
            _kill(self._process)
            # Closes its pipes as well.
            self._process.communicate()
            self._process = None


def _ask(process: subprocess.Popen[bytes], header: bytes, data: bytes) -> dict[str, str] | None:
    """What the process answers, nothing of a program that broke its copy; None if it ended."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(header)
        process.stdin.write(data)
        process.stdin.flush()
        return dict(json.loads(process.stdout.readline()))
    except (OSError, ValueError):
        return None


def _timer(seconds: float, action: Callable[[], object]) -> Timer:
    timer = Timer(seconds, action)
    timer.daemon = True
    timer.start()
    return timer


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End a process and its copies."""
    if process.poll() is not None:
        return
    if hasattr(os, "killpg"):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()


def _too_late(process: subprocess.Popen[bytes], over: Event) -> None:
    over.set()
    _kill(process)
