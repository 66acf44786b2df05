"""Garbage goes, and what lives long is not looked through at every click."""

from __future__ import annotations

import gc
import sys
import threading
import weakref

import pytest

from cnnvis_core.ui import housekeeping
from cnnvis_core.ui.housekeeping import Housekeeper


class Knot:
    """Refers to itself, so that only the collector frees it."""

    def __init__(self) -> None:
        self.me = self


@pytest.fixture(autouse=True)
def thawed():
    yield
    gc.unfreeze()


def test_what_lives_is_set_aside_and_not_looked_through_again():
    keeper, kept = Housekeeper(), [Knot() for _ in range(1000)]
    assert keeper.look()
    assert gc.get_freeze_count() > len(kept)
    assert len(gc.get_objects()) < gc.get_freeze_count()
    assert not keeper.look()


def test_young_garbage_goes_as_before():
    Housekeeper().look()
    knot = weakref.ref(Knot())
    gc.collect()
    assert knot() is None


def test_what_was_set_aside_and_is_left_goes_with_the_next_round(monkeypatch):
    keeper, knot = Housekeeper(), Knot()
    seen = weakref.ref(knot)
    keeper.look()
    del knot
    gc.collect()
    assert seen() is not None
    monkeypatch.setattr(housekeeping, "SECONDS", 0.0)
    assert keeper.look()
    assert seen() is None


def test_many_new_objects_are_set_aside_at_once(monkeypatch):
    keeper = Housekeeper()
    keeper.look()
    monkeypatch.setattr(housekeeping, "NEW_BLOCKS", 6000)
    assert not keeper.look()
    more = [Knot() for _ in range(6000)]
    assert keeper.look()
    assert len(gc.get_objects()) < len(more)


def test_a_tuple_that_is_being_filled_elsewhere_is_left_alone():
    """Whoever lists all objects makes a tuple fail that another thread fills meanwhile."""
    keeper, ended, failed = Housekeeper(), threading.Event(), []

    def fill() -> None:
        try:
            while not ended.is_set():
                tuple(number for number in range(50))
        except SystemError as error:
            failed.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    filling = threading.Thread(target=fill)
    filling.start()
    try:
        for _ in range(5000):
            keeper.look()
    finally:
        ended.set()
        filling.join()
        sys.setswitchinterval(interval)
    assert failed == []
