"""Jobs of a worker are those of this process; here without Ray, through the same bytes."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch

import cnnvis_core as cv
from cnnvis_core.errors import InputError, LostError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.shelf import Shelf
from cnnvis_core.remote import Crew, Worker, worker
from cnnvis_core.remote.packing import pack, unpack
from tests.support import picture_model, small_network

MODEL = "resnet64-tiny-imagenet"


class Line:
    """Calls a worker of this process; can lose it."""

    def __init__(self) -> None:
        self.worker = Worker(2**30)
        self.lost = False
        self.sent: list[int] = []

    def call(self, method, *args):
        if self.lost:
            raise LostError("The machine that computed this was lost; try again.")
        self.sent.append(sum(len(a) for a in args if isinstance(a, bytes)))
        return getattr(self.worker, method)(*args)


@pytest.fixture
def line():
    return Line()


@pytest.fixture(scope="module")
def shelf():
    return Shelf(cv.load, 2**30)


@pytest.fixture
def crew(line, shelf):
    return Crew((line,), shelf)


def counting(steps: int = 10, seconds: float = 0.0, fails: bool = False):
    """A start of a job that counts; what it holds is sent by value."""

    def start():
        def compute():
            for number in range(steps):
                time.sleep(seconds)
                yield Step(number + 1, steps, np.full(3, number))
                if fails:
                    raise InputError("This cannot be computed.")
            return {"sum": steps}

        return Job(compute())

    return start


def test_the_result_is_that_of_this_process(crew, line, shelf):
    model = shelf.get(MODEL)
    x = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    jobs = {
        "occlude": lambda: cv.occlude(model, x, 3, patch=16, stride=8),
        "maximize": lambda: cv.maximize(model, "stages.1.0.conv1", [3], steps=4, size=32),
        "attribute": lambda: cv.rank_orientation(model, "stem.0"),
    }
    results = {n: (cv.run(start()), cv.run(crew.job(start, line))) for n, start in jobs.items()}
    np.testing.assert_array_equal(*(r.drop for r in results["occlude"]))
    torch.testing.assert_close(*(r.images for r in results["maximize"]), rtol=0, atol=0)
    here, there = (r.table for r in results["attribute"])
    assert here.equals(there)
    # The network was not sent: each side loaded it.
    assert max(line.sent) < 200_000
    assert line.worker.count() == 0


def test_steps_and_previews_come_back(crew, line, monkeypatch):
    monkeypatch.setattr(worker, "SLICE_SECONDS", 0.0)
    job = crew.job(counting(), line)
    steps = list(job)
    assert [s.done for s in steps] == list(range(1, 11))
    assert [int(s.preview[0]) for s in steps] == list(range(10))
    assert job.result == {"sum": 10}


def test_short_steps_travel_together(crew, line):
    steps = list(crew.job(counting(50, 0.01), line))
    assert 3 < len(steps) < 20
    assert steps[-1].done <= 50


def test_closing_reaches_the_worker(crew, line, monkeypatch):
    monkeypatch.setattr(worker, "SLICE_SECONDS", 0.0)
    job = crew.job(counting(), line)
    next(job)
    assert line.worker.count() == 1
    job.close()
    assert line.worker.count() == 0


def test_errors_are_those_of_the_job(crew, line):
    with pytest.raises(InputError, match=r"^This cannot be computed\.$"):
        cv.run(crew.job(counting(fails=True), line))
    model = crew.shelf.get(MODEL)
    with pytest.raises(cv.ModelError, match="no layer named"):
        cv.run(crew.job(lambda: cv.maximize(model, "nowhere", [0]), line))
    assert line.worker.count() == 0


def test_a_lost_worker_is_one_sentence(crew, line, monkeypatch):
    monkeypatch.setattr(worker, "SLICE_SECONDS", 0.0)
    job = crew.job(counting(), line)
    next(job)
    line.lost = True
    with pytest.raises(LostError, match="lost; try again"):
        next(job)
    # A worker that was started anew knows nothing of the job.
    line.lost = False
    job = crew.job(counting(), line)
    next(job)
    line.worker = Worker(2**30)
    with pytest.raises(LostError):
        next(job)


def test_jobs_of_a_dead_server_are_forgotten(crew, line, monkeypatch):
    monkeypatch.setattr(worker, "SLICE_SECONDS", 0.0)
    monkeypatch.setattr(worker, "SILENT_SECONDS", 0.2)
    abandoned = crew.job(counting(), line)
    next(abandoned)
    time.sleep(0.3)
    cv.run(crew.job(counting(2), line))
    assert line.worker.count() == 0


def test_a_network_of_one_s_own_is_sent(crew, line):
    own = picture_model(small_network())
    own.graph(own.input_shape)  # what a model has noted stays behind
    x = torch.rand(1, 3, 32, 32)
    found = cv.run(crew.job(lambda: cv.occlude(own, x, 1, patch=8, stride=8), line))
    np.testing.assert_array_equal(found.drop, cv.run(cv.occlude(own, x, 1, patch=8, stride=8)).drop)


def test_another_network_of_the_same_name_is_refused(shelf):
    mine, theirs = Shelf(cv.load, 2**30), Shelf(lambda name: picture_model(small_network()), 2**30)
    with pytest.raises(cv.ModelError, match="another version"):
        unpack(pack(mine.get(MODEL), mine), theirs)
    assert unpack(pack(mine.get(MODEL), mine), mine) is mine.get(MODEL)
