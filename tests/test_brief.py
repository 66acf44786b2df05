"""What a notebook prints of a result."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch

import cnnvis_core as cv
from cnnvis_core.brief import Brief, brief


@dataclass(frozen=True, repr=False)
class Result(Brief):
    values: np.ndarray
    parts: dict[str, object]
    name: str = "a"
    hidden: int = field(default=1, repr=False)


@pytest.mark.parametrize(
    ("item", "said"),
    [
        (np.zeros((2, 3), np.float32), "<float32 (2, 3)>"),
        (torch.zeros(4, dtype=torch.int64), "<int64 (4,)>"),
        (pd.DataFrame({"a": [1, 2, 3]}), "<table (3, 1)>"),
        (0.123456789, "0.123457"),
        (True, "True"),
        (None, "None"),
        ("x" * 500, f"'{'x' * 59}…'"),
        ((1, 2), "(1, 2)"),
        (["one"], "['one']"),
        (("one",), "('one',)"),
        ([[[[1]]]], "[[<list of 1>]]"),
        (b"PNG" * 999, "<bytes>"),
        (np.float32(0.5), "0.5"),
        (pd.Series([1, 2]), "<Series>"),
        (tuple(range(200)), "<tuple of 200>"),
        ({}, "{}"),
        ({"a": 1}, "{'a': 1}"),
        ({"a": "x" * 70}, "<dict of 1: 'a', …>"),
        ({"k" * 500: "x" * 70}, f"<dict of 1: '{'k' * 59}…', …>"),
        (torch.device("cpu"), "<device>"),
        (torch.nn.ReLU(), "<ReLU>"),
    ],
)
def test_anything_is_said_in_a_few_words(item, said):
    assert brief(item) == said


def test_a_result_is_one_line_however_much_it_holds():
    held = Result(np.zeros((500, 500)), {str(n): np.zeros(9) for n in range(50)})
    assert repr(held) == (
        "Result(values=<float64 (500, 500)>, parts=<dict of 50: '0', …>, name='a')"
    )


def test_what_the_methods_give_is_one_line():
    model = cv.load("resnet64-tiny-imagenet")
    x = torch.rand(1, *model.input_shape)
    results = (
        model,
        cv.run(cv.occlude(model, x, patch=32, stride=32)),
        cv.filters(model, "stem.0"),
        cv.attribute(model, x, 5, method="saliency"),
        cv.run(cv.maximize(model, "stem.0", [1], steps=2, size=32)),
    )
    for result in results:
        text = repr(result)
        assert "\n" not in text
        assert len(text) < 600
        assert type(result).__name__ in text


def test_a_layer_that_is_none_is_said_in_one_line():
    model = cv.load("resnet64-tiny-imagenet")
    with pytest.raises(cv.ModelError, match=r"no layer named <float32 \(9, 3, 64, 64\)>;"):
        model.layer(torch.rand(9, 3, 64, 64))
