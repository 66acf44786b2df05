"""What an operator may set."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cnnvis_core.errors import InputError
from cnnvis_core.limits import Limits, limits

ROOT = Path(__file__).resolve().parent.parent


def test_what_is_not_set_has_its_default():
    assert Limits.of({}) == Limits()
    found = Limits.of({"CNNVIS_MEDIA_MB": " 5 ", "CNNVIS_JOBS": "", "OTHER": "x"})
    assert (found.media_mb, found.jobs) == (5, Limits().jobs)


@pytest.mark.parametrize("text", ["many", "1.5", "-3", "99999999999"])
@pytest.mark.parametrize("part", fields(Limits), ids=lambda part: part.name)
def test_nonsense_is_refused_with_the_name_of_the_variable(part, text):
    name = f"CNNVIS_{part.name.upper()}"
    with pytest.raises(InputError, match=name):
        Limits.of({name: text})


@pytest.mark.parametrize("part", fields(Limits), ids=lambda part: part.name)
def test_the_least_is_taken_and_less_is_not(part):
    name, least = f"CNNVIS_{part.name.upper()}", part.metadata["least"]
    assert getattr(Limits.of({name: str(least)}), part.name) == least
    with pytest.raises(InputError, match=name):
        Limits.of({name: str(least - 1)})


def test_every_limit_is_documented_with_its_default():
    text = (ROOT / "docs" / "hosting.md").read_text(encoding="utf-8")
    for part in fields(Limits):
        row = f"| `CNNVIS_{part.name.upper()}` | {part.default:,} | {part.metadata['words']} |"
        assert row in text, row


def test_a_server_that_is_set_up_wrongly_says_so(monkeypatch):
    monkeypatch.setenv("CNNVIS_JOBS", "several")
    limits.cache_clear()
    try:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
        assert "CNNVIS_JOBS" in app.error[0].value
        assert not app.exception
        assert len(app.title) == 0
    finally:
        limits.cache_clear()


def test_a_cluster_that_cannot_be_had_is_said(monkeypatch):
    from cnnvis_core.ui.workplaces import workplaces

    monkeypatch.setenv("CNNVIS_RAY", "127.0.0.1:1")
    workplaces.clear()
    try:
        app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
        assert "not set up rightly" in app.error[0].value
        assert "Ray" in app.error[0].value
        assert len(app.title) == 0
    finally:
        workplaces.clear()


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("CNNVIS_JOBS", "5", 0), ("CNNVIS_JOBS", "many", 1), ("CNNVIS_MODELS", "/nowhere.py", 1)],
)
def test_the_command_line_tells_whether_a_server_is_set_up_rightly(
    monkeypatch, capsys, name, value, code
):
    from cnnvis_core.__main__ import main

    monkeypatch.setenv(name, value)
    limits.cache_clear()
    try:
        assert main(["check"]) == code
    finally:
        limits.cache_clear()
    assert (name in capsys.readouterr().err) is bool(code)
