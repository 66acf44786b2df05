"""Programs are tried in a process of their own."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import cnnvis_core as cv
from cnnvis_core.errors import LostError
from cnnvis_core.programs import Trials, child, trials
from tests.programs.nets import exported, network

# In place of the program's own loading: what a file could make it do.
LOADING = """
import os, resource, time
from cnnvis_core.errors import InputError


def load_program(data, **told):
    if data == b"end":
        os.abort()
    if data == b"sleep":
        time.sleep(60)
    if data == b"turn":
        while True:
            pass
    if data == b"fill":
        bytearray(8 << 30)
    if data == b"talk":
        print('{"number": 3, "error": ""}', flush=True)
        os.abort()
    if data == b"refuse":
        raise InputError(f"refused {told['classes']}")
"""


@pytest.fixture(scope="module")
def tried() -> Iterator[Trials]:
    with Trials() as running:
        yield running


@pytest.fixture
def stubborn(tmp_path, monkeypatch) -> Iterator[Trials]:
    """Trials by the true child of a loader that does what a file says."""
    folder = tmp_path / "cnnvis_core" / "programs"
    folder.mkdir(parents=True)
    for part in (folder.parent, folder):
        (part / "__init__.py").write_text("")
    text = Path(child.__file__).read_text()
    assert "CPU_SECONDS = 60" in text
    (folder / "child.py").write_text(text.replace("CPU_SECONDS = 60", "CPU_SECONDS = 2"))
    shutil.copy(Path(cv.__file__).parent / "errors.py", folder.parent)
    (folder / "opening.py").write_text(LOADING)
    monkeypatch.setattr(trials, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    with Trials(idle=2) as running:
        yield running


def test_a_good_program_passes_and_a_bad_one_is_said(tried):
    data = exported(network())
    tried.load(data, {})
    with pytest.raises(cv.InputError, match="5 classes; 1 names"):
        tried.load(data, {"classes": ["one"]})
    with pytest.raises(cv.InputError, match="no exported program"):
        tried.load(b"nothing of the kind", {})


COPIES = pytest.mark.skipif(not child.FORKS, reason="processes are copied on Linux alone")


@COPIES
def test_one_process_tries_all_and_survives_what_breaks_its_copies(stubborn):
    stubborn.load(b"good", {})
    first = stubborn.process
    for data, told, sentence in (
        (b"end", {}, "breaks what it is run by"),
        (b"fill", {}, "more memory than there is"),
        (b"talk", {}, "breaks what it is run by"),
        (b"refuse", {"classes": ["a"]}, r"refused \['a'\]"),
        (b"sleep", {}, "takes too long"),  # by the clock
        (b"turn", {}, "takes too long"),  # by the processor's time
    ):
        with pytest.raises(cv.InputError, match=sentence):
            stubborn.load(data, told, seconds=1 if data == b"sleep" else 60)
    stubborn.load(b"good", {})
    assert stubborn.process == first


@COPIES
def test_who_kills_the_process_is_not_taken_for_the_file(stubborn):
    stubborn.load(b"good", {})
    first = stubborn.process
    killer = threading.Timer(0.5, os.kill, (first, signal.SIGKILL))
    killer.start()
    with pytest.raises(cv.InputError, match="takes too long"):
        stubborn.load(b"sleep", {}, seconds=2)
    assert stubborn.process != first
    stubborn.load(b"good", {})


@COPIES
def test_a_process_that_cannot_begin_is_no_fault_of_the_file(stubborn, monkeypatch, tmp_path):
    (tmp_path / "cnnvis_core" / "programs" / "child.py").write_text("raise SystemExit")
    with pytest.raises(LostError, match="try again"):
        stubborn.load(b"good", {})


def test_the_last_word_is_the_one_who_asks_s(stubborn, monkeypatch):
    monkeypatch.setattr(trials, "START", 1.0)
    (Path("cnnvis_core") / "programs" / "child.py").write_text("import time; time.sleep(60)")
    with pytest.raises(cv.CnnvisError):
        stubborn.load(b"good", {}, seconds=0.5)
    assert stubborn.process is None


def test_a_process_that_is_not_needed_ends(stubborn):
    stubborn.load(b"good", {})
    process = stubborn.process
    assert process is not None
    for _ in range(100):
        if stubborn.process is None:
            break
        time.sleep(0.1)
    assert stubborn.process is None
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    stubborn.load(b"good", {})


def test_a_process_that_was_killed_is_begun_again(stubborn):
    stubborn.load(b"good", {})
    os.kill(stubborn.process, 9)
    time.sleep(0.5)
    stubborn.load(b"good", {})


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="threads are counted in /proc")
def test_the_process_that_is_copied_has_one_thread(tried):
    tried.load(exported(network()), {})
    threads = Path(f"/proc/{tried.process}/task").iterdir()
    names = [(thread / "comm").read_text().strip() for thread in threads]
    # That of jemalloc, which pyarrow brings, is made for being copied.
    assert len([name for name in names if name != "jemalloc_bg_thd"]) == 1
