"""Networks that visitors share."""

from __future__ import annotations

import threading
import time

import pytest
import torch

import cnnvis_core as cv
from cnnvis_core.models.shelf import Shelf, weight_bytes
from tests.support import small_network


def maker(loads: list[str]):
    def load(name: str) -> cv.Model:
        loads.append(name)
        time.sleep(0.02)
        if name == "broken":
            raise cv.ModelError("It cannot be loaded.")
        return cv.from_module(small_network(), (3, 32, 32), name=name)

    return load


SIZE = weight_bytes(cv.from_module(small_network(), (3, 32, 32)))


def test_the_ones_that_were_asked_for_last_stay():
    loads: list[str] = []
    shelf = Shelf(maker(loads), 2 * SIZE)
    first = shelf.get("a")
    shelf.get("b")
    assert shelf.get("a") is first
    shelf.get("c")
    assert shelf.names == ("a", "c")
    assert shelf.get("a") is first
    shelf.get("b")
    assert loads == ["a", "b", "c", "b"]
    # Who still computes with one that is off the shelf goes on.
    off = shelf.get("c")
    shelf.get("a")
    shelf.get("b")
    assert "c" not in shelf.names
    assert off.predict(torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_one_that_is_larger_than_the_shelf_stays_alone():
    shelf = Shelf(maker([]), SIZE // 2)
    for name in "abc":
        assert shelf.get(name) is shelf.get(name)
        assert shelf.names == (name,)


def test_many_visitors_at_once_load_a_network_once():
    loads: list[str] = []
    shelf = Shelf(maker(loads), 100 * SIZE)
    found: list[cv.Model] = []
    threads = [
        threading.Thread(target=lambda n=n: found.append(shelf.get("ab"[n % 2]))) for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(loads) == ["a", "b"]
    assert len({id(model) for model in found}) == 2


def test_what_cannot_be_loaded_is_tried_again():
    loads: list[str] = []
    shelf = Shelf(maker(loads), SIZE)
    for _ in range(2):
        with pytest.raises(cv.ModelError):
            shelf.get("broken")
    assert loads == ["broken", "broken"]
    assert shelf.names == ()
