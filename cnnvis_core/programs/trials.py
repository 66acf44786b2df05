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
from threading import Lock, Timer
from typing import Any

from cnnvis_core.errors import InputError, LostError
from cnnvis_core.programs.child import BREAKS, FORKS

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 90.0  # by the clock, waiting for others not included
START = 60.0  # seconds that the process has for its libraries and the file
IDLE = 120.0  # seconds after which the process is ended
# A process with threads cannot safely be copied.
ALONE = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


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
        self._number = 0

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
        LostError
            If the process is ended from without, twice.
        """
        asked = {"size": len(data), "seconds": seconds, "told": dict(told)}
        with self._lock:
            said = self._tried(asked, data)
            if said is None and FORKS:  # no copy can do that; somebody ended the process
                said = self._tried(asked, data)
        if said is None and FORKS:
            raise LostError("The program could not be tried; try again in a minute.")
        if said is None:
            raise InputError(BREAKS)
        if said:
            raise InputError(said)

    def close(self) -> None:
        """End the process; the next trial begins another one."""
        with self._lock:
            self._end()

    @property
    def process(self) -> int | None:
        """Number of the process, if there is one."""
        process = self._process
        return None if process is None else process.pid

    def __enter__(self) -> Trials:
        """Close it at the end of the block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()

    def _tried(self, asked: dict[str, Any], data: bytes) -> str | None:
        """What is wrong with a program, or nothing; None if the process ended."""
        if self._rest is not None:
            self._rest.cancel()
        self._number += 1
        process = self._running()
        late = _timer(asked["seconds"] + START, partial(_kill, process))
        said = None
        try:
            said = _ask(process, asked | {"number": self._number}, data)
        finally:
            late.cancel()
            late.join()
            if said is None or not FORKS:
                self._end()
            else:
                self._rest = _timer(self._idle, partial(self._end_after, self._number))
        return said

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

    def _end_after(self, number: int) -> None:
        """End the process if this was its last trial."""
        with self._lock:
            if self._number == number:
                self._end()


def _ask(process: subprocess.Popen[bytes], asked: Mapping[str, Any], data: bytes) -> str | None:
    """What is wrong with a program, or nothing; None if the process does not answer."""
    if process.stdin is None or process.stdout is None:
        return None
    try:
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        process.stdin.write(data)
        process.stdin.flush()
        while line := process.stdout.readline():
            # A library may have said something before.
            with contextlib.suppress(ValueError):
                said = json.loads(line)
                if isinstance(said, dict) and said.get("number") == asked["number"]:
                    return str(said["error"])
    except OSError:
        pass
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
