"""What is said to have changed, and what is not."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import cnnvis_core as cv
from cnnvis_core.datasets import MemoryDataset, sample_tiles
from cnnvis_core.transfer import align, common_layers, compare
from cnnvis_core.transfer.pictures import Drawing, drawn
from tests.datasets.piles import pictures
from tests.support import small_network, sound_model

LAYER = "2"
CHANGED = (0, 2, 3, 7, 11)


@pytest.fixture(scope="module")
def model() -> cv.Model:
    return cv.from_module(small_network(), (3, 32, 32))


@pytest.fixture(scope="module")
def inputs() -> torch.Tensor:
    return torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def shuffled(model: cv.Model, layer: str, units, seed: int = 0) -> cv.Model:
    """The same network, the weights of some kernels in another order."""
    module = copy.deepcopy(model.module)
    generator = torch.Generator().manual_seed(seed)
    weight = module.get_submodule(layer).weight.data
    for unit in units:
        flat = weight[unit].flatten()
        weight[unit] = flat[torch.randperm(len(flat), generator=generator)].reshape(
            weight[unit].shape
        )
    return replace(model, module=module)


def test_a_network_against_itself_has_not_changed(model, inputs):
    twin = replace(model, module=copy.deepcopy(model.module))
    found = cv.run(compare(model, twin, LAYER, inputs, True, steps=16, size=32))
    table = found.table
    for column in ("weight_change", "response_change", "picture_change", "gram_distance"):
        assert table[column].abs().max() < 1e-6, column
    assert (table["weight_noise"] == 0).all()
    assert table["response_noise"].max() < 1e-9
    assert (table["picture_noise"] > 1e-4).all()  # other seeds draw other pictures
    assert found.cka == pytest.approx(1)
    assert found.cka_noise == pytest.approx(0, abs=1e-9)
    assert found.inputs == 64


@pytest.mark.parametrize("name", ["resnet64-tiny-imagenet"])
def test_ten_shuffled_kernels_are_the_first_ten(name):
    model = cv.load(name)
    changed = tuple(range(3, 63, 6))
    other = shuffled(model, "stages.1.0.conv1", changed)
    alone = cv.run(compare(model, other, "stages.1.0.conv1"))
    assert set(alone.table["unit"][:10]) == set(changed)
    assert (alone.table["weight_change"][10:] == 0).all()
    assert alone.table["correlation"].isna().all()
    shown = cv.run(compare(model, other, "stages.1.0.conv1", sample_tiles("image"), most=64))
    assert set(shown.table["unit"][:10]) == set(changed)
    assert (shown.table["response_change"][:10] > 20 * shown.table["response_noise"][:10]).all()
    assert (shown.table["response_change"][10:] == 0).all()
    assert 0 < shown.cka < 1
    behind = cv.run(compare(model, other, "stages.1.0.conv2", sample_tiles("image"), most=64))
    assert (behind.table["weight_change"] == 0).all()
    assert (behind.table["response_change"] > 0).all()


def test_correlations_are_those_of_numpy(model, inputs):
    other = cv.from_module(small_network(seed=3), (3, 32, 32))
    found = cv.run(compare(model, other, LAYER, inputs)).table.set_index("unit")
    maps = [cv.feature_maps(m, inputs[:1], LAYER)[LAYER] for m in (model, other)]
    assert maps[0].shape[0] == len(found)
    with torch.no_grad():
        answers = [m.module[:3](inputs).transpose(0, 1).flatten(1).numpy() for m in (model, other)]
    for unit in range(len(found)):
        expected = np.corrcoef(answers[0][unit], answers[1][unit])[0, 1]
        assert found.loc[unit, "correlation"] == pytest.approx(expected, abs=1e-6)


def test_the_noise_of_a_correlation_is_its_spread_over_other_inputs(model):
    other = cv.from_module(small_network(seed=3), (3, 32, 32))
    said, measured = [], []
    for seed in range(12):
        x = torch.rand(48, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
        x = x * torch.rand(48, 1, 1, 1, generator=torch.Generator().manual_seed(100 + seed))
        table = cv.run(compare(model, other, LAYER, x)).table.sort_values("unit")
        said.append(table["response_noise"].to_numpy())
        measured.append(table["correlation"].to_numpy())
    ratio = np.mean(said, 0) / np.std(measured, 0)
    assert 0.5 < np.median(ratio) < 2


def test_a_unit_that_fell_silent_has_changed_and_one_that_always_was_has_not(model, inputs):
    base = copy.deepcopy(model.module)
    base[2].weight.data[5] = 0
    after = copy.deepcopy(base)
    after[2].weight.data[1] = 0
    models = [replace(model, module=module) for module in (base, after)]
    table = cv.run(compare(*models, LAYER, inputs)).table
    assert table["unit"][0] == 1
    assert table["correlation"][0] == 0
    assert table.set_index("unit").loc[5, "response_change"] == 0


def test_controls_tell_the_noise_of_the_training(model, inputs):
    after = shuffled(model, LAYER, CHANGED)
    controls = [shuffled(model, LAYER, CHANGED, seed) for seed in (1, 2)]
    found = cv.run(
        compare(model, after, LAYER, inputs, [0, 1], controls=controls, steps=16, size=32)
    )
    table = found.table.set_index("unit")
    assert found.controls == 2
    for unit in CHANGED:
        assert table.loc[unit, "weight_noise"] > 0.5
        assert table.loc[unit, "response_noise"] > 0.1
    rest = [unit for unit in table.index if unit not in CHANGED]
    assert (table.loc[rest, ["weight_noise", "response_noise"]] == 0).all(axis=None)
    assert table.loc[0, "picture_noise"] > 1e-4
    assert table.loc[1, "picture_noise"] == pytest.approx(0, abs=1e-9)


def test_blank_pictures_are_found_and_no_others(model):
    module = copy.deepcopy(model.module)
    dead = (1, 4, 9)
    for unit in dead:
        module[2].weight.data[unit] = 0
    after = replace(model, module=module)
    found = cv.run(compare(model, after, LAYER, None, True, steps=24, size=32, seeds=0))
    assert found.failed == dead
    assert all(found.pictures[unit].failed == "after" for unit in dead)
    table = found.table.set_index("unit")
    assert (table.loc[list(dead), "failed"] == "after").all()
    for by, column in (("picture", "picture_change"), ("gram", "gram_distance")):
        assert table.loc[list(dead), column].isna().all()
        assert set(found.ranked(by)["unit"].tail(3)) == set(dead)
    assert (table.drop(index=list(dead))["failed"] == "").all()


def test_pictures_that_are_compared_have_one_start(model):
    how = Drawing(steps=1, size=32, seed=4, seeds=1)
    steps = drawn(model, model, LAYER, [0, 1], how, ())
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            found = stop.value
            break
    for pair in found.pairs.values():
        assert torch.equal(pair.before, pair.after)
    assert (found.cosine_noise < 1 - 1e-6).all()


def test_every_layer_is_aligned_with_every_other(model, inputs):
    other = cv.from_module(small_network(seed=3), (3, 32, 32))
    found = cv.run(align(model, other, inputs, ["0", "2"], ["0", "2", "6"]))
    assert found.values.shape == (2, 3)
    assert np.abs(found.values).max() <= 1
    own = cv.run(align(model, model, inputs, ["0", "2"]))
    np.testing.assert_allclose(own.values, own.values.T)
    np.testing.assert_allclose(np.diag(own.values), 1)
    alone = cv.run(compare(model, other, LAYER, inputs)).cka
    assert found.values[1, 1] == pytest.approx(alone, rel=1e-9)
    assert found.table().loc["2", "6"] == found.values[1, 2]


def test_other_heads_may_be_compared_but_not_other_layers(model):
    other = cv.from_module(small_network(classes=9), (3, 32, 32))
    assert "6" not in common_layers(model, other)
    cv.run(compare(model, other, "2"))
    with pytest.raises(cv.ModelError, match="choose a layer that both have"):
        compare(model, other, "6")
    with pytest.raises(cv.ModelError, match="same inputs"):
        compare(model, cv.from_module(small_network(), (3, 40, 40)), "2")


def test_bad_values_get_one_sentence(model, inputs):
    for wrong in (
        {"most": 3}, {"most": 16.5}, {"maximize": 1}, {"maximize": ["a"]},
        {"seeds": 99}, {"seed": -1}, {"layer": "9"}, {"maximize": [99]},
        {"images": inputs[:3]}, {"images": torch.rand(20, 1, 32, 32)},
        {"images": torch.full((20, 3, 32, 32), torch.nan)},
        {"images": MemoryDataset(["a"] * 9, [b"x"] * 9, [-1] * 9)},
    ):  # fmt: skip
        with pytest.raises(cv.CnnvisError):
            cv.run(compare(model, model, **{"layer": LAYER, **wrong}))
    with pytest.raises(cv.ModelError):
        align(model, model, inputs, "no layer")
    with pytest.raises(cv.InputError, match="ranked by"):
        cv.run(compare(model, model, LAYER)).ranked("size")


def test_nothing_is_left_behind_also_after_a_cancel(model, inputs):
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    with compare(model, model, LAYER, inputs, [0], steps=8, size=32) as job:
        for _ in range(4):
            next(job)
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name])
    assert not any(part._forward_hooks for part in model.module.modules())
    assert not any(weight.requires_grad for weight in model.module.parameters())


def test_sounds_are_compared(tmp_path):
    module = nn.Sequential(*small_network(1))
    a = sound_model(module)
    b = cv.load("soundnet-esc10")
    assert a.modality == b.modality
    twin = replace(b, module=copy.deepcopy(b.module))
    found = cv.run(compare(b, twin, "stem.0", sample_tiles("audio"), most=16))
    assert found.table["response_change"].abs().max() < 1e-9
    assert found.inputs >= 8


@pytest.mark.parametrize(("count", "told"), [(8, False), (23, False), (24, True), (63, True)])
def test_a_spread_is_told_only_of_several_batches_and_no_input_is_lost(model, inputs, count, told):
    other = cv.from_module(small_network(seed=3), (3, 32, 32))
    found = cv.run(compare(model, other, LAYER, inputs[:count]))
    assert np.isfinite(found.cka_noise) == told
    assert np.isfinite(found.cka)
    with torch.no_grad():
        answers = [
            m.module[:3](inputs[:count]).transpose(0, 1)[3].flatten() for m in (model, other)
        ]
    expected = np.corrcoef(answers[0], answers[1])[0, 1]
    assert found.table.set_index("unit").loc[3, "correlation"] == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_units_of_transposed_convolutions_own_their_kernels(groups):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ConvTranspose2d(8, 8, 2, 2, groups=groups),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    model = cv.from_module(module, (3, 16, 16))
    after = copy.deepcopy(model.module)
    x = torch.rand(16, 3, 16, 16)
    per_group = 8 // groups
    for unit in (1, 5):
        group, own = divmod(unit, per_group)
        after[1].weight.data[group * per_group : (group + 1) * per_group, own] *= -1.0
    table = cv.run(compare(model, replace(model, module=after), "1", x)).table
    assert set(table["unit"][:2]) == {1, 5}
    assert set(table.sort_values("weight_change", ascending=False)["unit"][:2]) == {1, 5}


def test_parametrised_kernels_are_read():
    parts = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        first = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 6, 3, bias=False))
        parts.append(nn.Sequential(first, nn.AdaptiveAvgPool2d(1), nn.Flatten()))
    a, b = (cv.from_module(module, (3, 16, 16)) for module in parts)
    assert cv.run(compare(a, b, "0")).table["weight_change"].min() > 0.5
    assert cv.run(compare(a, a, "0")).table["weight_change"].max() == 0


def test_pictures_join_the_measures_of_responses(model, inputs):
    other = shuffled(model, LAYER, CHANGED)
    measured = cv.run(compare(model, other, LAYER, inputs))
    drawn_too = cv.run(compare(model, other, LAYER, None, [3, 1], steps=4, size=32))
    whole = measured.with_pictures(drawn_too)
    assert whole.table["unit"].tolist() == measured.table["unit"].tolist()
    row = whole.table.set_index("unit").loc[3]
    assert np.isfinite([row["response_change"], row["picture_change"]]).all()
    assert whole.pictures.keys() == {1, 3}
    excess = measured.table["response_change"] - measured.table["response_noise"]
    np.testing.assert_allclose(measured.table["response_excess"], excess)


def test_a_dataset_is_drawn_from_at_random(model):
    files = pictures(60)
    dataset = MemoryDataset(list(files), list(files.values()), [-1] * 60)
    some = cv.run(compare(model, model, LAYER, dataset, most=20))
    assert some.inputs == 20
    again = cv.run(compare(model, model, LAYER, dataset, most=20))
    np.testing.assert_array_equal(some.table["response_noise"], again.table["response_noise"])
