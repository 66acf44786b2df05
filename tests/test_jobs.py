"""Jobs: progress, results, and what is left when they end early."""

from __future__ import annotations

import gc

import pytest

from cnnvis_core.errors import CnnvisError
from cnnvis_core.jobs import Job, Step, run


def counting(log, total=5):
    log.append("open")
    try:
        for i in range(total):
            yield Step(i + 1, total, i)
        return total * 10
    finally:
        log.append("closed")


def test_a_job_counts_up_and_ends_with_its_result():
    log = []
    job = Job(counting(log))
    assert not job.finished
    steps = list(job)
    assert [s.done for s in steps] == [1, 2, 3, 4, 5]
    assert [s.preview for s in steps] == [0, 1, 2, 3, 4]
    assert steps[-1].seconds_left == 0
    assert all(s.seconds_left >= 0 for s in steps)
    assert job.finished
    assert job.result == 50
    assert log == ["open", "closed"]
    assert list(job) == []
    assert job.result == 50


def test_nothing_runs_before_it_is_asked_for():
    log = []
    Job(counting(log)).close()
    assert log == []


@pytest.mark.parametrize("how", ["close", "with", "drop"])
def test_an_early_end_cleans_up_and_has_no_result(how):
    log = []
    job = Job(counting(log))
    next(job)
    if how == "close":
        job.close()
        job.close()
    elif how == "with":
        with pytest.raises(KeyboardInterrupt), job:
            raise KeyboardInterrupt
    if how == "drop":
        del job
        gc.collect()
    else:
        with pytest.raises(CnnvisError, match=r"not finished|closed before"):
            _ = job.result
        assert list(job) == []
    assert log == ["open", "closed"]


def test_run_returns_the_result_and_passes_errors_on():
    assert run(Job(counting([]))) == 50

    def failing():
        yield Step(1, 2)
        raise ValueError("broken")

    job = Job(failing())
    with pytest.raises(ValueError, match="broken"):
        run(job)
    assert not job.finished


def test_the_time_left_follows_the_rate_so_far(monkeypatch):
    clock = iter([0.0, 2.0, 10.0, 12.0])
    monkeypatch.setattr("cnnvis_core.jobs.time.perf_counter", lambda: next(clock))
    job = Job(counting([], total=4))
    assert next(job).seconds_left == pytest.approx(6.0)
    # What happens between two steps is not the job's own time.
    assert next(job).seconds_left == pytest.approx(4.0)


def test_a_closed_job_says_so():
    job = Job(counting([]))
    next(job)
    job.close()
    with pytest.raises(CnnvisError, match="closed before its end; start it anew"):
        _ = job.result
    with pytest.raises(CnnvisError, match="start it anew"):
        run(job)
