"""Driving a job on a page: progress, time left, live preview, Cancel, and results that stay."""

from __future__ import annotations

import copy
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

import numpy as np
import streamlit as st
from numpy.typing import NDArray
from streamlit import runtime
from streamlit.delta_generator import DeltaGenerator
from streamlit.runtime.scriptrunner import get_script_run_ctx

from cnnvis_core.errors import BusyError
from cnnvis_core.jobs import Job, Progress
from cnnvis_core.limits import limits
from cnnvis_core.turns import Place
from cnnvis_core.ui.allocator import give_back_memory
from cnnvis_core.ui.logs import logged
from cnnvis_core.ui.text import plain
from cnnvis_core.ui.workplaces import shared, workplace
from cnnvis_core.weighing import held_bytes

Result = TypeVar("Result")
Preview = TypeVar("Preview")

SECONDS_BETWEEN_PREVIEWS = 0.25
SECONDS_BETWEEN_WORDS = 0.2  # a browser takes half a core to follow every step
NOTICED = 0.05  # of a bar, drawn in any case: the step behind it may take long
DRAWING_SHARE = 4  # times as long as a preview takes, the job goes on without one


@dataclass(frozen=True)
class Outcome(Generic[Result]):
    """What a page has to show.

    Attributes
    ----------
    value : object or None
        The result, or the last preview of a cancelled job; None if it had none yet.
    share : float
        How much of the job was done, 0 to 1; 1 for a result.
    """

    value: Result | None
    share: float

    @property
    def complete(self) -> bool:
        """Whether the job ran to its end."""
        return self.share >= 1


def _store() -> OrderedDict[Hashable, Outcome[object]]:
    return st.session_state.setdefault("_results", OrderedDict())


def remember(key: Hashable, outcome: Outcome[object]) -> None:
    """Keep an outcome for this visitor; the oldest ones go."""
    store, most = _store(), limits()
    store[key] = outcome
    store.move_to_end(key)
    while len(store) > 1 and (
        len(store) > most.results or sum(map(_size, store.values())) > most.results_mb * 2**20
    ):
        store.popitem(last=False)


def _size(outcome: Outcome[object]) -> int:
    return held_bytes(outcome.value)


def recall(key: Hashable) -> Outcome[object] | None:
    """What is kept under a key."""
    return _store().get(key)


def forget(key: Hashable) -> None:
    """Drop what is kept under a key, so that the job runs again."""
    _store().pop(key, None)


def mark_of(values: NDArray[Any]) -> str:
    """Tells arrays apart, such as a whole map from one that was cancelled; for keys."""
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]


def duration(seconds: float | None) -> str:
    """A remaining time in words."""
    if seconds is None:
        return "estimating the time left"
    if seconds < 1.5:
        return "about a second left"
    if seconds < 90:
        return f"about {seconds:.0f} s left"
    return f"about {seconds / 60:.0f} min left"


def in_turn(now: Place) -> str:
    """Where a job stands among others, in words."""
    if now.sharing < 2:
        return "after what you asked for before"
    others = "another visitor's" if now.sharing == 2 else f"{now.sharing - 1} visitors'"
    ahead = "next" if now.ahead < 2 else f"{now.ahead} before you"
    wait = f", about {now.seconds:.0f} s" if now.seconds >= 1 else ""
    return f"in turn with {others} work: {ahead}{wait}"


def _cancel(key: Hashable, latest: dict[str, Outcome[object]], public: bool) -> None:
    # A click may arrive when the job has just ended.
    if recall(key) is None:
        # What others go on with must not change under this visitor's eyes.
        remember(key, copy.deepcopy(latest["outcome"]) if public else latest["outcome"])


def _visitor() -> str:
    """Tells this visitor's session from all others."""
    context = get_script_run_ctx(suppress_warning=True)
    return "" if context is None else context.session_id


def _forget_old_previews() -> None:
    """Streamlit keeps every picture of a run until its end; those that were replaced may go."""
    if runtime.exists():
        runtime.get_instance().media_file_mgr.remove_orphaned_files()


def run_job(
    key: Hashable,
    start: Callable[[], Job[Result, Preview]],
    label: str,
    show: Callable[[Progress[Preview]], None] | None = None,
    public: bool = False,
) -> Outcome[Result | Preview]:
    """Run a job with a progress bar and a Cancel button, or return what it found before.

    A changed control or a click on Cancel stops the script at the next drawn element; the job is
    closed on the way out.

    Parameters
    ----------
    key : hashable
        All that the result depends on.
    start : callable
        Makes the job.
    label : str
        What is being done, for the bar.
    show : callable, optional
        Draws a preview.
    public : bool
        Whether it is about nothing of the visitor's own: it is then computed once for all who ask.
    """
    kept = recall(key)
    if kept is not None:
        if not kept.complete:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.info(f"Cancelled after {kept.share:.0%}.", icon=":material/cancel:")
                st.button("Run again", icon=":material/refresh:", on_click=forget, args=(key,))
        return kept  # type: ignore[return-value]
    frame = st.empty()
    try:
        return _run(key, start, label, show, public, frame)
    except BusyError as error:
        frame.empty()
        with st.container(horizontal=True, vertical_alignment="center"):
            st.warning(plain(str(error)), icon=":material/hourglass:")
            st.button("Try again", icon=":material/refresh:", key=f"again-{hash(key)}")
        return Outcome(None, 0.0)


class _Bar:
    """A bar that is drawn a few times a second, however often it is told how far a job has come.

    Parameters
    ----------
    text : str
        What it says until then.
    """

    def __init__(self, text: str) -> None:
        self._bar = st.progress(0.0, text=text)
        self._drawn, self._share = 0.0, 0.0

    def draw(self, share: float, words: Callable[[], str]) -> None:
        """Say how far a job has come; a script that is to stop stops here, drawn or not."""
        now = time.monotonic()
        if now - self._drawn < SECONDS_BETWEEN_WORDS and share - self._share < NOTICED:
            _heed_visitor()
            return
        self._drawn, self._share = now, share
        self._bar.progress(share, text=words())


def _heed_visitor() -> None:
    """Stop the script here if its visitor clicked or left, as Streamlit does where one draws."""
    _ = "_results" in st.session_state  # it looks whenever the state is asked for, too


def _run(
    key: Hashable,
    start: Callable[[], Job[Result, Preview]],
    label: str,
    show: Callable[[Progress[Preview]], None] | None,
    public: bool,
    frame: DeltaGenerator,
) -> Outcome[Result | Preview]:
    """See `run_job`; draws the bar into a frame."""
    # The button's callback must see how far the job has come, hence a box that both hold.
    latest: dict[str, Outcome[object]] = {"outcome": Outcome(None, 0.0)}
    with frame.container(horizontal=True, vertical_alignment="center"):
        bar = _Bar(label)
        st.button(
            "Cancel",
            icon=":material/close:",
            key=f"cancel-{hash(key)}",
            on_click=_cancel,
            args=(key, latest, public),
        )
    shown, gap = 0.0, SECONDS_BETWEEN_PREVIEWS
    # Who rides along with others takes turns where they do.
    place, visitor = workplace(key if public else None), _visitor()

    def begin() -> Job[Result, Preview]:
        """The job, where there is room for it; one that others wait for as well is theirs, too."""
        if public:
            return shared().job(key, lambda: place.begin(start))
        return place.begin(start)

    def waiting(now: Place) -> None:
        """Say who else is there; a click on Cancel stops the script here, too."""
        bar.draw(latest["outcome"].share, lambda: f"{label}, {in_turn(now)}")

    def left(progress: Progress[Preview]) -> str:
        seconds = progress.seconds_left
        if seconds is not None:  # while others are there, theirs has to be waited for as well
            seconds *= place.turns.place(visitor).sharing
        return f"{label}: {duration(seconds)}"

    with (
        logged(label) as note,
        begin() as job,
        closing(place.turns.run(job, visitor, waiting)) as steps,
    ):
        for progress in note.counted(steps, job):
            share = progress.done / max(progress.total, 1)
            latest["outcome"] = Outcome(progress.preview, min(share, 0.999))
            bar.draw(min(share, 1.0), partial(left, progress))
            now = time.monotonic()
            if show and progress.preview is not None and now - shown > gap:
                show(progress)
                _forget_old_previews()
                shown = time.monotonic()
                # The job goes before its pictures, which on a large sheet take their time.
                gap = max(SECONDS_BETWEEN_PREVIEWS, DRAWING_SHARE * (shown - now))
        outcome: Outcome[object] = Outcome(job.result, 1.0)
        note.done = True
    give_back_memory()
    remember(key, outcome)
    frame.empty()
    return outcome  # type: ignore[return-value]
