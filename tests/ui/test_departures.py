"""A server takes so many visitors and no more; who is in stays in."""

from __future__ import annotations

import pytest

from cnnvis_core.limits import limits
from cnnvis_core.ui import departures
from tests.pages.test_pages import open_page


@pytest.fixture
def tabs(monkeypatch):
    """Sets how many tabs are open."""
    monkeypatch.setenv("CNNVIS_SESSIONS", "3")
    limits.cache_clear()
    yield lambda count: monkeypatch.setattr(departures, "open_tabs", lambda: count)
    monkeypatch.undo()
    limits.cache_clear()


def test_a_newcomer_to_a_full_server_is_asked_to_try_again(tabs):
    tabs(4)
    app = open_page("models")
    assert "try again in a moment" in app.warning[0].value
    assert len(app.title) == 0
    assert not app.sidebar.selectbox
    tabs(3)
    app = app.button(key="come-in").click().run()
    assert app.title[0].value == "Models"


def test_who_is_in_stays_in(tabs):
    tabs(3)
    app = open_page("models")
    tabs(9)
    app = app.run()
    assert app.title[0].value == "Models"
    assert not app.warning
