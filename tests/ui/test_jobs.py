"""What a visitor's results may take."""

from __future__ import annotations

from streamlit.testing.v1 import AppTest


def keep_three() -> None:
    from types import SimpleNamespace

    import streamlit as st

    from cnnvis_core.limits import limits
    from cnnvis_core.ui import jobs

    most = limits().results_mb * 2**20
    half = SimpleNamespace(nbytes=most // 2)
    for key in ("first", "second", "third"):
        jobs.remember(key, jobs.Outcome(half, 1.0))
    st.write([key for key in ("first", "second", "third") if jobs.recall(key)])
    jobs.remember("huge", jobs.Outcome(SimpleNamespace(nbytes=9 * most), 1.0))
    st.write([key for key in ("second", "third", "huge") if jobs.recall(key)])
    for number in range(99):
        jobs.remember(number, jobs.Outcome(1.0, 1.0))
    st.write(sum(jobs.recall(number) is not None for number in range(99)) == limits().results)


def test_the_oldest_results_go_when_there_are_too_many_or_they_are_too_large():
    app = AppTest.from_function(keep_three).run()
    assert not app.exception
    assert [json.value for json in app.json] == ['["second", "third"]', '["huge"]']
    assert app.markdown[0].value == "`True`"
