"""Children of embedded networks, kept as differences."""

from __future__ import annotations

import pytest
import torch

import cnnvis_core as cv
from cnnvis_core.models.embedded import embedded_ids, epochs_of, parent_of
from cnnvis_core.models.offspring import child_of, difference


def states() -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    torch.manual_seed(0)
    parent = {"a.weight": torch.randn(6, 4, 3, 3), "a.bias": torch.randn(6),
              "fc.weight": torch.randn(5, 6)}  # fmt: skip
    child = {name: value + 0.01 * torch.randn_like(value) for name, value in parent.items()}
    child["fc.weight"] = torch.randn(3, 6)
    child["a.weight"][2] = parent["a.weight"][2]
    return parent, child


def test_a_child_is_its_parent_and_a_difference_of_a_byte():
    parent, child = states()
    kept = {**difference(parent, parent, 1), **difference(parent, child, 4)}
    found = child_of(parent, kept, 4)
    assert found.keys() == child.keys()
    change = (child["a.weight"] - parent["a.weight"]).flatten(1).abs().amax(1)
    worst = (found["a.weight"] - child["a.weight"]).flatten(1).abs().amax(1)
    assert (worst <= change / 250).all()
    assert torch.equal(found["a.weight"][2], parent["a.weight"][2])
    assert torch.equal(found["a.bias"], child["a.bias"])
    assert torch.equal(found["fc.weight"], child["fc.weight"])
    assert torch.equal(child_of(parent, kept, 1)["a.weight"], parent["a.weight"])
    assert kept["4/a.weight"].dtype == torch.int8


def test_other_epochs_and_other_parents_are_refused():
    parent, child = states()
    kept = difference(parent, child, 4)
    with pytest.raises(cv.ModelError, match="epoch 2"):
        child_of(parent, kept, 2)
    with pytest.raises(cv.ModelError, match="another network"):
        child_of({"a.weight": torch.zeros(2, 2)}, kept, 4)


CHILDREN = [name for name in embedded_ids() if parent_of(name)]


@pytest.mark.skipif(not CHILDREN, reason="no fine-tuned model in assets")
@pytest.mark.parametrize("name", CHILDREN)
def test_every_epoch_of_a_child_is_loaded_and_is_a_step_on_its_way(name):
    parent = cv.load(parent_of(name))
    epochs = epochs_of(name)
    models = [cv.load(f"{name}:{epoch}") for epoch in epochs]
    assert cv.load(name).weights == models[-1].weights
    assert len({model.weights for model in models}) == len(epochs)
    layer = "stages.1.0.conv1"
    moved = [cv.run(cv.compare(parent, m, layer)).table["weight_change"].mean() for m in models]
    assert moved == sorted(moved)
    assert moved[0] > 0
    assert embedded_ids().index(parent.card.id) < embedded_ids().index(name)
    with pytest.raises(cv.ModelError, match="not 999"):
        cv.load(f"{name}:999")
    with pytest.raises(cv.ModelError, match="no epochs"):
        cv.load(f"{parent.card.id}:1")
