"""Occlusion of pictures: against Captum, against hand computation, and its properties."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from torch import nn

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.jobs import run
from cnnvis_core.occlusion import default_patch, occlude, occluder_for
from cnnvis_core.occlusion.choice import TRIAL
from tests.support import picture_model, small_network


def captum_heatmap(model, x, target, patch, stride, fill_tensor, score):
    def forward(batch):
        logits = model.module(batch)
        return logits.softmax(1) if score == "probability" else logits

    values = CaptumOcclusion(forward).attribute(
        x,
        sliding_window_shapes=(x.shape[1], *patch),
        strides=(x.shape[1], *stride),
        baselines=fill_tensor,
        target=target,
        perturbations_per_eval=4,
    )
    return values[0, 0].numpy()


@pytest.mark.parametrize("score", ["probability", "logit"])
@pytest.mark.parametrize(
    ("size", "patch", "stride"),
    [
        ((32, 32), (8, 8), (4, 4)),
        ((33, 29), (8, 8), (5, 5)),
        ((31, 40), (5, 11), (3, 7)),
        ((32, 32), (32, 32), (32, 32)),
        ((32, 32), (7, 7), (7, 7)),
        ((20, 20), (1, 20), (1, 20)),
    ],
)
def test_equals_captum(size, patch, stride, score):
    model = picture_model(small_network(), size)
    x = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
    black = ((0 - torch.tensor(model.frontend.mean)) / torch.tensor(model.frontend.std)).view(
        1, 3, 1, 1
    )
    expected = captum_heatmap(model, x, 2, patch, stride, black.expand_as(x), score)
    found = run(occlude(model, x, 2, patch, stride, "black", score))
    np.testing.assert_allclose(found.heatmap, expected, atol=1e-5)
    assert found.measured.all()


def test_a_linear_network_loses_exactly_what_was_covered():
    weight = torch.arange(2 * 3 * 6 * 8, dtype=torch.float32).view(2, -1) / 100
    linear = nn.Linear(3 * 6 * 8, 2, bias=False)
    linear.weight.data = weight
    model = picture_model(nn.Sequential(nn.Flatten(), linear), (6, 8), classes=2)
    x = torch.ones(1, 3, 6, 8)
    white = (1 - torch.tensor(model.frontend.mean)) / torch.tensor(model.frontend.std)
    found = run(occlude(model, x, 1, (2, 4), (2, 4), "white", "logit"))
    loss = (x[0] - white.view(3, 1, 1)) * weight[1].view(3, 6, 8)
    by_hand = loss.sum(0).view(3, 2, 2, 4).sum((1, 3))
    np.testing.assert_allclose(found.drop, by_hand, rtol=1e-4)


def test_the_network_s_own_answer_is_the_default_target():
    model = picture_model(small_network())
    x = torch.randn(1, 3, 32, 32)
    found = run(occlude(model, x))
    assert found.target == int(model.predict(x).argmax())
    assert found.baseline == pytest.approx(float(model.predict(x).max()))


def test_a_place_that_changes_nothing_has_no_drop_and_signs_are_kept():
    class Corners(nn.Module):
        """Class 1 likes light top left and dislikes light bottom right."""

        def forward(self, x):
            light = x.mean(1)
            score = light[:, :8, :8].mean((1, 2)) - light[:, -8:, -8:].mean((1, 2))
            return torch.stack([torch.zeros_like(score), score], 1)

    model = picture_model(Corners(), classes=2)
    found = run(occlude(model, torch.full((1, 3, 32, 32), 2.0), 1, 8, 8, "black"))
    assert found.drop[0, 0] > 0.1
    assert found.drop[-1, -1] < -0.1
    rest = found.drop.copy()
    rest[0, 0] = rest[-1, -1] = 0
    assert np.abs(rest).max() == 0


@pytest.mark.parametrize(
    ("fill", "expected"),
    [
        ("black", (0.0, 0.0, 0.0)),
        ("white", (1.0, 1.0, 1.0)),
        ("gray", (0.5, 0.5, 0.5)),
        ((0.1, 0.7, 0.3), (0.1, 0.7, 0.3)),
    ],
)
def test_fills_are_colours_before_normalisation(fill, expected):
    model = picture_model(small_network())
    x = torch.randn(1, 3, 32, 32)
    covered = occluder_for(model, x, 8, 8, fill).covered([(1, 2)])
    shown = model.frontend.denormalise(covered)[0]
    for channel, value in enumerate(expected):
        np.testing.assert_allclose(shown[channel, 8:16, 16:24], value, atol=1e-6)
    outside = torch.ones(32, 32, dtype=torch.bool)
    outside[8:16, 16:24] = False
    assert torch.equal(covered[0][:, outside], x[0][:, outside])


def test_the_mean_fill_is_the_picture_s_own_colour():
    model = picture_model(small_network())
    x = torch.randn(1, 3, 32, 32)
    covered = occluder_for(model, x, 32, 32).covered([(0, 0)])
    np.testing.assert_allclose(covered.mean((2, 3)), x.mean((2, 3)), atol=1e-6)
    assert covered[0].flatten(1).std(1).max() < 1e-6


def test_blur_keeps_light_and_loses_detail_and_noise_repeats():
    model = picture_model(small_network())
    x = model.frontend.normalise(torch.rand(1, 3, 32, 32))
    blurred = occluder_for(model, x, 32, 32, "blur").covered([(0, 0)])
    assert blurred.std() < 0.5 * x.std()
    np.testing.assert_allclose(blurred.mean(), x.mean(), atol=0.05)
    noise = [occluder_for(model, x, 32, 32, "noise").covered([(0, 0)]) for _ in range(2)]
    assert torch.equal(*noise)
    assert noise[0].std() > 0.5


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_and_depth_networks(channels):
    model = picture_model(small_network(channels), channels=channels)
    x = torch.randn(1, channels, 32, 32)
    found = run(occlude(model, x, 0, 8, 8, (1.0, 0.0, 0.0)))
    assert found.drop.shape == (4, 4)
    red = model.frontend.denormalise(
        occluder_for(model, x, 32, 32, (1.0, 0.0, 0.0)).covered([(0, 0)])
    )
    if channels == 1:
        np.testing.assert_allclose(red, 0.299, atol=1e-5)
    else:
        depth = model.frontend.denormalise(x)[0, 3].mean()
        np.testing.assert_allclose(red[0, 3], depth, atol=1e-5)


def test_previews_cover_the_whole_picture_and_end_in_the_result():
    model = picture_model(small_network(), (64, 64))
    x = torch.randn(1, 3, 64, 64)
    job = occlude(model, x, 0, 8, 2)
    previews = [progress.preview for progress in job]
    final = job.result
    assert len(previews) > 3
    first = previews[0]
    rows, cols = np.nonzero(first.measured)
    # The first batch already reaches into every quarter of the picture.
    assert {(r * 2 // 29, c * 2 // 29) for r, c in zip(rows, cols, strict=True)} >= {
        (0, 0), (0, 1), (1, 0), (1, 1)
    }  # fmt: skip
    errors = [np.abs(p.drop - final.drop).mean() for p in previews]
    assert errors[-1] == 0
    assert errors[0] > errors[len(errors) // 2] > 0
    for preview in previews:
        np.testing.assert_array_equal(preview.drop[preview.measured], final.drop[preview.measured])


@pytest.mark.parametrize(("engine", "positions"), [("full", 7 * 7), ("incremental", TRIAL)])
def test_the_network_runs_once_a_position_and_incrementally_for_a_trial_only(engine, positions):
    model = picture_model(small_network(), (32, 32))
    seen = []
    count = model.module[0].register_forward_hook(lambda m, a, out: seen.append(len(out)))
    run(occlude(model, torch.randn(1, 3, 32, 32), 0, 8, 4, engine=engine))
    count.remove()
    assert sum(seen) == 1 + positions


def test_closing_a_job_leaves_the_model_as_it_was():
    model = picture_model(small_network(), (64, 64))
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    job = occlude(model, torch.randn(1, 3, 64, 64), 0, 8, 2)
    next(job)
    job.close()
    del job
    gc.collect()
    assert not any(m._forward_hooks or m._backward_hooks for m in model.module.modules())
    assert not model.module.training
    assert not any(p.requires_grad for p in model.module.parameters())
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name])
    assert torch.is_inference_mode_enabled() is False
    assert torch.is_grad_enabled() is True


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"patch": 0}, "above 0"),
        ({"patch": 8, "stride": 0}, "above 0"),
        ({"patch": 8, "stride": 9}, "gaps"),
        ({"patch": 2.5, "stride": 1}, "whole numbers"),
        ({"patch": "big"}, "number of input pixels"),
        ({"patch": (1, 2, 3)}, "number of input pixels"),
        ({"fill": "pink"}, "not known"),
        ({"fill": (0.1, 2.0, 0.3)}, "from 0 to 1"),
        ({"score": "luck"}, "'probability' or 'logit'"),
        ({"engine": "steam"}, "'auto'"),
    ],
)
def test_bad_settings_get_one_sentence(arguments, words):
    model = picture_model(small_network())
    with pytest.raises(InputError, match=words) as caught:
        run(occlude(model, torch.randn(1, 3, 32, 32), 0, **arguments))
    assert "\n" not in str(caught.value)


def test_a_class_that_is_not_there():
    model = picture_model(small_network())
    for target in (5, -1, "unicorn"):
        with pytest.raises(ModelError, match=r"class"):
            occlude(model, torch.randn(1, 3, 32, 32), target)
    by_name = run(occlude(model, torch.ones(1, 3, 32, 32), "class 3"))
    assert by_name.target == 3


def test_the_default_patch_is_the_usual_one_at_224_pixels():
    assert default_patch(picture_model(small_network(), (224, 224))) == (32, 16)
    patch, stride = default_patch(picture_model(small_network(), (64, 64)))
    assert 0 < stride <= patch < 32


def test_batches_do_not_change_the_result(monkeypatch):
    model = picture_model(small_network(), (32, 32))
    x = torch.randn(1, 3, 32, 32)
    whole = run(occlude(model, x, 0, 8, 4))
    monkeypatch.setattr("cnnvis_core.occlusion.evaluators.batch_size", lambda *_: 3)
    np.testing.assert_allclose(run(occlude(model, x, 0, 8, 4)).drop, whole.drop, atol=1e-6)


def test_running_out_of_memory_halves_the_batch(monkeypatch):
    class Narrow(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = small_network()

        def forward(self, x):
            if len(x) > 4:
                raise torch.OutOfMemoryError("out of memory")
            return self.inner(x)

    model = picture_model(Narrow())
    found = run(occlude(model, torch.randn(1, 3, 32, 32), 0, 8, 4))
    assert found.measured.all()
