"""Zips that torch writes, in which files stand as they are, opened without trusting them."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass

from cnnvis_core.errors import InputError

MAX_ENTRIES = 100_000
END_OF_ZIP = b"PK\x05\x06"


@dataclass(frozen=True, eq=False)
class Stored:
    """A zip whose files stand in it as they are.

    Attributes
    ----------
    sizes : dict
        Bytes of each file by its name.
    broken : str
        The sentence for one that cannot be read.
    """

    archive: zipfile.ZipFile
    sizes: dict[str, int]
    broken: str

    def read(self, name: str) -> bytes:
        """Bytes of a file.

        Raises
        ------
        InputError
            If it is damaged.
        """
        try:
            return self.archive.read(name)
        except (zipfile.BadZipFile, NotImplementedError, OSError, EOFError, RuntimeError) as error:
            raise InputError(self.broken) from error


def stored_zip(data: bytes, what: str, advice: str) -> Stored:
    """A zip of torch's, which compresses nothing; its directory is checked, no file is read yet.

    Parameters
    ----------
    data : bytes
        Content of the zip.
    what : str
        What the file is, for people.
    advice : str
        What to do about one that cannot be taken.

    Raises
    ------
    InputError
        If it is damaged, compressed or encrypted, or claims more bytes than it has.
    """
    broken = f"The {what} is incomplete or damaged; {advice}"
    # Without a comment at the end there is one directory only, the same for every reader.
    if data[-22:-18] != END_OF_ZIP or data[-2:] != b"\0\0":
        raise InputError(broken)
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
        entries = archive.infolist()
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InputError(broken) from error
    sizes = {entry.filename: entry.file_size for entry in entries}
    if len(entries) > MAX_ENTRIES or len(sizes) != len(entries):
        raise InputError(broken)
    if any(entry.compress_type or entry.flag_bits & 1 for entry in entries):
        raise InputError(f"The {what} is compressed or encrypted, which torch never does; {advice}")
    if sum(sizes.values()) > len(data):
        raise InputError(f"The {what} claims more numbers than it holds; {advice}")
    return Stored(archive, sizes, broken)
