"""What is nobody's own is computed once for all visitors; what is a visitor's is never shared."""

from __future__ import annotations

import pytest
from streamlit.testing.v1 import AppTest

from cnnvis_core.ui.maximization_controls import DREAM, LIKENESS
from cnnvis_core.ui.workplaces import shared
from tests.pages.test_pages import open_page, picture_file
from tests.programs.nets import exported, network

STARTED: list[str] = []


def counted() -> None:
    import streamlit as st

    from cnnvis_core.jobs import Job, Step
    from cnnvis_core.ui import jobs
    from tests.ui.test_computed_once import STARTED

    public = st.query_params["public"] == "yes"

    def start():
        STARTED.append("started")

        def steps():
            yield Step(1, 1)
            return "the result"

        return Job(steps())

    st.write(jobs.run_job(("counted", public), start, "Counting", public=public).value)


@pytest.mark.parametrize(("public", "times"), [("yes", 1), ("no", 3)])
def test_only_public_work_is_shared_between_sessions(public, times):
    STARTED.clear()
    for _ in range(3):
        app = AppTest.from_function(counted, default_timeout=60)
        app.query_params["public"] = public
        app.run()
        assert app.markdown[0].value == "the result"
        app.run()  # what a visitor has is theirs, without asking again
    assert len(STARTED) == times


@pytest.fixture
def kept():
    """Number of results that are kept for everybody."""
    return lambda: len(shared()._results)


@pytest.mark.parametrize("page", ["occlude", "gradients"])
def test_a_sample_is_for_everybody_and_a_picture_of_one_s_own_is_not(page, kept):
    open_page(page)
    before = kept()
    assert before > 0
    app = open_page(page)
    assert kept() == before
    app.file_uploader(key="upload-image").upload("mine.png", picture_file(), "image/png").run()
    assert not app.exception
    assert kept() == before


@pytest.mark.parametrize("page", ["occlude", "kernels", "maximize", "orientation", "exemplars"])
def test_what_a_visitor_s_own_network_answers_is_not_kept_for_others(page, kept):
    app = open_page(page, **{"steps-lucid": "16"})
    before = kept()
    box = app.file_uploader(key="program-image")
    box.upload("mine.pt2", exported(network()), "application/octet-stream").run()
    assert not app.exception
    assert any("Your network" in s.value for s in app.sidebar.success)
    assert kept() == before


@pytest.mark.parametrize("kind", [DREAM, LIKENESS])
def test_what_is_drawn_from_a_picture_of_one_s_own_is_not_shared(kept, kind):
    app = open_page("maximize", **{"draw": kind, "steps-lucid": "16"})
    before = kept()
    app.file_uploader(key="upload-image").upload("mine.png", picture_file(), "image/png").run()
    assert not app.exception
    assert kept() == before
