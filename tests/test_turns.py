"""Turns on a device, with jobs that take time and visitors in threads."""

from __future__ import annotations

import threading
import time

import pytest

from cnnvis_core.errors import BusyError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.turns import Place, Turns


class Device:
    """Notes who computes, and whether two ever do at once."""

    def __init__(self) -> None:
        self.order: list[str] = []
        self.inside = 0
        self.collisions = 0

    def job(self, name: str, steps: int, seconds: float = 0.002) -> Job[str, None]:
        def compute():
            for number in range(steps):
                self.inside += 1
                self.collisions += self.inside > 1
                self.order.append(name)
                time.sleep(seconds)
                self.inside -= 1
                yield Step(number + 1, steps)
            return name

        return Job(compute())


def together(turns: Turns, jobs: dict[str, tuple[str, Job[str, None]]]) -> None:
    """Run jobs of visitors at once, and wait for all."""
    gate = threading.Barrier(len(jobs))

    def work(visitor: str, job: Job[str, None]) -> None:
        gate.wait()
        for _ in turns.run(job, visitor):
            pass

    threads = [threading.Thread(target=work, args=pair) for pair in jobs.values()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_one_computes_at_a_time_and_all_come_to_their_end():
    device, turns = Device(), Turns()
    jobs = {str(n): (f"visitor {n % 4}", device.job(str(n), 20)) for n in range(8)}
    together(turns, jobs)
    assert device.collisions == 0
    assert sorted(device.order) == sorted(str(n) for n in range(8) for _ in range(20))
    assert all(job.finished for _, job in jobs.values())
    assert turns.jobs == 0


def test_a_short_job_does_not_wait_for_the_end_of_a_long_one():
    device, turns = Device(), Turns()
    started = threading.Event()

    def long() -> None:
        for _ in turns.run(device.job("long", 300), "a"):
            started.set()

    thread = threading.Thread(target=long)
    thread.start()
    started.wait()
    for _ in turns.run(device.job("short", 5), "b"):
        pass
    end = len(device.order) - 1 - device.order[::-1].index("short")
    between = device.order[device.order.index("short") : end + 1]
    thread.join()
    assert between.count("long") <= 10
    assert len(device.order) == 305


def test_visitors_have_equal_shares_whatever_their_steps_and_their_number_of_jobs():
    device, turns = Device(), Turns()
    together(
        turns,
        {
            "1": ("coarse", device.job("coarse", 40, 0.008)),
            "2": ("fine", device.job("fine", 160, 0.002)),
            "3": ("two", device.job("two", 80, 0.002)),
            "4": ("two", device.job("two", 80, 0.002)),
        },
    )
    half = device.order[: len(device.order) // 2]
    seconds = {"coarse": 0.008, "fine": 0.002, "two": 0.002}
    shares = {name: half.count(name) * each for name, each in seconds.items()}
    assert max(shares.values()) < 1.7 * min(shares.values())


def test_a_visitor_who_comes_later_does_not_take_all():
    device, turns = Device(), Turns()
    for _ in turns.run(device.job("early", 50), "early"):
        pass
    device.order.clear()
    together(
        turns,
        {
            "1": ("early", device.job("early", 50)),
            "2": ("late", device.job("late", 50)),
        },
    )
    first = device.order[:40]
    assert 12 <= first.count("late") <= 28


def test_too_many_jobs_are_refused_with_a_sentence_and_room_is_made_again():
    device, turns = Device(), Turns(most=2)
    running = [turns.run(device.job(name, 3), name) for name in "ab"]
    for steps in running:
        next(steps)
    with pytest.raises(BusyError, match="try again"):
        next(turns.run(device.job("c", 3), "c"))
    running[0].close()
    assert turns.jobs == 1
    assert len(list(turns.run(device.job("c", 3), "c"))) == 3
    running[1].close()


def test_who_waits_is_told_the_place_and_can_give_up():
    device, turns = Device(), Turns()
    inside, go = threading.Event(), threading.Event()

    def stuck():
        inside.set()
        go.wait(10)
        yield Step(1, 1)
        return "stuck"

    thread = threading.Thread(target=lambda: list(turns.run(Job(stuck()), "a")))
    thread.start()
    inside.wait()
    places: list[Place] = []

    def told(place: Place) -> None:
        places.append(place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(turns.run(device.job("b", 3), "b", told))
    assert [(place.ahead, place.sharing) for place in places] == [(1, 2)]
    assert turns.jobs == 1
    go.set()
    thread.join()
    assert turns.jobs == 0


def test_a_job_that_fails_gives_its_turn_back():
    turns = Turns()

    def broken():
        yield Step(1, 2)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        list(turns.run(Job(broken()), "a"))
    assert turns.jobs == 0
    assert len(list(turns.run(Device().job("b", 3), "b"))) == 3


def test_a_waiting_job_is_told_how_long_it_will_be():
    turns, told = Turns(), []
    slow = Device().job("slow", 40, 0.05)
    other = threading.Thread(target=lambda: list(turns.run(slow, "a")))
    other.start()
    while turns.jobs == 0:
        time.sleep(0.01)
    time.sleep(0.3)
    steps = turns.run(Device().job("quick", 3, 0.0), "b", told.append)
    list(steps)
    other.join(30)
    assert all(0 <= place.seconds < 1 for place in told)
    three = turns.place("c")
    assert (three.ahead, three.sharing, three.seconds) == (0, 1, 0.0)


def test_expected_waits_grow_with_those_ahead():
    turns = Turns()
    running = [turns.run(Device().job(n, 20, 0.02), n) for n in "abc"]
    for _ in range(10):
        for steps in running:
            next(steps)
    place = turns.place("d")
    assert place.ahead == 3
    assert 0.04 < place.seconds < 0.6
    for steps in running:
        steps.close()
