"""One line a job in the server's log, without anything of the visitor's."""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, TypeVar

import streamlit as st

from cnnvis_core.jobs import Job, Progress

Preview = TypeVar("Preview")

NAME = "cnnvis.jobs"


@lru_cache(maxsize=1)
def _logger() -> logging.Logger:
    """The log of jobs; on standard error unless somebody has set it up otherwise."""
    logger = logging.getLogger(NAME)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
    logger.setLevel(logging.INFO)
    return logger


class Note:
    """What is known of a job by now."""

    def __init__(self) -> None:
        self.done = False
        self.computed = self.waited = 0.0

    def counted(
        self, steps: Iterator[Progress[Preview]], job: Job[Any, Preview]
    ) -> Iterator[Progress[Preview]]:
        """The steps of a job; what they take beyond its own computation was waiting."""
        spent = 0.0
        while True:
            began = time.monotonic()
            try:
                progress = next(steps)
            except StopIteration:
                return
            finally:
                spent += time.monotonic() - began
                self.computed = job.seconds
                self.waited = max(0.0, spent - self.computed)
            yield progress


@contextmanager
def logged(kind: str) -> Iterator[Note]:
    """Write a line when the block ends, however it ends.

    The line is JSON: ``kind``, ``model`` (an id of the catalogue, or "own" for a visitor's
    weights), ``seconds`` of computation, ``waited`` for others, ``outcome`` ("done", "cancelled" or
    "error") and ``error``, the kind of an error.
    """
    note, error = Note(), ""
    # Looked up now: in a script that is stopped no state can be read any more.
    model = st.session_state.get("_model", "")
    try:
        yield note
    except Exception as problem:  # what Streamlit stops a script with is none
        error = type(problem).__name__
        raise
    finally:
        outcome = "error" if error else "done" if note.done else "cancelled"
        line = {
            "kind": kind,
            "model": model,
            "seconds": round(note.computed, 3),
            "waited": round(note.waited, 3),
            "outcome": outcome,
            **({"error": error} if error else {}),
        }
        _logger().info(json.dumps(line))
