"""Jobs on a page take turns, and leave a line in the log."""

from __future__ import annotations

import json
import logging

import pytest
from streamlit.testing.v1 import AppTest

from cnnvis_core.turns import Place
from cnnvis_core.ui import jobs


def three_steps() -> None:
    import streamlit as st

    from cnnvis_core.errors import InputError
    from cnnvis_core.jobs import Job, Step
    from cnnvis_core.ui import jobs

    kind = st.query_params.get("kind", "done")

    def steps():
        for number in range(3):
            yield Step(number + 1, 3, number)
            if kind == "broken":
                raise InputError("This cannot be computed.")
            if kind == "stopped":
                st.stop()
        return "the result"

    held = []
    if kind == "busy":
        room = jobs.workplace().turns
        held = [room.run(Job(steps()), str(n)) for n in range(room._most)]
        for other in held:
            next(other)
    try:
        outcome = jobs.run_job(("three", kind), lambda: Job(steps()), "Counting to three")
        st.write(outcome.value, outcome.complete)
    except InputError as error:
        st.error(str(error))
    finally:
        for other in held:
            other.close()


@pytest.fixture
def lines():
    """Lines of the log, as they come."""
    found: list[dict[str, object]] = []

    class Keep(logging.Handler):
        def emit(self, record):
            found.append(json.loads(record.getMessage()))

    logger, handler = logging.getLogger("cnnvis.jobs"), Keep()
    logger.addHandler(handler)
    yield found
    logger.removeHandler(handler)


@pytest.mark.parametrize(
    ("kind", "outcome", "error"),
    [
        ("done", "done", None),
        ("broken", "error", "InputError"),
        ("stopped", "cancelled", None),
        ("busy", "error", "BusyError"),
    ],
)
def test_every_end_of_a_job_leaves_one_line_and_no_seat(lines, kind, outcome, error):
    app = AppTest.from_function(three_steps, default_timeout=60)
    app.query_params["kind"] = kind
    app.run()
    assert not app.exception
    (line,) = lines
    assert (line["kind"], line["outcome"], line.get("error")) == (
        "Counting to three", outcome, error,
    )  # fmt: skip
    assert line["seconds"] >= 0
    assert line["waited"] >= 0
    assert jobs.workplace().turns.jobs == 0
    if kind == "busy":
        assert "try again" in app.warning[0].value
        assert any(button.label == "Try again" for button in app.button)
    if kind == "broken":
        assert "cannot be computed" in app.error[0].value


@pytest.mark.parametrize(
    ("place", "words"),
    [
        (Place(1, 1), "after what you asked for before"),
        (Place(1, 2), "in turn with another visitor's work: next"),
        (Place(1, 2, 3.4), "in turn with another visitor's work: next, about 3 s"),
        (Place(4, 6, 12.0), "in turn with 5 visitors' work: 4 before you, about 12 s"),
    ],
)
def test_a_place_among_others_is_said(place, words):
    assert jobs.in_turn(place) == words
