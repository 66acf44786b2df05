"""Anybody's module becomes a model, and is left as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.models import ImageFrontend, Model, from_module
from tests.support import small_network


class Small(nn.Module):
    def __init__(self, kind: str = "plain", channels: int = 3) -> None:
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: torch.Tensor) -> Any:
        maps = self.norm(self.conv(x))
        logits = self.fc(maps.mean((2, 3)))
        answers: dict[str, Any] = {
            "plain": logits,
            "softmax": logits.softmax(1),
            "tuple": (maps, logits),
            "dict": {"maps": maps, "out": [logits]},
            "dataclass": Answer(logits),
            "maps": maps,
            "vector": logits[:, 0],
            "number": logits.sum(),
            "none": None,
            "whole": logits.argmax(1, keepdim=True),
        }
        return answers[self.kind]


@dataclass
class Answer:
    logits: torch.Tensor


def wrap(module: nn.Module, **options: Any) -> Model:
    return from_module(module, (3, 16, 12), device="cpu", **options)


def test_a_module_is_copied_frozen_and_described() -> None:
    module = Small().train()
    model = wrap(module, name="mine", classes=list("abcde"))
    assert [layer.name for layer in model.layers] == ["conv", "norm", "fc"]
    assert (model.card.title, model.classes, model.modality) == ("mine", tuple("abcde"), "image")
    assert model.input_shape == (3, 16, 12)
    assert model.exclusive
    assert not any(weight.requires_grad for weight in model.module.parameters())
    assert not any(part.training for part in model.module.modules())
    x = torch.rand(2, 3, 16, 12)
    before = model.predict(x)
    # The caller's module is as it was, and what happens to it later does not reach the model.
    assert module.training
    assert all(weight.requires_grad for weight in module.parameters())
    assert int(module.state_dict()["norm.num_batches_tracked"]) == 0
    assert not any(p._forward_hooks for m in (module, model.module) for p in m.modules())
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
    assert torch.equal(model.predict(x), before)


@pytest.mark.parametrize("kind", ["tuple", "dict", "dataclass"])
def test_the_logits_are_found_in_what_a_module_returns(kind: str) -> None:
    torch.manual_seed(0)
    plain = Small().eval()
    other = Small(kind)
    other.load_state_dict(plain.state_dict())
    model = wrap(other)
    x = torch.rand(3, 3, 16, 12)
    with torch.inference_mode():
        assert torch.equal(model.module(x), plain(x))
    assert [layer.name for layer in model.layers] == ["network.conv", "network.norm", "network.fc"]
    assert model.classes == ("class 0", "class 1", "class 2", "class 3", "class 4")


def test_a_softmax_inside_the_network_is_not_applied_twice() -> None:
    torch.manual_seed(0)
    module = Small("softmax").eval()
    model = wrap(module)
    x = torch.rand(3, 3, 16, 12)
    with torch.inference_mode():
        assert torch.allclose(model.predict(x), module(x), atol=1e-6)


@pytest.mark.parametrize("kind", ["maps", "vector", "number", "none", "whole"])
def test_a_module_without_one_number_a_class_is_refused(kind: str) -> None:
    with pytest.raises(ModelError, match=r"\(N, classes\)"):
        wrap(Small(kind))


def test_a_module_that_cannot_run_on_the_shape_is_refused() -> None:
    with pytest.raises(ModelError, match="cannot take an input"):
        from_module(Small(channels=1), (3, 16, 12), device="cpu")


def test_a_module_that_cannot_be_copied_is_refused() -> None:
    module = Small()
    module.memory = torch.rand(2, requires_grad=True) * 2
    with pytest.raises(ModelError, match="cannot be copied"):
        wrap(module)


def test_half_precision_works_in_float32() -> None:
    model = wrap(Small().half())
    assert model.predict(torch.rand(1, 3, 16, 12)).dtype is torch.float32


def test_one_output_is_a_yes_or_no() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(12, 1))
    model = from_module(module, (3, 2, 2), device="cpu")
    assert not model.exclusive
    x = torch.zeros(1, 3, 2, 2)
    expected = torch.sigmoid(module.state_dict()["1.bias"])
    assert torch.allclose(model.predict(x), expected)


@pytest.mark.parametrize(
    "options",
    [
        {"classes": ["a"]},
        {"mean": (0.5,)},
        {"std": (0.5, 0.5, 0.0)},
        {"modality": "smell"},
        {"modality": "audio"},
    ],
)
def test_values_that_do_not_go_together_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        wrap(Small(), **options)


@pytest.mark.parametrize("shape", [(3, 8), (3, 0, 8), (3.0, 8, 8), ()])
def test_odd_shapes_are_refused(shape: Any) -> None:
    with pytest.raises(InputError, match="input_shape"):
        from_module(Small(), shape, device="cpu")


def test_something_else_than_a_module_is_refused() -> None:
    with pytest.raises(ModelError, match="Module"):
        from_module(len, device="cpu")  # type: ignore[arg-type]


def test_without_mean_and_std_a_picture_stays_between_0_and_1() -> None:
    model = wrap(Small())
    x = model.preprocess(Image.new("RGB", (50, 20), (255, 0, 51)))
    assert x.shape == (1, 3, 16, 12)
    assert torch.allclose(x[0, :, 8, 6], torch.tensor([1.0, 0.0, 0.2]))
    # No shape of picture is padded in black.
    assert (model.preprocess(Image.new("RGB", (20, 90), "white")) == 1).all()


def test_mean_std_and_frontends_are_taken() -> None:
    model = wrap(Small(), mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    assert (model.preprocess(Image.new("RGB", (9, 9), "white")) == 1).all()
    own = ImageFrontend(20, (16, 12))
    assert wrap(Small(), frontend=own).frontend is own


def test_gray_and_rgbd_modules_get_fitting_inputs() -> None:
    for channels in (1, 4):
        model = from_module(Small(channels=channels), (channels, 16, 12), device="cpu")
        x = model.preprocess(Image.new("RGBA", (30, 30), (10, 20, 30, 128)))
        assert x.shape == (1, channels, 16, 12)
        assert model.predict(x).shape == (1, 5)


def test_sound_gets_a_spectrogram_of_the_shape_asked_for() -> None:
    import numpy as np

    model = from_module(Small(channels=1), (1, 40, 80), modality="audio", device="cpu")
    noise = np.random.default_rng(0).standard_normal(16000 // 5).astype(np.float32)
    x = model.preprocess(Clip(noise, 16000))
    assert x.shape == (1, 1, 40, 80)
    assert x.isfinite().all()
    assert model.modality == "audio"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"mean": (127.5,) * 3, "std": (63.0,) * 3}, "divide yours by 255"),
        ({"mean": 0.5}, "one a channel"),
        ({"std": 0.5}, "one a channel"),
        ({"mean": (0.5, float("nan"), 0.5)}, "one a channel"),
        ({"mean": "abc"}, "one a channel"),
    ],
)
def test_what_is_no_normalisation_is_said(given, sentence):
    with pytest.raises(InputError, match=sentence):
        from_module(small_network(), (3, 32, 32), **given)


def test_an_exported_program_is_sent_to_where_it_can_be_read():
    sizes = ({0: torch.export.Dim("batch")},)
    x = torch.rand(2, 3, 32, 32)
    program = torch.export.export(small_network(), (x,), dynamic_shapes=sizes).module()
    with pytest.raises(ModelError, match="load_program"):
        from_module(program, (3, 32, 32))
