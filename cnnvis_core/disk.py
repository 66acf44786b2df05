"""Writing to disk so that a crash, or another run, spoils nothing."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cnnvis_core.errors import InputError

_UNFINISHED = re.compile(r"\..+\.\d+\.unfinished")
LOCK = ".lock"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out of a folder; the system lets go of it when a process dies.

    Raises
    ------
    InputError
        If another run is at work there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder.name!r} cannot be made; choose another.") from error
    with (folder / LOCK).open("a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            raise InputError(
                f"Another run is writing to {folder.name!r}; wait for it or choose another folder."
            ) from error
        for left in folder.glob(".*"):
            if _UNFINISHED.fullmatch(left.name) and left.is_file():
                left.unlink(missing_ok=True)  # by a run that was broken off while it wrote
        yield


def _lock(file: Any) -> None:
    try:
        import fcntl
    except ImportError:  # not a system of the Unix kind
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        return
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def write(path: Path, data: bytes) -> None:
    """Replace a file in one step: a reader, or a crash, finds the old one or the new one whole."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}.unfinished")
    with fresh.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    if os.name == "posix":  # the folder's entry is on the disk as well
        entry = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(entry)
        finally:
            os.close(entry)
