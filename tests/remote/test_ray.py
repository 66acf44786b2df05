"""Heavy jobs on a Ray cluster of two nodes: steps stream back, Cancel reaches them, losses heal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch

import cnnvis_core as cv
from cnnvis_core.errors import InputError, LostError
from cnnvis_core.jobs import Step
from cnnvis_core.limits import limits
from cnnvis_core.models.shelf import Shelf
from cnnvis_core.remote import Crew, ray_crew
from cnnvis_core.ui import workplaces
from tests.pages.test_pages import captions, errors, open_page
from tests.programs.nets import exported, network
from tests.remote.nodes import two_nodes

ray = pytest.importorskip("ray", reason="Ray is optional (requirements-ray.txt)")
MODEL = "resnet64-tiny-imagenet"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with two_nodes() as found:
        yield found


@pytest.fixture(scope="module")
def crew(address) -> Crew:
    found = ray_crew(address, Shelf(cv.load, 2**30), 2**30)
    assert len(found.lines) == 2
    return found


def long_climb(crew: Crew):
    model = crew.shelf.get(MODEL)
    return lambda: cv.maximize(model, "stages.2.0.conv1", [3], steps=4000, size=64)


def until(holds, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_results_and_previews_are_those_of_this_process(crew):
    model = crew.shelf.get(MODEL)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))

    def start():
        return cv.occlude(model, x, 3, patch=8, stride=4)

    wanted = cv.run(start())
    for line in crew.lines:
        job = crew.job(start, line)
        previews = [step.preview for step in job if step.preview is not None]
        assert previews
        np.testing.assert_allclose(job.result.drop, wanted.drop, atol=1e-5)


def test_cancel_reaches_the_worker(crew):
    line = crew.lines[0]
    job = crew.job(long_climb(crew), line)
    next(job), next(job)
    assert line.call("count") == 1
    job.close()
    assert line.call("count") == 0


def test_a_lost_worker_is_one_sentence_and_then_there_again(crew):
    line = crew.lines[1]

    def where():
        def steps():
            yield Step(1, 1)
            return os.getpid()

        return cv.Job(steps())

    victim = cv.run(crew.job(where, line))
    assert victim != os.getpid()
    job = crew.job(long_climb(crew), line)
    next(job)
    os.kill(victim, signal.SIGKILL)

    with pytest.raises(LostError, match="lost; try again"):
        cv.run(job)

    def again():
        try:
            return cv.run(crew.job(where, line)) != victim
        except LostError:
            return False

    until(again)


def test_no_cluster_is_one_sentence():
    before = ray.is_initialized()
    if before:
        ray.shutdown()
    with pytest.raises(InputError, match="no Ray cluster"):
        ray_crew("127.0.0.1:1", Shelf(cv.load, 1), 1)


@pytest.fixture
def hosted(address, monkeypatch):
    """The app with its work on the cluster."""
    monkeypatch.setenv("CNNVIS_RAY", address)

    def forget():
        workplaces.workplaces.clear()
        workplaces.shared.clear()
        limits.cache_clear()

    forget()
    yield
    forget()


PAGES = (
    "occlude", "gradients", "maximize", "orientation", "exemplars", "transfer",
)  # fmt: skip


@pytest.mark.parametrize("own", [False, True], ids=["catalogue", "own"])
@pytest.mark.parametrize("page", PAGES)
def test_every_heavy_page_computes_there(hosted, page, own, monkeypatch):
    sent, here = [], []
    there = workplaces._there

    def watched(crew, line, start):
        job = there(crew, line, start)
        (sent if job._steps.gi_code.co_qualname.startswith("Crew") else here).append(start)
        return job

    monkeypatch.setattr(workplaces, "_there", watched)
    app = open_page(page, **{"steps-lucid": "16"})
    if own:
        box = app.file_uploader(key="program-image")
        app = box.upload("mine.pt2", exported(network()), "application/octet-stream").run()
        assert not app.exception
        assert "32 × 32 pixels" in captions(app)
    assert not errors(app)
    assert sent
    assert not here
