"""Deletion and insertion curves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnnvis_core.jobs import run
from cnnvis_core.occlusion import faithfulness, occlude, occluder_for, top_share
from tests.support import picture_model


class Corner(nn.Module):
    """Class 1 rests on the top left quarter alone."""

    def forward(self, x):
        light = x.mean(1)[:, :16, :16].mean((1, 2))
        return torch.stack([torch.zeros_like(light), 4 * light], 1)


@pytest.fixture
def parts():
    model = picture_model(Corner(), classes=2)
    x = torch.full((1, 3, 32, 32), 2.0)
    occluder = occluder_for(model, x, 8, 8, "black")
    return model, occluder, run(occlude(model, x, 1, 8, 8, "black"))


def test_curves_end_where_they_must(parts):
    model, occluder, found = parts
    curves = run(faithfulness(model, occluder, found.heatmap, found.target, steps=8))
    black = float(model.predict(occluder.replacement)[0, 1])
    for curve in (curves.deletion, curves.random_deletion):
        assert curve[0] == pytest.approx(found.baseline)
        assert curve[-1] == pytest.approx(black)
    for curve in (curves.insertion, curves.random_insertion):
        assert curve[0] == pytest.approx(black)
        assert curve[-1] == pytest.approx(found.baseline)


def test_a_true_map_beats_a_random_order_and_its_opposite_loses(parts):
    model, occluder, found = parts
    curves = run(faithfulness(model, occluder, found.heatmap, found.target, steps=16))
    assert curves.deletion_area < curves.random_deletion_area - 0.1
    assert curves.insertion_area > curves.random_insertion_area + 0.1
    # The whole answer rests on a quarter: after a quarter, nothing more changes.
    np.testing.assert_allclose(curves.deletion[4:], curves.deletion[-1], atol=1e-6)
    np.testing.assert_allclose(curves.insertion[4:], curves.insertion[-1], atol=1e-6)


def test_top_share_takes_the_largest():
    heat = np.arange(20, dtype=np.float32).reshape(4, 5)
    assert top_share(heat, 0).sum() == 0
    assert top_share(heat, 1).all()
    assert set(heat[top_share(heat, 0.25)]) == {15, 16, 17, 18, 19}
