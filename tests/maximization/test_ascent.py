"""The ascent finds what is known to be best, works no more than it must, and leaves no trace."""

from __future__ import annotations

import gc
from itertools import pairwise

import numpy as np
import pytest
import torch
import torchvision
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

import cnnvis_core as cv
from cnnvis_core import maximization as mx
from cnnvis_core.maximization import Settings, Transforms, ascent
from tests.support import lively

STILL = Transforms(0, 0.0, 0.0, 0)
PLAIN = Settings(transforms=STILL)
SHAKEN = Settings(transforms=Transforms(3, 0.1, 10.0, 4))


def small(seed: int = 0, channels: int = 3) -> cv.Model:
    torch.manual_seed(seed)
    net = nn.Sequential(
        nn.Conv2d(channels, 6, 5, padding=2), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 8, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 4),
    )  # fmt: skip
    mean, std = (0.4, 0.5, 0.6, 0.3)[:channels], (0.2, 0.25, 0.3, 0.5)[:channels]
    return cv.from_module(lively(net, (channels, 32, 32)), (channels, 32, 32), mean, std)


def hooked(model: cv.Model, layer: str, images: torch.Tensor) -> torch.Tensor:
    """Maps by a hook set by hand, of pictures in [0, 1]."""
    seen: list[torch.Tensor] = []
    handle = dict(model.module.named_modules())[layer].register_forward_hook(
        lambda _, __, output: seen.append(output.clone()) or None
    )
    with torch.no_grad():
        model.module(model.frontend.normalise(images))
    handle.remove()
    return seen[0]


def test_under_a_norm_limit_a_linear_unit_s_optimum_is_its_kernel():
    torch.manual_seed(0)
    kernels = nn.Conv2d(3, 4, 16)
    std = (0.2, 0.25, 0.3)
    model = cv.from_module(nn.Sequential(kernels, nn.Flatten()), (3, 16, 16), (0.4, 0.5, 0.6), std)
    limit = 1.5
    settings = Settings("pixels", optimizer="gradient", rate=0.5, norm=limit, transforms=STILL)
    found = cv.run(cv.maximize(model, "0", [1, 3], steps=200, size=16, settings=settings))
    in_pixels = kernels.weight.detach() / torch.tensor(std).view(1, 3, 1, 1)
    for picture, unit in zip(found.images, (1, 3), strict=True):
        best = in_pixels[unit] / in_pixels[unit].norm() * limit
        torch.testing.assert_close(picture - 0.5, best, atol=2e-4, rtol=0)
        cosine = torch.cosine_similarity((picture - 0.5).flatten(), best.flatten(), 0)
        assert float(cosine) > 0.99999
    assert not found.blank.any()


def test_the_same_seed_gives_the_same_picture_to_the_bit_and_another_one_not():
    model = small()
    first, second, other = (
        cv.run(cv.maximize(model, "4", [2], 12, 32, seed, settings=SHAKEN)) for seed in (5, 5, 6)
    )
    assert torch.equal(first.images, second.images)
    np.testing.assert_array_equal(first.activation, second.activation)
    assert not torch.allclose(first.images, other.images, atol=1e-3)


def test_a_unit_s_picture_does_not_depend_on_its_company(monkeypatch):
    model = small()
    together = cv.run(cv.maximize(model, "4", None, 8, 32, settings=SHAKEN))
    alone = cv.run(cv.maximize(model, "4", 5, 8, 32, settings=SHAKEN))
    torch.testing.assert_close(together.images[5], alone.images[0], atol=1e-4, rtol=0)
    monkeypatch.setattr(ascent, "MOST_AT_ONCE", 3)
    in_parts = cv.run(cv.maximize(model, "4", None, 8, 32, settings=SHAKEN))
    torch.testing.assert_close(together.images, in_parts.images, atol=1e-4, rtol=0)


@pytest.mark.parametrize("settings", [PLAIN, Settings()])
def test_scores_and_maps_are_the_network_s_own(settings):
    model = small()
    found = cv.run(cv.maximize(model, "4", [1, 6], 30, 32, settings=settings))
    for images, score, shown in (
        (found.starts, found.start_activation, found.start_maps),
        (found.images, found.end_activation, found.end_maps),
    ):
        maps = hooked(model, "4", images)
        expected = torch.stack([maps[0, 1], maps[1, 6]]).numpy()
        np.testing.assert_allclose(shown, expected, atol=1e-5)
        np.testing.assert_allclose(score, expected.mean((1, 2)), atol=1e-5)
    assert (found.end_activation > found.start_activation).all()
    if settings is PLAIN:
        assert found.activation[0] == pytest.approx(found.start_activation, abs=1e-5)
    assert 0 <= float(found.images.min()) < float(found.images.max()) <= 1


def test_behind_the_non_linearity_is_what_the_next_layer_gets():
    model = small()
    found = cv.run(cv.maximize(model, "0", [3], 30, 32, settings=PLAIN, rectified=True))
    np.testing.assert_allclose(
        found.end_activation[0], float(hooked(model, "2", found.images)[0, 3].mean()), atol=1e-5
    )
    with pytest.raises(cv.ModelError, match="leave out rectified"):
        cv.maximize(model, "3", [0], rectified=True)


def test_a_minimum_falls_and_is_less_than_a_maximum():
    model = small()
    low = cv.run(cv.maximize(model, "4", [2], 40, 32, settings=PLAIN, minimize=True))
    high = cv.run(cv.maximize(model, "4", [2], 40, 32, settings=PLAIN))
    assert low.end_activation[0] < low.start_activation[0] < high.end_activation[0]
    assert not low.blank[0]


class Operations(TorchDispatchMode):
    """Notes the convolutions that run, and what their gradients are computed of."""

    def __init__(self) -> None:
        super().__init__()
        self.forward = 0
        self.masks: list[list[bool]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.forward += name in ("convolution", "conv2d", "_convolution")
        if name == "convolution_backward":
            self.masks.append(list(args[-1]))
        return func(*args, **(kwargs or {}))


def test_a_step_runs_up_to_the_layer_and_computes_no_gradient_of_a_weight():
    torch.manual_seed(0)
    module = torchvision.models.resnet18(weights=None, num_classes=5)
    model = cv.from_module(lively(module, (3, 64, 64)), (3, 64, 64))
    job = cv.maximize(model, "layer1.1.conv1", [0, 1], 5, 64)
    next(job)
    with Operations() as seen:
        next(job)
    job.close()
    # conv1, two of layer1.0, one of layer1.1, each once there and once back.
    assert (seen.forward, len(seen.masks)) == (4, 4)
    assert all(mask == [True, False, False] for mask in seen.masks)


def test_memory_does_not_grow_with_steps():
    job = cv.maximize(small(), "4", [0, 1], 40, 32, settings=SHAKEN)
    held = []
    for progress in job:
        if progress.done in (10, 70):
            gc.collect()
            alive = [t for t in gc.get_objects() if torch.is_tensor(t)]
            # No graph of gradients hangs on what the run keeps, but for the parameters' own.
            assert sum(t.grad_fn is not None for t in alive) == 0
            held.append(sum(t.numel() for t in alive))
    assert len(held) == 2
    assert held[1] <= held[0]


def test_a_cancelled_run_leaves_the_model_as_it_was_and_keeps_what_it_drew():
    model = small()
    before = {name: value.clone() for name, value in model.module.state_dict().items()}
    job = cv.maximize(model, "4", None, 20, 32, settings=SHAKEN)
    for _ in range(7):
        progress = next(job)
    job.close()
    preview = progress.preview
    assert np.isfinite(preview.activation[:7]).all()
    assert np.isnan(preview.activation[7:]).all()
    assert not preview.done.any()
    for name, value in model.module.state_dict().items():
        assert torch.equal(value, before[name])
    for part in model.module.modules():
        assert not part._forward_hooks
        assert not part.training
    assert all(p.grad is None and not p.requires_grad for p in model.module.parameters())
    assert torch.is_grad_enabled()


def test_previews_come_after_every_step_and_change():
    model = small()
    pictures, steps = [], 0
    with cv.maximize(model, "4", [1], 10, 32, settings=PLAIN) as job:
        for progress in job:
            steps += 1
            assert (progress.done, progress.total) == (steps, 10)
            pictures.append(progress.preview.images.clone())
    assert steps == 10
    assert all(not torch.equal(a, b) for a, b in pairwise(pictures))


def test_frames_are_kept_as_often_as_asked_with_the_first_and_the_last():
    settings = Settings(transforms=STILL, frame_every=8)
    found = cv.run(cv.maximize(small(), "4", [1, 2], 20, 32, settings=settings))
    assert found.frame_steps == (0, 8, 16, 20)
    assert found.frames.shape == (4, 2, 3, 32, 32)
    for frame, images in ((0, found.starts), (3, found.images)):
        np.testing.assert_array_equal(found.frames[frame], (images * 255).round().numpy())
    with pytest.raises(cv.InputError, match="keep fewer frames"):
        cv.maximize(small(), "4", None, 10_000, 512, settings=Settings(frame_every=1))


class FixedSize(nn.Module):
    """Takes 24 x 24 pixels and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.fc = nn.Linear(4 * 12 * 12, 3)

    def forward(self, x):
        return self.fc(self.conv(x).relu().flatten(1))


class Moody(FixedSize):
    """Takes steps that depend on values, so that its pass cannot be recorded."""

    def forward(self, x):
        maps = self.conv(x)
        return self.fc(nn.functional.relu(maps if float(x.mean()) > -1e9 else -maps).flatten(1))


@pytest.mark.parametrize("kind", [FixedSize, Moody])
def test_networks_of_one_size_and_networks_that_cannot_be_followed(kind):
    torch.manual_seed(0)
    model = cv.from_module(kind(), (3, 24, 24))
    found = cv.run(cv.maximize(model, "conv", [0, 2], 40, 48, settings=SHAKEN))
    assert found.images.shape == (2, 3, 48, 48)
    assert found.end_maps.shape == (2, 12, 12)
    assert (found.end_activation > found.start_activation).all()
    logit = cv.run(cv.maximize(model, steps=40, size=24, objective=mx.classes(model, 1)))
    assert logit.end_activation[0] > logit.start_activation[0]
    assert not any(part._forward_hooks for part in model.module.modules())


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_gray_and_depth_are_drawn_too(channels):
    model = small(channels=channels) if channels != 2 else cv.from_module(
        nn.Sequential(nn.Conv2d(2, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (2, 16, 16)
    )  # fmt: skip
    for settings in (PLAIN, Settings("maco", transforms=STILL), Settings("pixels")):
        found = cv.run(cv.maximize(model, "0", [1], 20, 16, settings=settings))
        assert found.images.shape == (1, channels, 16, 16)
        assert found.end_activation[0] > found.start_activation[0]


def test_the_ascent_goes_on_from_a_picture():
    model = small()
    x = model.frontend.normalise(torch.rand(1, 3, 32, 32, generator=torch.manual_seed(3)))
    dream = mx.energy(model, "4")
    found = cv.run(cv.maximize(model, steps=15, size=32, objective=dream, start=x, settings=PLAIN))
    picture = model.frontend.denormalise(x)
    assert float((found.starts - picture).abs().max()) < 0.02
    assert found.end_activation[0] > found.start_activation[0]
    assert found.start_activation[0] == pytest.approx(
        float(hooked(model, "4", picture).square().mean()), rel=0.05
    )


def test_several_pictures_of_a_unit_are_kept_apart():
    model = small()

    def likeness(weight: float) -> float:
        several = mx.repeated(mx.units(model, "4", 1), 3)
        if weight:
            several = several + weight * mx.diversity(model, "4")
        found = cv.run(cv.maximize(model, steps=60, size=32, objective=several, settings=PLAIN))
        assert len(found.words) == 3
        assert not torch.allclose(found.images[0], found.images[1], atol=0.05)
        flat = hooked(model, "4", found.images).flatten(2)
        grams = nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
        alike = grams @ grams.T
        return float((alike.sum() - alike.trace()) / 6)

    assert likeness(5.0) < likeness(0.0)


@pytest.mark.parametrize("minimize", [False, True])
@pytest.mark.parametrize("start", ["noise", "gray", "picture"])
def test_several_pictures_part_from_any_start_and_in_either_direction(start, minimize):
    model = small()
    picture = model.frontend.normalise(torch.rand(1, 3, 32, 32, generator=torch.manual_seed(1)))

    def likeness(weight: float) -> float:
        several = mx.repeated(mx.units(model, "4", 1), 3) + weight * mx.diversity(model, "4")
        found = cv.run(
            cv.maximize(
                model, steps=40, size=32, objective=several, settings=PLAIN, minimize=minimize,
                start=picture if start == "picture" else start,
            )
        )  # fmt: skip
        assert not torch.equal(found.images[0], found.images[1])
        flat = hooked(model, "4", found.images).flatten(2)
        grams = nn.functional.normalize((flat @ flat.transpose(1, 2)).flatten(1), dim=1)
        return float(((grams @ grams.T).sum() - 3) / 6)

    assert likeness(5.0) < likeness(0.0)


def test_a_place_is_one_of_the_picture_and_must_be_there():
    model = small()
    place = mx.neurons(model, "4", 3, 2, 5)
    found = cv.run(cv.maximize(model, steps=10, size=32, objective=place))
    assert found.end_activation[0] == pytest.approx(
        float(hooked(model, "4", found.images)[0, 3, 2, 5]), abs=1e-4
    )
    with pytest.raises(cv.InputError, match="16 rows and 16 columns"):
        cv.run(cv.maximize(model, steps=2, size=32, objective=mx.neurons(model, "4", 3, 99, 0)))


class Choosy(FixedSize):
    """Says in its own way what it takes."""

    def forward(self, x):
        assert x.shape[-1] == 24, "24 pixels, please"
        return super().forward(x)


def test_a_network_that_asserts_its_size_is_shown_its_size():
    torch.manual_seed(0)
    model = cv.from_module(Choosy(), (3, 24, 24))
    found = cv.run(cv.maximize(model, "conv", [0], 10, 32))
    assert found.end_maps.shape == (1, 12, 12)


def test_numbers_of_other_libraries_are_numbers():
    model = small()
    found = cv.run(cv.maximize(model, "4", np.int64(3), np.int64(4), 32))
    assert found.words == ("unit 3 of 4",)
    assert len(mx.classes(model, np.argmax([0.1, 0.7, 0.2]))) == 1
    with pytest.raises(cv.InputError, match="whole numbers"):
        cv.maximize(model, "4", [1.7])


def test_what_does_not_fit_into_memory_gets_a_sentence():
    model = small()
    with pytest.raises(cv.InputError, match="draw fewer or smaller"):
        cv.maximize(model, "4", list(range(8)) * 40, 8, 1024)
    together = mx.repeated(mx.units(model, "4", 1), 60)
    with pytest.raises(cv.InputError, match="depend on each other"):
        cv.run(cv.maximize(model, steps=1, size=512, objective=together))


def test_a_small_norm_over_many_pixels_is_not_called_blank():
    settings = Settings("pixels", optimizer="gradient", rate=0.5, norm=2.0, transforms=STILL)
    found = cv.run(cv.maximize(small(), "4", [1], 60, 96, settings=settings))
    assert float(mx.contrast(found.images)) < 0.02
    assert not found.blank[0]


@pytest.mark.parametrize("name", list(mx.PRESETS))
def test_every_preset_climbs(name):
    model = small()
    preset = mx.PRESETS[name]
    units = (mx.neurons if preset.place else mx.units)(model, "4", [1, 2])
    found = cv.run(
        cv.maximize(model, steps=preset.steps, size=32, objective=units, settings=preset.settings)
    )
    assert (found.end_activation > found.start_activation).all()
    assert not found.blank.any()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"size": 0}, "size must be a whole number from 8 to 1,024"),
        ({"size": 4096}, "size"),
        ({"steps": 0}, "steps"),
        ({"steps": 1_000_000}, "steps must be a whole number from 1 to 10,000"),
        ({"steps": 2.5}, "steps"),
        ({"seed": -1}, "seed"),
        ({"layer": "layer4.conv"}, "no layer named"),
        ({"channels": 8}, "units 0 to 7, not 8"),
        ({"channels": [-1]}, "units 0 to 7"),
        ({"channels": []}, "at least one unit"),
        ({"layer": None}, "Name a layer"),
        ({"start": "sunrise"}, "start is"),
        ({"start": torch.zeros(1, 1, 8, 8)}, "one input"),
        ({"start": torch.full((1, 3, 8, 8), torch.nan)}, "finite"),
    ],
)
def test_bad_values_get_one_sentence(arguments, said):
    given = {"layer": "4", "channels": 1, **arguments}
    with pytest.raises(cv.CnnvisError, match=said):
        cv.maximize(small(), **given)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Settings("crayons"),
        lambda: Settings(optimizer="lion"),
        lambda: Settings(rate=0),
        lambda: Settings(decay=9),
        lambda: Settings(blur=-1),
        lambda: Settings(frame_every=-1),
        lambda: Settings(norm=0),
        lambda: Settings(total_variation=float("nan")),
        lambda: Settings(l2=float("inf")),
        lambda: Transforms(jitter=-1),
        lambda: Transforms(scale=1.0),
        lambda: Transforms(rotate=270),
        lambda: Transforms(border="wall"),
    ],
)
def test_bad_settings_get_one_sentence(make):
    with pytest.raises(cv.InputError):
        make()
