"""Gradient maps against computations by hand, promises of the methods, and ground truth."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torchvision
from torch import nn

import cnnvis_core as cv
from cnnvis_core.attribution import METHODS, attribute, compare_methods, likeness, quarter_share
from cnnvis_core.models.twin import Twin
from tests.support import lively


class Both(nn.Module):
    """ReLUs of every make: a module, one in place, one shared, a function, a method."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.c, self.d = nn.Conv2d(6, 8, 3, stride=2), nn.Conv2d(8, 8, 3)
        self.relu, self.inplace = nn.ReLU(), nn.ReLU(inplace=True)
        self.fc = nn.Linear(8, 4)

    def forward(self, x):
        y = self.inplace(self.a(x))
        y = self.relu(self.b(y) + y)
        y = self.relu(self.c(F.max_pool2d(y, 2)))
        return self.fc(F.relu(self.d(y)).mean((2, 3)))


@pytest.fixture(scope="module")
def model() -> cv.Model:
    return cv.from_module(Both(), (3, 24, 24))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.randn(1, 3, 24, 24, generator=torch.Generator().manual_seed(3))


class Rule(torch.autograd.Function):
    """ReLU with the backward rule of Springenberg or of Zeiler, written out."""

    @staticmethod
    def forward(ctx, value, guided):
        ctx.save_for_backward(value)
        ctx.guided = guided
        return value.clamp_min(0)

    @staticmethod
    def backward(ctx, grad):
        (value,) = ctx.saved_tensors
        grad = grad.clamp_min(0)
        return (grad * (value > 0) if ctx.guided else grad), None


def by_hand(net: Both, x: torch.Tensor, target: int, guided: bool) -> torch.Tensor:
    x = x.clone().requires_grad_()
    y = Rule.apply(net.a(x), guided)
    y = Rule.apply(net.b(y) + y, guided)
    y = Rule.apply(net.c(F.max_pool2d(y, 2)), guided)
    logits = net.fc(Rule.apply(net.d(y), guided).mean((2, 3)))
    return torch.autograd.grad(logits[0, target], x)[0][0]


@pytest.mark.parametrize("method", ["guided_backprop", "deconvolution"])
def test_rules_hold_for_relus_of_every_make(model, x, method):
    for target in range(4):
        found = attribute(model, x, target, method).values
        expected = by_hand(model.module, x, target, method == "guided_backprop")
        np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_a_twin_answers_as_the_network_does(model, x):
    twin = Twin(model.recording((3, 24, 24)))
    with torch.no_grad():
        torch.testing.assert_close(twin(x), model.module(x))
    assert sum(isinstance(part, nn.ReLU) for part in twin.modules()) == 4


def test_saliency_and_its_product_are_the_gradient(model, x):
    inside = x.clone().requires_grad_()
    gradient = torch.autograd.grad(model.module(inside)[0, 2], inside)[0]
    np.testing.assert_allclose(attribute(model, x, 2, "saliency").values, gradient[0], atol=1e-6)
    product = attribute(model, x, 2, "input_x_gradient")
    np.testing.assert_allclose(product.values, (gradient * x)[0], atol=1e-6)
    assert product.completeness_gap is None


@pytest.mark.parametrize("method", ["integrated_gradients", "deeplift"])
def test_what_promises_to_be_complete_is(model, x, method):
    start = torch.full_like(x, 0.3)
    for target in (0, 3):
        found = attribute(model, x, target, method, baseline=start)
        with torch.no_grad():
            ends = model.module(torch.cat([x, start]))[:, target]
        assert found.values.sum() == pytest.approx(float(ends[0] - ends[1]), rel=0.011)
        assert found.completeness_gap <= 0.01
        assert found.score == pytest.approx(float(ends[0]), abs=1e-5)


@pytest.mark.parametrize(
    "name", ["resnet18", "inception_v3", "densenet121", "mobilenet_v2", "efficientnet_b0", "vgg11"]
)
def test_integrated_gradients_are_complete_on_networks_of_torchvision(name):
    extra = {"init_weights": False, "aux_logits": False} if name == "inception_v3" else {}
    torch.manual_seed(0)
    module = lively(torchvision.models.get_model(name, **extra), (3, 96, 96))
    network = cv.from_module(module, (3, 96, 96))
    x = torch.rand(1, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    assert attribute(network, x, 7).completeness_gap <= 0.01


def test_grad_cam_is_the_weighed_sum_of_maps(model, x):
    found = attribute(model, x, 1, "grad_cam", layer="c").values
    maps = cv.feature_maps(model, x, "c", rectified=True)["c"].clone().requires_grad_()
    logits = model.module.fc(F.relu(model.module.d(maps[None])).mean((2, 3)))
    weights = torch.autograd.grad(logits[0, 1], maps)[0].mean((1, 2))
    cam = (weights[:, None, None] * maps).sum(0).detach()
    expected = F.interpolate(cam[None, None], (24, 24), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("reduction", ["mean", "maximum"])
def test_a_unit_is_explained_by_its_own_gradient(model, x, reduction):
    found = attribute(model, x, None, "saliency", "b", 4, reduction)
    inside = x.clone().requires_grad_()
    unit = model.module.b(F.relu(model.module.a(inside)))[0, 4]
    score = unit.mean() if reduction == "mean" else unit.max()
    expected = torch.autograd.grad(score, inside)[0][0]
    np.testing.assert_allclose(found.values, expected, atol=1e-6)
    assert found.score == pytest.approx(float(score.detach()), abs=1e-5)


def test_nothing_is_left_behind(model, x):
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    noise = torch.random.get_rng_state()
    for method in METHODS:
        attribute(model, x, 0, method)
    assert torch.equal(noise, torch.random.get_rng_state())
    for part in model.module.modules():
        assert not part._forward_hooks
        assert not part._forward_pre_hooks
        assert not part._backward_hooks
        assert not part.training
    for name, weight in model.module.named_parameters():
        assert weight.grad is None
        assert not weight.requires_grad
        assert torch.equal(weight, before[name])
    assert x.grad is None
    assert not x.requires_grad


QUESTIONS = (
    (("guided_backprop", 1), ("integrated_gradients", 3)),
    (("deconvolution", 0), ("saliency", 2)),
    (("deeplift", 2), ("integrated_gradients", 1)),
    (("smoothgrad", 2), ("smoothgrad", 1)),
    (("grad_cam", 3), ("guided_backprop", 0)),
)


@pytest.mark.parametrize("pair", QUESTIONS, ids=lambda pair: f"{pair[0][0]}-{pair[1][0]}")
def test_two_visitors_at_once_get_what_each_gets_alone(pair, x):
    def ask(model, method, target):
        return attribute(model, x, target, method).values

    alone = [ask(cv.from_module(Both(), (3, 24, 24)), *question) for question in pair]
    for _ in range(4):
        # A new model every round: its pass is recorded while both are at it.
        shared = cv.from_module(Both(), (3, 24, 24))
        start = threading.Barrier(len(pair))

        def visit(question, model=shared, start=start):
            start.wait(60)
            return [ask(model, *question) for _ in range(4)]

        with ThreadPoolExecutor(len(pair)) as threads:
            for found, expected in zip(threads.map(visit, pair), alone, strict=True):
                # Torch may add up in another order in another thread.
                rounding = 1e-5 * np.abs(expected).max()
                for values in found:
                    np.testing.assert_allclose(values, expected, rtol=0, atol=rounding)


def test_smoothgrad_depends_on_its_seed_alone(model, x):
    first, again = (attribute(model, x, 0, "smoothgrad", seed=5).values for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, attribute(model, x, 0, "smoothgrad", seed=6).values)


def test_methods_that_would_be_silently_wrong_are_refused():
    torch.manual_seed(0)
    smooth = cv.from_module(
        nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
        ),
        (3, 12, 12),
    )
    x = torch.randn(1, 3, 12, 12)
    found = cv.run(compare_methods(smooth, x, METHODS, target=1))
    assert set(found.refused) == {"guided_backprop", "deconvolution", "deeplift"}
    assert "silu" in found.refused["guided_backprop"]
    assert set(found.found) == set(METHODS) - set(found.refused)


@pytest.mark.parametrize(
    ("cut", "word"),
    [
        (lambda x: F.threshold(x, 0.0, 0.0), "threshold"),
        (lambda x: torch.where(x > 0, x, torch.zeros_like(x)), "where"),
        (lambda x: torch.maximum(x, torch.zeros_like(x)), "maximum"),
        (lambda x: F.relu(x) * x, "mul"),
        (lambda x: F.relu(F.hardtanh(x)), "hardtanh"),
        (lambda x: F.relu(x).softmax(1), "softmax"),
    ],
)
def test_what_only_looks_like_a_relu_is_refused(cut, word):
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(F.relu(cut(self.conv(x))).mean((2, 3)))

    odd = cv.from_module(Odd(), (3, 12, 12))
    with pytest.raises(cv.ModelError, match=word):
        attribute(odd, torch.randn(1, 3, 12, 12), 0, "guided_backprop")


def test_clamping_at_zero_is_a_relu():
    torch.manual_seed(0)

    class Clamped(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.fc(torch.clamp(self.conv(x), min=0).mean((2, 3)))

    clamped = cv.from_module(Clamped(), (3, 12, 12))
    x = torch.randn(1, 3, 12, 12)
    net = clamped.module
    inside = x.clone().requires_grad_()
    score = net.fc(Rule.apply(net.conv(inside), True).mean((2, 3)))[0, 1]
    expected = torch.autograd.grad(score, inside)[0][0]
    found = attribute(clamped, x, 1, "guided_backprop").values
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_grad_cam_weighs_the_maps_that_all_of_the_answer_goes_through():
    torch.manual_seed(0)
    module = torchvision.models.get_model("googlenet", init_weights=False, aux_logits=False)
    network = cv.from_module(lively(module, (3, 96, 96)), (3, 96, 96))
    x = torch.rand(1, 3, 96, 96)
    net = network.module
    kept = {}
    handle = net.inception5b.register_forward_hook(lambda _, __, out: kept.update(maps=out))
    with torch.enable_grad():
        logits = net(x.clone().requires_grad_())
    handle.remove()
    weights = torch.autograd.grad(logits[0, 3], kept["maps"])[0].mean((2, 3), keepdim=True)
    cam = (weights * kept["maps"]).sum(1, keepdim=True)
    expected = F.interpolate(cam, (96, 96), mode="bilinear", align_corners=False)
    found = attribute(network, x, 3, "grad_cam").values
    np.testing.assert_allclose(found, expected[0].detach(), rtol=1e-3, atol=1e-5)


def test_grad_cam_of_a_sound_passes_both_poolings():
    sound = cv.load("soundnet-esc10")
    x = torch.randn(1, 1, 64, 313, generator=torch.Generator().manual_seed(0))
    values = attribute(sound, x, 0, "grad_cam").values
    assert values.shape == (1, 64, 313)
    assert np.ptp(values) > 0


def test_grad_cam_refuses_layers_without_maps(model, x):
    with pytest.raises(cv.ModelError, match="layer with maps"):
        attribute(model, x, 0, "grad_cam", layer="fc")


def test_capped_relus_follow_the_rule_inside_their_range():
    torch.manual_seed(1)
    net = nn.Sequential(
        nn.Conv2d(3, 5, 3), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)
    )
    model = cv.from_module(net, (3, 10, 10))
    x = 9 * torch.randn(1, 3, 10, 10)
    maps = model.module[0](x)
    grad = (model.module[4].weight[1] / 64)[None, :, None, None].expand_as(maps).clamp_min(0)
    passed = grad * ((maps > 0) & (maps < 6))
    assert bool((maps > 6).any())
    expected = F.conv_transpose2d(passed, model.module[0].weight)
    found = attribute(model, x, 1, "guided_backprop").values
    np.testing.assert_allclose(found, expected[0], atol=1e-6)


def test_shuffled_weights_change_the_map_and_spare_the_network(model, x):
    before = model.predict(x)
    true = attribute(model, x, 0)
    control = attribute(model, x, 0, shuffle_weights=True)
    assert likeness(true.heatmap, control.heatmap) < 0.7
    torch.testing.assert_close(model.predict(x), before)
    np.testing.assert_array_equal(attribute(model, x, 0).values, true.values)


def test_bad_questions_get_a_sentence(model, x):
    with pytest.raises(cv.InputError, match="no method"):
        attribute(model, x, 0, "magic")
    with pytest.raises(cv.InputError, match="name the layer"):
        attribute(model, x, channel=2)
    with pytest.raises(cv.ModelError, match="units 0 to 5"):
        attribute(model, x, layer="a", channel=6)
    with pytest.raises(cv.ModelError, match="classes 0 to 3"):
        attribute(model, x, 4)
    with pytest.raises(cv.ModelError, match="no maps on the way"):
        attribute(model, x, method="grad_cam", layer="a", channel=1)
    with pytest.raises(cv.InputError, match="baseline"):
        attribute(model, x, 0, baseline=x[:, :, 1:])


def test_shares_and_likeness():
    heat = np.zeros((6, 8), np.float32)
    heat[0, 0], heat[5, 7], heat[5, 0] = 3.0, 1.0, -9.0
    assert quarter_share(heat, 0, 0) == pytest.approx(0.75)
    assert quarter_share(heat, 1, 1) == pytest.approx(0.25)
    assert quarter_share(-np.abs(heat), 0, 0) == 0
    noise = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    assert likeness(noise, 3 * noise + 1) == pytest.approx(1)
    assert likeness(noise, -noise) == pytest.approx(-1)
    assert likeness(noise, np.ones_like(noise)) == 0
    # Two unrelated spots on nothing are not alike, although most of both is the same nothing.
    one, other = np.zeros((2, 64, 64), np.float32)
    one[5:15, 5:15], other[40:50, 40:50] = np.random.default_rng(1).random((2, 10, 10))
    assert abs(likeness(one, other)) < 0.1
