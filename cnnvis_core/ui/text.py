"""Words that are not ours, such as names of files and classes, shown as nothing but text."""

from __future__ import annotations

import re

import streamlit as st

# What Streamlit's Markdown could take for more than text; a colon begins directives and addresses.
_MARKUP = re.compile(r"[\\`*_\[\]<>!$~|#]|:(?=\S)")
# Addresses become links even where every sign is escaped; a joiner without width parts them.
_ADDRESS = re.compile(r"(?<=:)(?=//)|(?<=www)(?=\.)|(?<=@)", re.IGNORECASE)
_JOINER = "\u2060"


def plain(words: str) -> str:
    """Words, on one line, as text that Markdown leaves alone."""
    return _MARKUP.sub(r"\\\g<0>", _ADDRESS.sub(_JOINER, " ".join(words.split())))


def draw_error(error: Exception) -> None:
    """Draw what went wrong; sentences may quote names that a visitor's file holds."""
    st.error(plain(str(error)), icon=":material/error:")
