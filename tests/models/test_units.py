"""The units of a layer as the classes of a model."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from captum.attr import Occlusion as CaptumOcclusion
from torch import nn
from torchvision import models as zoo

import cnnvis_core as cv
from cnnvis_core.models.units import unit_model
from cnnvis_core.occlusion import faithfulness, occluder_for
from tests.support import lively, picture_model


def network(name: str = "resnet18", size: int = 64) -> cv.Model:
    torch.manual_seed(0)
    module = lively(zoo.get_model(name, weights=None, num_classes=5), (3, size, size))
    return cv.from_module(module, (3, size, size))


@pytest.mark.parametrize("reduction", ["mean", "maximum"])
@pytest.mark.parametrize(
    ("name", "layer", "last"),
    [
        ("resnet18", "layer2.0.conv2", False),
        ("resnet18", "fc", False),
        ("convnext_tiny", "features.1.0.block.3", True),  # units on the last axis
    ],
)
def test_a_unit_answers_with_its_map_as_a_hook_sees_it(name, layer, last, reduction):
    model = network(name)
    x = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    seen = []
    handle = dict(model.module.named_modules())[layer].register_forward_hook(
        lambda _, __, output: seen.append(output.clone()) or None
    )
    with torch.no_grad():
        model.module(x)
    handle.remove()
    maps = seen[0].movedim(-1, 1) if last else seen[0]
    flat = maps.reshape(3, maps.shape[1], -1)
    expected = flat.mean(2) if reduction == "mean" else flat.amax(2)
    torch.testing.assert_close(
        unit_model(model, layer, reduction).score(x, "logit"), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("engine", ["full", "incremental"])
@pytest.mark.parametrize("reduction", ["mean", "maximum"])
def test_occlusion_of_a_unit_equals_captum_s(engine, reduction):
    model = network()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    units = unit_model(model, "layer2.1.conv1", reduction)
    found = cv.run(
        cv.occlude(units, x, 7, 16, 8, fill=(0.0, 0.0, 0.0), score="logit", engine=engine)
    )
    assert found.engine == engine
    black = model.frontend.normalise(torch.zeros(1, 3, 1, 1))
    stages = nn.Sequential(*list(model.module.children())[:5], model.module.layer2[0])

    def unit(inputs):
        maps = model.module.layer2[1].conv1(stages(inputs))[:, 7].flatten(1)
        return maps.mean(1) if reduction == "mean" else maps.amax(1)

    with torch.no_grad():
        values = CaptumOcclusion(unit).attribute(
            x, (3, 16, 16), (3, 8, 8), baselines=black.expand_as(x)
        )
    np.testing.assert_allclose(
        found.heatmap, values[0, 0].numpy(), atol=1e-4 * float(values.abs().max())
    )
    assert np.ptp(found.heatmap) > 0


def test_the_drop_of_a_unit_of_a_sound_network_lies_in_what_it_sees():
    model = cv.load("soundnet-esc10")
    layer = next(layer for layer in model.layers if layer.receptive_field is not None)
    rng = np.random.default_rng(0)
    clip = cv.read_audio(_wav(0.1 * rng.normal(size=5 * 16000)))
    units = unit_model(model, layer.name, "mean")
    found = cv.run(cv.occlude(units, clip, 0, (None, 0.5), (None, 0.25), score="logit"))
    assert found.drop.shape[0] == 1
    assert found.baseline == pytest.approx(
        float(cv.feature_maps(model, model.preprocess(clip), layer.name)[layer.name][0].mean()),
        abs=1e-4,
    )


def _wav(samples) -> bytes:
    import io

    import soundfile

    buffer = io.BytesIO()
    soundfile.write(buffer, samples, 16000, format="WAV")
    return buffer.getvalue()


def test_deletion_of_a_unit_is_measured_in_activation():
    model = network()
    x = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    units = unit_model(model, "layer1.0.conv1")
    occluder = occluder_for(units, x)
    heat = cv.run(cv.occlude(units, x, 3, score="logit")).heatmap
    curves = cv.run(faithfulness(units, occluder, heat, 3, score="logit"))
    clean = float(units.score(x, "logit")[0, 3])
    assert curves.deletion[0] == pytest.approx(clean, abs=1e-5)
    assert curves.insertion[-1] == pytest.approx(clean, abs=1e-5)
    assert curves.deletion_area < curves.insertion_area


def test_grad_cam_of_a_unit_weighs_the_maps_before_it():
    torch.manual_seed(3)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 4, 3, padding=1), nn.BatchNorm2d(4),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5),
    )  # fmt: skip
    model = picture_model(module, (12, 12))
    x = torch.randn(1, 3, 12, 12)
    model = cv.from_module(module, (3, 12, 12))
    found = cv.attribute(model, x, method="grad_cam", layer="3", channel=2).values
    maps = module[1](module[0](x)).detach().requires_grad_()
    score = module[3](module[2](maps))[0, 2].mean()
    (gradient,) = torch.autograd.grad(score, maps)
    expected = (gradient.mean((2, 3), keepdim=True) * maps).sum(1)
    np.testing.assert_allclose(found, expected.detach().numpy(), atol=1e-6)
    with pytest.raises(cv.ModelError, match="no maps on the way"):
        cv.attribute(model, x, method="grad_cam", layer="0", channel=2)


def test_what_is_not_there_gets_a_sentence():
    model = network()
    with pytest.raises(cv.ModelError, match="no layer named"):
        unit_model(model, "layer9")
    units = unit_model(model, "layer1.0.conv1")
    with pytest.raises(cv.ModelError, match="no class named"):
        units.class_index("unit 64 of layer1.0.conv1")


class Moody(nn.Module):
    """Takes another way where the mean is positive."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        maps = self.conv(x)
        return self.fc((maps if float(maps.mean()) > 0 else -maps).mean((2, 3)))


def test_a_pass_that_cannot_be_followed_gets_a_sentence():
    model = cv.from_module(Moody(), (3, 12, 12))
    with pytest.raises(cv.ModelError, match="cannot be followed to 'conv'"):
        unit_model(model, "conv")
