"""What a result weighs is what its arrays, tables and files weigh."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

import cnnvis_core as cv
from cnnvis_core.weighing import held_bytes
from tests.support import picture_model, small_network


@dataclass
class Found:
    maps: dict[str, np.ndarray]
    tables: list[pd.DataFrame]
    note: str


def test_parts_are_added_up():
    maps = {"a": np.zeros((100, 1000)), "b": torch.zeros(50, 1000)}
    table = pd.DataFrame({"x": np.zeros(10_000)})
    wanted = 800_000 + 200_000 + 80_000
    assert abs(held_bytes(Found(maps, [table], "words")) - wanted) < 20_000
    assert held_bytes(None) == 0
    assert held_bytes(b"12345") == 5


def test_real_results_weigh_something_and_networks_nothing():
    model = picture_model(small_network())
    found = cv.run(cv.occlude(model, torch.rand(1, 3, 32, 32), 1, patch=8, stride=1))
    assert held_bytes(found) > found.drop.nbytes
    assert held_bytes(model) < 10_000
