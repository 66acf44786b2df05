"""A device without memory: batches are halved, and what comes out is what comes out elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import cnnvis_core as cv
from cnnvis_core.maximization import climb
from cnnvis_core.models import graph, probe
from cnnvis_core.models.memory import in_halves
from tests.support import small_network

SHAPE = (3, 32, 32)


class Small(nn.Module):
    """A network on a device that holds a few inputs at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.inner = small_network()
        self.most = most
        self.largest = 0

    def forward(self, x):
        if x.device.type != "meta" and len(x) > self.most:
            raise torch.OutOfMemoryError("out of memory")
        self.largest = max(self.largest, len(x))
        return self.inner(x)


@pytest.fixture
def tight(monkeypatch):
    """Lets recorded operations take so many inputs; notes the largest batch that was tried."""
    tried: list[int] = []

    def allow(most: int) -> list[int]:
        true = graph.compute

        def compute(node, value, n):
            if node.depends:
                tried.append(n)
                if n > most:
                    raise torch.OutOfMemoryError("out of memory")
            return true(node, value, n)

        for module in (probe, climb):
            monkeypatch.setattr(module, "compute", compute)
        # Defaults were bound when the methods were made.
        monkeypatch.setattr(probe.Probe.maps, "__defaults__", (compute,))
        return tried

    return allow


def test_halves_are_joined_in_order_and_the_last_one_gives_up():
    seen = []

    def compute(x):
        seen.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("out of memory")
        return x * 2

    x = torch.arange(11)
    with torch.no_grad():
        assert torch.equal(in_halves(compute, x, torch.cat), x * 2)
    assert max(n for n in seen if n <= 3) <= 3
    assert len(seen) > 4

    def never(_):
        raise torch.OutOfMemoryError("out of memory")

    with torch.no_grad(), pytest.raises(torch.OutOfMemoryError):
        in_halves(never, x, torch.cat)


def test_scores_of_many_inputs_at_once():
    network = Small(2)
    model = cv.from_module(network, SHAPE)
    x = torch.rand(7, *SHAPE)
    torch.testing.assert_close(model.score(x, "logit"), network.inner(x), rtol=1e-5, atol=1e-6)
    assert model.module.largest == 2
    model.module.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        model.score(x)


def test_deletion_and_insertion_go_on():
    whole, small = (cv.from_module(Small(most), SHAPE, classes=None) for most in (10**6, 2))
    x = torch.rand(1, *SHAPE)
    found = []
    for model in (whole, small):
        occluder = cv.occluder_for(model, x, patch=8, stride=8)
        heat = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
        found.append(cv.run(cv.faithfulness(model, occluder, heat, 1)))
    assert found[0].deletion_area == pytest.approx(found[1].deletion_area, abs=1e-5)
    assert small.module.largest <= 2


def pictures(folder, count=24):
    rng = np.random.default_rng(0)
    for kind, level in (("dark", 60), ("light", 190)):
        (folder / kind).mkdir(parents=True)
        for n in range(count // 2):
            noise = (rng.integers(-40, 40, (32, 32, 3)) + level).clip(0, 255)
            Image.fromarray(noise.astype(np.uint8)).save(folder / kind / f"{n}.png")
    return folder


@pytest.mark.parametrize("what", ["exemplars", "tuning", "pictures"])
def test_results_are_those_of_a_large_device(tight, tmp_path, what):
    model = cv.from_module(small_network(), SHAPE)
    layer = "2"

    def found():
        if what == "exemplars":
            folder = tmp_path / "pile"
            pile = folder if folder.exists() else pictures(folder)
            index = cv.run(cv.build_exemplars(model, pile, layer, out=None))
            return index.top_of_layer(layer)["activation"].to_numpy()
        if what == "tuning":
            return cv.run(cv.rank_orientation(model, "0")).table["selectivity"].to_numpy()
        # Behind no non-linearity no picture is dead and none is drawn again.
        job = cv.maximize(model, "0", range(6), steps=6, size=32)
        return cv.run(job).images.numpy()

    wanted = found()
    tried = tight(2)
    again = found()
    assert max(tried) > 2  # it was too much at first
    np.testing.assert_allclose(again, wanted, rtol=1e-3, atol=2e-3)


def test_gradients_are_those_of_a_large_device(monkeypatch):
    from captum.attr import Saliency

    model = cv.from_module(small_network(), SHAPE)
    x = torch.rand(1, *SHAPE)
    wanted = cv.attribute(model, x, 1, "smoothgrad").values
    tried, true = [], Saliency.attribute

    def attribute(self, inputs, **rest):
        tried.append(len(inputs))
        if len(inputs) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return true(self, inputs, **rest)

    monkeypatch.setattr(Saliency, "attribute", attribute)
    found = cv.attribute(model, x, 1, "smoothgrad").values
    assert max(tried) > 2
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_training_goes_on_with_halved_batches(tmp_path):
    folder = pictures(tmp_path / "pile", 40)
    found = []
    for most in (10**6, 4):
        model = cv.from_module(Small(most), SHAPE)
        asked = {"epochs": 2, "batch": 16, "augmentation": "none", "validation": 0.2}
        job = cv.finetune(model, folder, **asked)
        found.append(cv.run(job).checkpoints[-1].load().module.state_dict())
    # Without batch normalisation the sum of halves is the whole.
    for name, value in found[0].items():
        torch.testing.assert_close(value, found[1][name], rtol=1e-3, atol=1e-4)
