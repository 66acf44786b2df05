"""What several visitors ask for is computed once, whoever comes, goes or fails."""

from __future__ import annotations

import threading
import time

import pytest

from cnnvis_core.errors import InputError
from cnnvis_core.jobs import Job, Step, run
from cnnvis_core.sharing import Shared


class Work:
    """Counts its steps, and whether it was cleaned up."""

    def __init__(self, steps: int = 20, fails: bool = False, seconds: float = 0.0) -> None:
        self.started = self.steps = self.closed = self.inside = self.collisions = 0
        self.total, self.fails, self.seconds = steps, fails, seconds

    def start(self) -> Job[str, int]:
        self.started += 1
        return Job(self._steps())

    def _steps(self):
        try:
            for number in range(self.total):
                self.inside += 1
                self.collisions += self.inside > 1
                time.sleep(self.seconds)
                self.steps += 1
                self.inside -= 1
                yield Step(number + 1, self.total, number)
                if self.fails and number == 3:
                    raise InputError("This cannot be computed.")
            return f"result {self.started}"
        finally:
            self.closed += 1


def test_those_who_ask_together_get_one_computation():
    shared, work, found = Shared(10**6), Work(seconds=0.002), []
    gate = threading.Barrier(8)

    def visit():
        gate.wait()
        found.append(run(shared.job("map", work.start)))

    threads = [threading.Thread(target=visit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == ["result 1"] * 8
    assert (work.started, work.steps, work.closed, work.collisions) == (1, 20, 1, 0)
    assert shared.running == 0


def test_each_sees_progress_and_previews():
    shared, work = Shared(10**6), Work(4)
    first, second = shared.job("map", work.start), shared.job("map", work.start)
    assert [next(first).preview, next(first).preview] == [0, 1]
    assert [next(second).preview, next(second).preview] == [1, 2]  # the newest, then one further
    assert [step.done for step in first] == [3, 4]
    assert run(second) == "result 1"
    assert work.started == 1


def test_another_key_is_another_computation():
    shared, work = Shared(10**6), Work()
    assert run(shared.job("a", work.start)) == "result 1"
    assert run(shared.job("b", work.start)) == "result 2"


def test_who_comes_later_finds_the_result():
    shared, work = Shared(10**6), Work()
    run(shared.job("map", work.start))
    assert run(shared.job("map", work.start)) == "result 1"
    assert work.started == 1


def test_when_the_driver_leaves_the_others_go_on():
    shared, work = Shared(10**6), Work()
    first, second = shared.job("map", work.start), shared.job("map", work.start)
    next(first), next(second)
    first.close()
    assert work.closed == 0
    assert run(second) == "result 1"
    assert (work.started, work.steps, work.closed) == (1, 20, 1)


def test_with_the_last_one_it_ends_and_leaves_nothing():
    shared, work = Shared(10**6), Work()
    jobs = [shared.job("map", work.start) for _ in range(3)]
    for job in jobs:
        next(job)
    for job in jobs:
        job.close()
    assert (work.closed, shared.running) == (1, 0)
    assert run(shared.job("map", work.start)) == "result 2"


def test_an_error_meets_all_and_is_not_kept():
    shared, work = Shared(10**6), Work(fails=True)
    first, second = shared.job("map", work.start), shared.job("map", work.start)
    next(first), next(second)
    for job in (first, second):
        with pytest.raises(InputError, match="cannot be computed"):
            run(job)
    assert (work.started, work.closed, shared.running) == (1, 1, 0)
    with pytest.raises(InputError):
        run(shared.job("map", work.start))
    assert work.started == 2


def test_a_start_that_fails_leaves_nothing():
    shared = Shared(10**6)

    def start():
        raise InputError("There is no such layer.")

    for _ in range(2):
        with pytest.raises(InputError, match="no such layer"):
            run(shared.job("map", start))
    assert shared.running == 0


class Large:
    nbytes = 600_000


def test_results_stay_within_their_bytes():
    shared, count = Shared(10**6), []

    def start():
        def steps():
            count.append(1)
            yield Step(1, 1)
            return Large()

        return Job(steps())

    for key in ("a", "b", "b", "a"):
        run(shared.job(key, start))
    assert len(count) == 3
