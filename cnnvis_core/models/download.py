"""Weight files from the network: verified, cancellable, nothing left behind when it fails."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import re
import shutil
import socket
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from cnnvis_core.errors import ModelError

ProgressCallback = Callable[[int, int], None]

HASH_IN_NAME = re.compile(r"-([0-9a-f]{8,64})\.[^.]*$")  # torch.hub's convention, SHA-256
CHUNK = 1 << 18
STALE_SECONDS = 24 * 3600.0


@dataclass(frozen=True)
class Patience:
    """How long a server is waited for.

    Attributes
    ----------
    silence : float
        Seconds without a single byte, while connecting or receiving, before giving up.
    window : float
        Seconds over which the rate is measured.
    slowest : float
        Bytes a second; a window below this rate ends the download.
    """

    silence: float = 20.0
    window: float = 30.0
    slowest: float = 4096.0


@dataclass(frozen=True)
class WeightFile:
    """A file of weights on the network, and its place in torch's usual cache.

    Attributes
    ----------
    url : str
        Where it comes from; the last part is the file's name.
    size : int
        Expected bytes, for the progress where the server does not say; 0 for unknown.
    """

    url: str
    size: int = 0

    @property
    def name(self) -> str:
        """File name."""
        return Path(urlsplit(self.url).path).name

    @property
    def digest(self) -> str:
        """First hexadecimal digits of the SHA-256 sum that the name carries; may be empty."""
        found = HASH_IN_NAME.search(self.name)
        return found[1] if found else ""

    @property
    def path(self) -> Path:
        """Place in the cache that ``TORCH_HOME`` governs, whether or not it is there."""
        import torch

        return Path(torch.hub.get_dir()) / "checkpoints" / self.name

    @property
    def is_here(self) -> bool:
        """Whether a file of about the expected size is in the cache; its content is not read."""
        try:
            found = self.path.stat().st_size
        except OSError:
            return False
        return found > 0 and (not self.size or abs(found - self.size) <= 0.02 * self.size)


def fetch(
    file: WeightFile, progress: ProgressCallback | None = None, patience: Patience | None = None
) -> Path:
    """Path of a verified weight file, downloaded first where the cache has none or a broken one.

    Parameters
    ----------
    file : WeightFile
        What to fetch.
    progress : callable, optional
        Called with (bytes so far, bytes in all). Whatever it raises ends the download and passes
        on; the incomplete file is removed.
    patience : Patience, optional
        When to give up on a server.

    Raises
    ------
    ModelError
        If the server cannot be reached, refuses, is too slow or cuts off, if it sends other bytes
        than the name's hash, or if the file cannot be saved.
    """
    path = file.path
    if path.is_file() and path.stat().st_size and has_digest(path, file.digest):
        return path
    return download(file, progress, patience)


def download(
    file: WeightFile, progress: ProgressCallback | None = None, patience: Patience | None = None
) -> Path:
    """As `fetch`, whatever the cache holds."""
    patience = patience or Patience()
    path = file.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path)
        # A name of its own lets two processes download at once; the last rename wins.
        handle, partial = tempfile.mkstemp(".partial", f"{path.name}.", path.parent)
    except OSError as error:
        raise unsaved(file, error) from error
    try:
        with os.fdopen(handle, "wb") as target:
            found = receive(file, target.write, progress or ignore, patience)
            try:
                target.flush()
                os.fsync(target.fileno())
            except OSError as error:
                raise unsaved(file, error) from error
        if not found.startswith(file.digest):
            raise ModelError(
                f"The server sent other bytes for {file.name} than its name promises; try again, "
                "and check whether a proxy or a login page answers in its place."
            )
        try:
            os.chmod(partial, 0o644)
            os.replace(partial, path)
        except OSError as error:
            raise unsaved(file, error) from error
    finally:
        with contextlib.suppress(OSError):
            os.unlink(partial)
    return path


def receive(
    file: WeightFile,
    write: Callable[[bytes], int],
    progress: ProgressCallback,
    patience: Patience,
) -> str:
    """Stream the file into ``write`` and return its SHA-256 sum in hexadecimal digits."""
    request = urllib.request.Request(file.url, headers={"User-Agent": "cnnvis"})
    digest = hashlib.sha256()
    try:
        with urllib.request.urlopen(request, timeout=patience.silence) as answer:
            length = int(answer.headers.get("Content-Length") or 0)
            check_room(file, length or file.size)
            done, total = 0, length or file.size
            progress(0, total)
            mark, mark_done = time.monotonic(), 0
            while chunk := answer.read1(CHUNK):
                try:
                    write(chunk)
                except OSError as error:
                    raise unsaved(file, error) from error
                digest.update(chunk)
                done += len(chunk)
                progress(done, max(done, total))
                now = time.monotonic()
                if now - mark >= patience.window:
                    if done - mark_done < patience.slowest * (now - mark):
                        raise TimeoutError
                    mark, mark_done = now, done
    except urllib.error.HTTPError as error:
        with error:
            raise ModelError(
                f"The server refused {file.name} (HTTP {error.code}); try again later or choose "
                "another model."
            ) from error
    except TimeoutError as error:
        raise too_slow(file) from error
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            raise too_slow(file) from error
        raise unreachable(file) from error
    except (http.client.HTTPException, ValueError) as error:
        raise cut_off(file) from error
    except (ConnectionError, socket.gaierror) as error:
        raise cut_off(file) from error
    except OSError as error:
        raise unreachable(file) from error
    if not done or (length and done < length):
        raise cut_off(file)
    return digest.hexdigest()


def has_digest(path: Path, digest: str) -> bool:
    """Whether the file's SHA-256 sum begins with these digits; always where there are none."""
    if not digest:
        return True
    try:
        with path.open("rb") as source:
            return hashlib.file_digest(source, "sha256").hexdigest().startswith(digest)
    except OSError:
        return False


def check_room(file: WeightFile, needed: int) -> None:
    """Refuse before the first byte where the disk has no room for the file.

    Raises
    ------
    ModelError
        If fewer than ``needed`` bytes are free.
    """
    free = shutil.disk_usage(file.path.parent).free
    if free < needed:
        raise ModelError(
            f"{file.name} needs {needed / 1e6:.0f} MB and the disk has {free / 1e6:.0f} MB left; "
            "free some space."
        )


def remove_stale(path: Path) -> None:
    """Remove what a killed process left of this file more than a day ago."""
    for left in path.parent.glob(f"{path.name}.*.partial"):
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()


def ignore(done: int, total: int) -> None:
    """Progress that nobody looks at."""


def too_slow(file: WeightFile) -> ModelError:
    """Say that the server does not answer in time."""
    return ModelError(
        f"The server is too slow to send {file.name}; try again later or choose an embedded model."
    )


def unreachable(file: WeightFile) -> ModelError:
    """Say that there is no connection."""
    return ModelError(
        f"There is no connection to download {file.name}; go online or choose a model that is "
        "available offline."
    )


def cut_off(file: WeightFile) -> ModelError:
    """Say that fewer bytes came than were announced."""
    return ModelError(f"The connection broke while {file.name} was downloaded; try again.")


def unsaved(file: WeightFile, error: OSError) -> ModelError:
    """Say that the disk is full or not writable."""
    reason = error.strerror or "unknown reason"
    return ModelError(
        f"{file.name} could not be saved ({reason}); free some space or set TORCH_HOME to a "
        "folder that can be written."
    )
