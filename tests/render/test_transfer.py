"""Pictures and charts of what changed."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import torch

from cnnvis_core.render import transfer as drawn
from cnnvis_core.transfer import Alignment, Change, Finetuned, Pair


def pairs() -> dict[int, Pair]:
    dark, light = torch.zeros(3, 8, 8), torch.ones(3, 8, 8)
    return {4: Pair(dark, light, ""), 2: Pair(light, dark, "after")}


def test_the_picture_before_stands_above_the_one_after_and_failed_ones_are_crossed():
    sheet = drawn.pair_sheet(pairs(), [4, 2], False)
    assert sheet.count == 2
    first, second = (np.asarray(sheet.tile(n)) for n in range(2))
    half = drawn.PAIR_SIDE
    assert first[:half].max() == 0
    assert first[-half:].min() == 255
    assert second[:10, 40:50].min() == 255
    assert second[-10:, 40:50].max() == 0
    red = (second[..., 0] > 180) & (second[..., 1] < 80)
    assert red.any()
    assert not ((first[..., 0] > 180) & (first[..., 1] < 80)).any()


def test_a_spectrogram_has_low_frequencies_below():
    levels = torch.zeros(1, 16, 16)
    levels[0, :4] = 1.0  # the lowest bands
    picture = np.asarray(drawn.unit_picture(levels, True, 32)).mean(2)
    assert picture[-4:].mean() > picture[:4].mean()


def test_the_order_of_units_is_that_of_their_change():
    table = pd.DataFrame(
        {"unit": [5, 1, 3], "response_change": [0.9, 0.2, np.nan], "response_noise": [0.1, 0.1, 0]}
    )
    chart = drawn.changes(table, "response_change", "response_noise", 1, "change").to_dict()
    (rows,) = chart["datasets"].values()
    assert [(row["place"], row["unit"]) for row in rows] == [(1, 5), (2, 1)]


@pytest.mark.parametrize(("most", "domain"), [(0.0, [0, 1]), (0.4, None)])
def test_no_change_is_not_blown_up(most, domain):
    names = ["low", "q1", "median", "q3", "high"]
    table = pd.DataFrame([["a", 0.0, 0.0, 0.0, 0.0, most]], columns=["layer", *names])
    chart = drawn.by_layer(table, "a").to_dict()
    assert chart["layer"][0]["encoding"]["y"]["scale"].get("domain") == domain


def test_the_map_of_layers_holds_every_pair():
    found = Alignment(("a", "b"), ("x", "y", "z"), np.arange(6.0).reshape(2, 3) / 6, 99)
    (rows,) = drawn.alignment_map(found).to_dict()["datasets"].values()
    assert {(row["before"], row["after"]): row["alignment"] for row in rows}[("b", "x")] == 0.5
    assert len(rows) == 6


def test_curves_tell_training_from_held_back_items():
    log = pd.DataFrame(
        {"epoch": [1, 2], "train_loss": [2.0, 1.0], "test_loss": [2.1, 1.5],
         "train_accuracy": [0.3, 0.6], "test_accuracy": [0.2, 0.5]}
    )  # fmt: skip
    found = Finetuned((), log, ("a", "b"), (), {})
    (rows,) = drawn.learning_curve(found, "accuracy").to_dict()["datasets"].values()
    assert [r["value"] for r in rows if r["items"] == "held back"] == [0.2, 0.5]


def test_files_hold_the_numbers_and_the_pictures():
    table = pd.DataFrame({"unit": [4, 2], "weight_change": [0.5, 0.1], "failed": ["", "after"]})
    found = Change("a", table, 0.9, 0.01, 0.8, 64, pairs(), 0)
    assert drawn.change_csv(found).decode().splitlines()[1] == "4,0.5,"
    with np.load(io.BytesIO(drawn.change_npz(found))) as arrays:
        assert arrays["unit"].tolist() == [4, 2]
        assert arrays["after_4"].shape == (3, 8, 8)
        assert arrays["failed"].tolist() == ["", "after"]
