"""The command line, and what a kill at any moment leaves behind."""

from __future__ import annotations

import json
import multiprocessing
import random
import signal
import sys
import time
import types
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

import cnnvis_core as cv
from cnnvis_core.__main__ import main
from tests.datasets.piles import as_folder, as_zip, pictures
from tests.exemplars.test_build import same

MODEL = "resnet64-tiny-imagenet"
KILLS = 10


def build(pile: Path, out: Path, begun: Event | None = None) -> cv.Exemplars:
    model = cv.load(MODEL)
    if begun is not None:
        begun.set()
    layers = ["stem.0", "stages.1.0.conv1"]
    return cv.run(cv.build_exemplars(model, pile, layers, 3, out, batch=4, chunk=16))


def command(*arguments: object) -> int:
    return main(["exemplars", "--model", MODEL, *map(str, arguments)])


@pytest.fixture(scope="module")
def pile(tmp_path_factory) -> Path:
    return as_folder(pictures(200, 64), tmp_path_factory.mktemp("pile"))


def test_a_kill_at_any_moment_costs_a_chunk_at_most(pile, tmp_path, monkeypatch):
    # Streamlit's tests leave a page as the main module, which new processes would run.
    monkeypatch.setitem(sys.modules, "__main__", types.ModuleType("__main__"))
    started = time.monotonic()
    whole = build(pile, tmp_path / "whole")
    seconds = time.monotonic() - started
    out, rng = tmp_path / "killed", random.Random(0)
    # Processes of their own, from one that has already imported what they need.
    fresh = multiprocessing.get_context("forkserver")
    fresh.set_forkserver_preload([__name__, "torch._dynamo"])
    killed = 0
    for _ in range(KILLS):
        begun = fresh.Event()
        process = fresh.Process(target=build, args=(pile, out, begun))
        process.start()
        assert begun.wait(60)
        time.sleep(rng.uniform(0, seconds / 5))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
    assert killed > KILLS / 2
    assert same(whole, build(pile, out))
    assert {path.name for path in out.iterdir()} == {
        ".lock", "classes.parquet", "items.parquet", "manifest.json", "top.parquet",
        "units.parquet",
    }  # fmt: skip


def test_the_command_builds_an_index_and_its_json(pile, tmp_path, capsys):
    out, text = tmp_path / "out", tmp_path / "out.json"
    assert (
        command("--images", pile, "--layers", "stem.0", "-k", 4, "--out", out, "--json", text) == 0
    )
    assert "32 units of 1 layers over 200 items" in capsys.readouterr().out
    found = json.loads(text.read_text())
    (layer,) = found["layers"]
    assert (found["model"], layer["name"], len(layer["filters"])) == (MODEL, "stem.0", 32)
    top = cv.open_exemplars(out).top("stem.0", 7)
    mine = layer["filters"][7]
    assert mine["max_imgs"] == top["file"].tolist()
    field = cv.load(MODEL).layer("stem.0").receptive_field
    for (upper, left, bottom, right), row in zip(mine["max_slices"], top.itertuples(), strict=True):
        box = field.box(row.row, row.col)
        assert [upper, left] == [max(0, edge) for edge in box[:2]]
        assert [bottom, right] == [min(64, edge) for edge in box[2:]]
    assert sum(count for _, count in mine["histogram_max"]) == 4


def test_what_cannot_be_done_is_said_in_a_sentence_with_exit_code_1(pile, tmp_path, capsys):
    out = tmp_path / "out"
    for wrong in (
        ("--images", tmp_path / "nowhere", "--out", out),
        ("--images", pile, "--out", out, "--layers", "nine"),
        ("--images", pile, "--out", out, "-k", 0),
        ("--images", pile, "--out", out, "--weights", tmp_path / "none.pth"),
        ("--images", as_zip(pictures(3), pile.parent / "p.zip"), "--out", pile),
    ):
        assert command(*wrong) == 1
        said = capsys.readouterr().err
        assert said.startswith("cnnvis: ")
        assert "Traceback" not in said
    with pytest.raises(SystemExit) as stop:
        main(["exemplars", "--model", MODEL])
    assert stop.value.code == 2
    with pytest.raises(SystemExit) as stop:
        main(["--help"])
    assert stop.value.code == 0
