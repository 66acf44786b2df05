"""Files that visitors send, each kind with a limit of its own."""

from __future__ import annotations

from typing import Any

import streamlit as st
from starlette.formparsers import MultiPartParser
from streamlit.typing import UploadedFile

from cnnvis_core.errors import InputError


def keep_uploads_in_memory() -> None:
    """See to it that no upload touches the disk, not even while it arrives.

    Starlette, on which Streamlit's server is built, puts what is over a megabyte into a temporary
    file.
    """
    MultiPartParser.spool_max_size = (st.get_option("server.maxUploadSize") + 1) * 2**20


def limit_mb(most: int) -> int:
    """``most``, or what the server takes where that is less."""
    return min(most, st.get_option("server.maxUploadSize"))


def upload_box(label: str, most: int, **options: Any) -> UploadedFile | None:
    """Draw a box for one file of up to ``most`` megabytes; pass it on to `content`."""
    return st.file_uploader(label, max_upload_size=limit_mb(most), **options)


def content(file: UploadedFile, most: int, advice: str) -> bytes:
    """Bytes of a file that a visitor sent.

    The browser alone knows the limit of a single box, and only the server's is sure to hold, so
    the size is looked at once more.

    Parameters
    ----------
    file : UploadedFile
        From a box, the camera or the microphone.
    most : int
        Megabytes that this kind of file may have.
    advice : str
        What to do about a larger one.

    Raises
    ------
    InputError
        If the file is larger.
    """
    if file.size > limit_mb(most) * 2**20:
        raise InputError(
            f"The file has {file.size / 2**20:.0f} MB, and at most {limit_mb(most)} MB can be "
            f"taken; {advice}."
        )
    return file.getvalue()
