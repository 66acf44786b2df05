"""The plan of a network says what is connected to what."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import nn

import cnnvis_core as cv
from cnnvis_core.network import connections, plan, stages
from cnnvis_core.render import diagram


def untrained(name: str, side: int = 96) -> cv.Model:
    extra = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(0)
    return cv.from_module(torchvision.models.get_model(name, **extra), (3, side, side), name=name)


def test_a_residual_block_joins_its_two_ways():
    found = connections(untrained("resnet18"))
    assert found["conv1"] == ()
    assert found["bn1"] == ("conv1",)
    # The ReLU is called twice, first behind bn1; the next block reads what it made.
    assert set(found["layer2.0.bn2"]) == {"layer2.0.conv2"}
    assert set(found["layer2.0.downsample.0"]) == set(found["layer2.0.conv1"])
    assert set(found["layer2.1.conv1"]) == {"layer2.0.bn2", "layer2.0.downsample.1"}
    assert set(found["layer2.1.bn2"]) == {"layer2.1.conv2"}


def test_inception_s_branches_meet_in_what_reads_them():
    found = connections(untrained("googlenet"))
    following = set(found["inception3b.branch1.conv"])
    assert following == {
        "inception3a.branch1.bn",
        "inception3a.branch2.1.bn",
        "inception3a.branch3.1.bn",
        "inception3a.branch4.1.bn",
    }


def test_every_layer_of_a_dense_block_reads_all_before_it():
    found = connections(untrained("densenet121"))
    before = found["features.denseblock1.denselayer4.norm1"]
    assert set(before) >= {f"features.denseblock1.denselayer{i}.conv2" for i in (1, 2, 3)}


@pytest.mark.parametrize(
    "name",
    [
        *("alexnet", "resnet50", "densenet201", "inception_v3", "efficientnet_b0", "regnet_y_8gf"),
        *("convnext_tiny", "shufflenet_v2_x1_0", "mobilenet_v3_large", "squeezenet1_1"),
    ],
)
@pytest.mark.parametrize("every", [False, True])
def test_plans_hold_every_layer_once_and_boxes_do_not_overlap(name, every):
    model = untrained(name, 128)
    found = plan(model, every)
    names = [box.layer.name for box in found.boxes]
    assert len(names) == len(set(names))
    if every:
        assert set(names) == {layer.name for layer in model.layers}
    assert len({(box.stage, box.column, box.lane) for box in found.boxes}) == len(names)
    place = {box.layer.name: box for box in found.boxes}
    for source, reader in found.links:
        assert (place[source].stage, place[source].column) < (
            place[reader].stage, place[reader].column,
        ) or place[source].stage < place[reader].stage  # fmt: skip
    assert sum(box.parameters for box in found.boxes) <= sum(
        weight.numel() for weight in model.module.parameters()
    )
    if every:
        assert sum(box.parameters for box in found.boxes) == pytest.approx(
            # Inception's auxiliary head answers in training alone.
            sum(
                weight.numel()
                for part, weight in model.module.named_parameters()
                if not part.startswith("AuxLogits")
            ),
            rel=0.01,
        )
    spec = diagram.network(found, names[0]).to_dict()
    assert spec["height"] < 4000


def test_stages_are_maps_of_one_size():
    model = untrained("efficientnet_b0", 96)
    sizes = [stage.size for stage in stages(model.layers)]
    assert sizes == [(48, 48), (24, 24), (12, 12), (6, 6), (3, 3), (1, 1)]


def test_sound_has_a_plan_too():
    model = cv.load("soundnet-esc10")
    found = plan(model)
    assert {box.family for box in found.boxes} >= {"convolution", "linear"}
    assert len(found.stages) > 2


def test_a_network_without_convolutions_is_drawn_with_all_its_layers():
    class Mean(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    drawn = plan(cv.from_module(nn.Sequential(nn.ReLU(), nn.Tanh(), Mean()), (3, 8, 8)))
    assert [box.layer.name for box in drawn.boxes] == ["0", "1", "2"]
    assert diagram.network(drawn).to_dict()["layer"]
