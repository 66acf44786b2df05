"""A server that tells what it holds: sessions, jobs, hooks, threads, files, memory.

    python -m benchmarks.hosting_census PORT REPORT

serves the app, and writes a census into the file REPORT whenever it gets SIGUSR1.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from streamlit.web import cli
from torch import nn

from benchmarks.hosting_clients import Server, served


def census() -> dict[str, Any]:
    """What this process holds; gc knows all of it, also what nobody should hold any more."""
    from streamlit.runtime.app_session import AppSession
    from streamlit.runtime.memory_media_file_storage import MemoryMediaFileStorage
    from streamlit.runtime.memory_uploaded_file_manager import MemoryUploadedFileManager

    from cnnvis_core.sharing import Shared
    from cnnvis_core.turns import Turns

    gc.unfreeze()  # what was set aside is not listed
    objects = gc.get_objects()

    def every(kind: type[Any]) -> list[Any]:
        # isinstance would ask what a proxy stands for, which may be gone.
        return [thing for thing in objects if issubclass(type(thing), kind)]

    uploaded = [
        file
        for manager in every(MemoryUploadedFileManager)
        for files in manager.file_storage.values()
        for file in files.values()
    ]
    media = [f for store in every(MemoryMediaFileStorage) for f in store._files_by_id.values()]
    modules, tensors = every(nn.Module), every(torch.Tensor)
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "Python threads": threading.active_count(),
        "sessions": len(every(AppSession)),
        # Without their locks, which a thread that is interrupted here might hold.
        "jobs": sum(len(turns._there) for turns in every(Turns)),
        "shared runs": sum(len(shared._rides) for shared in every(Shared)),
        "hooks": sum(len(getattr(m, kind)) for m in modules for kind in kinds),
        "gradients": sum(p.grad is not None for m in modules for p in m.parameters(False)),
        "modules": len(modules),
        "tensors": len(tensors),
        "megabytes of tensors": megabytes(t.nbytes for t in tensors),
        "megabytes of shared results": megabytes(s._size() for s in every(Shared)),
        "uploaded files": len(uploaded),
        "media files": len(media),
        "megabytes of media": megabytes(len(file.content) for file in media),
        "objects": len(objects),
        "thread names": dict(Counter(t.name.rstrip("0123456789-") for t in threading.enumerate())),
        "types": dict(Counter(f"{type(o).__module__}.{type(o).__qualname__}" for o in objects)),
    }


def megabytes(sizes: Iterable[int]) -> float:
    """Bytes in millions."""
    return round(sum(sizes) / 1e6, 1)


@contextlib.contextmanager
def watched(folder: Path, ttl: int) -> Iterator[tuple[Server, Callable[[], dict[str, Any]]]]:
    """A fresh server, and a function that tells what it holds.

    Parameters
    ----------
    folder : Path
        For its log and its reports.
    ttl : int
        Seconds for which a closed tab's session is kept.
    """
    report = folder / "census.json"
    here = (sys.executable, "-m", "benchmarks.hosting_census")
    environment = {"STREAMLIT_SERVER_DISCONNECTED_SESSION_TTL": str(ttl)}
    with served(folder, lambda port: (*here, str(port), str(report)), environment) as server:
        yield server, partial(held, server.process, report)


def held(process: int, report: Path) -> dict[str, Any]:
    """What a server holds now, by `census` and by the system's own figures."""
    system = Path(f"/proc/{process}")
    found: dict[str, Any] = {
        "resident megabytes": round(resident(process), 1),
        "threads": len(list((system / "task").iterdir())),
        "open files": len(list((system / "fd").iterdir())),
        "processes begun": len(begun_by(process)),
    }
    report.unlink(missing_ok=True)
    os.kill(process, signal.SIGUSR1)
    for _ in range(600):
        if report.exists():
            return found | json.loads(report.read_text())
        time.sleep(0.1)
    raise RuntimeError("the server did not report")


def begun_by(process: int) -> list[int]:
    """Processes that a process has begun and that are there."""
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with contextlib.suppress(OSError):
            if f"PPid:\t{process}\n" in status.read_text():
                found.append(int(status.parent.name))
    return found


def resident(process: int) -> float:
    """Resident memory of a process, in megabytes of a million bytes."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmRSS"))


def main() -> None:
    """Serve the app; on SIGUSR1 a census is written into a file."""
    port, report = sys.argv[1], Path(sys.argv[2])

    def write(*_: object) -> None:
        # No other thread may go on while objects are held that it is about to fill.
        interval = sys.getswitchinterval()
        sys.setswitchinterval(3600)
        found = census()
        sys.setswitchinterval(interval)
        part = report.with_suffix(".part")
        part.write_text(json.dumps(found))
        part.replace(report)

    signal.signal(signal.SIGUSR1, write)
    sys.argv = ["streamlit", "run", "app.py", f"--server.port={port}", "--server.address=localhost"]
    cli.main()


if __name__ == "__main__":
    main()
