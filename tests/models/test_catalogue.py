"""What the catalogue lists, and loading by name."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models import catalogue, load
from cnnvis_core.models.blueprint import choose_device
from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.embedded import (
    ASSETS,
    embedded_blueprint,
    embedded_card,
    embedded_ids,
    make_frontend,
)
from cnnvis_core.models.zoo import weight_file

EMBEDDED = ("resnet64-tiny-imagenet", "soundnet-esc10")


def test_embedded_models_come_first_then_yamnet_then_torchvision() -> None:
    ids = [card.id for card in catalogue()]
    split = ids.index("yamnet")
    assert tuple(ids[:split]) == embedded_ids()
    assert ids[split + 1 :] == sorted(ids[split + 1 :])
    assert len(ids) == len(set(ids)) >= 68
    families = {
        *("alexnet", "vgg16", "vgg19_bn", "resnet152", "resnext50_32x4d", "wide_resnet50_2"),
        *("densenet121", "googlenet", "inception_v3", "squeezenet1_0", "mobilenet_v3_small"),
        *("shufflenet_v2_x1_0", "mnasnet0_5", "efficientnet_b0", "regnet_y_400mf", "convnext_tiny"),
    }
    assert families <= set(ids)
    assert not any(name.startswith(("vit", "swin", "maxvit")) for name in ids)


def test_cards_tell_what_the_publisher_says() -> None:
    cards = {card.id: card for card in catalogue()}
    vgg = cards["vgg16"]
    assert (vgg.title, vgg.modality, vgg.classes) == ("VGG16", "image", 1000)
    assert vgg.parameters == 138_357_544
    assert vgg.bytes == pytest.approx(4 * vgg.parameters, rel=1e-3)
    assert "71.6 %" in vgg.accuracy
    assert "BSD-3-Clause" in vgg.licence
    assert "ImageNet" in vgg.licence
    assert "CC-BY-NC" in cards["regnet_y_128gf"].licence
    names = ("regnet_y_1_6gf", "vgg19_bn", "efficientnet_v2_s", "mnasnet0_5", "wide_resnet50_2")
    assert [cards[name].title for name in names] == [
        *("RegNetY 1.6 GF", "VGG19 BN", "EfficientNet v2 s", "MNASNet 0.5", "Wide ResNet50 2")
    ]
    assert len({card.title for card in cards.values()}) == len(cards)
    assert (cards["yamnet"].modality, cards["yamnet"].classes) == ("audio", 521)
    assert all(card.licence and card.source and card.bytes > 0 for card in cards.values())


def test_available_offline_follows_torchs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    public = {card.id: card for card in catalogue() if card.id not in embedded_ids()}
    assert not any(card.available_offline for card in public.values())
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    file = weight_file("squeezenet1_1")
    with (folder / file.name).open("wb") as target:
        target.truncate(file.size)
    with (folder / weight_file("squeezenet1_0").name).open("wb") as target:
        target.truncate(file.size // 2)  # cut off by another program
    here = [card.id for card in catalogue() if card.available_offline]
    assert here == [*embedded_ids(), "squeezenet1_1"]


@pytest.mark.parametrize(
    ("name", "hint"), [("vgg61", "vgg16"), ("ResNet50", "resnet50"), ("yam", "yamnet")]
)
def test_an_unknown_name_brings_the_nearest_ones(name: str, hint: str) -> None:
    with pytest.raises(ModelError, match=f"did you mean.*{hint}"):
        load(name)


def test_a_name_like_no_other_points_to_the_catalogue() -> None:
    with pytest.raises(ModelError, match="catalogue"):
        load("//")


@pytest.mark.parametrize("device", ["abacus", 3.5])
def test_an_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(ModelError, match="There is no device"):
        choose_device(device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without cuda")
def test_an_absent_device_is_refused() -> None:
    from cnnvis_core.models import from_module

    with pytest.raises(ModelError, match="cannot be used here"):
        from_module(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 2)), (3, 2, 2),
                    device="cuda")  # fmt: skip


@pytest.mark.parametrize("model_id", EMBEDDED)
def test_embedded_models_load_offline_frozen_and_whole(
    model_id: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if model_id not in embedded_ids():
        pytest.skip(f"assets/models/{model_id} is not made yet")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = load(model_id, device="cpu")
    again = load(model_id, device="cpu")
    assert model.card == next(card for card in catalogue() if card.id == model_id)
    assert model.card.available_offline
    assert not any(part.training for part in model.module.modules())
    weights = list(model.module.parameters())
    assert not any(weight.requires_grad for weight in weights)
    assert all(weight.dtype == torch.float32 for weight in weights)
    assert model.card.parameters in (0, sum(weight.numel() for weight in weights))
    x = torch.randn(2, *model.input_shape, generator=torch.Generator().manual_seed(1))
    scores = model.predict(x)
    assert scores.shape == (2, len(model.classes))
    assert torch.allclose(scores.sum(1), torch.ones(2), atol=1e-5)
    assert torch.equal(scores, again.predict(x))
    assert model.layers[0].kind == "Conv2d"
    assert model.layers[-1].channels == len(model.classes)
    assert not list(tmp_path.rglob("*"))


def test_the_embedded_image_model_takes_any_photo() -> None:
    from PIL import Image

    if EMBEDDED[0] not in embedded_ids():
        pytest.skip(f"assets/models/{EMBEDDED[0]} is not made yet")
    model = load(EMBEDDED[0], device="cpu")
    for size in ((640, 480), (33, 900), (5, 5)):
        x = model.preprocess(Image.new("RGB", size, "teal"))
        assert x.shape == (1, *model.input_shape)
        assert model.predict(x).isfinite().all()
    with pytest.raises(InputError):
        model.preprocess("teal")


def test_a_damaged_card_or_weight_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "odd.json").write_text("{")
    (tmp_path / "odd.safetensors").write_bytes(b"x")
    with pytest.raises(ModelError, match="reinstall"):
        embedded_card("odd", tmp_path)
    card = '{"modality": "image", "classes": ["a"], "input_shape": [3, 8, 8], "architecture": '
    (tmp_path / "odd.json").write_text(card + '{"name": "os.system"}, "frontend": {}}')
    with pytest.raises(ModelError, match="unknown architecture"):
        embedded_blueprint("odd", tmp_path)
    fields = '{"resize": 8, "crop": [8, 8]}'
    (tmp_path / "odd.json").write_text(card + f'{{"name": "ResNet64"}}, "frontend": {fields}}}')
    with pytest.raises(ModelError, match="missing"):
        embedded_blueprint("odd", tmp_path).weights(None)
    with pytest.raises(ModelError, match="wrong or a missing field"):
        make_frontend("image", {"resise": 3})


def test_cards_without_weights_are_not_listed(tmp_path: Path) -> None:
    (tmp_path / "lonely.json").write_text("{}")
    assert embedded_ids(tmp_path) == ()
    assert ASSETS.name == "models"


def test_yamnet_has_its_own_front_end_and_independent_classes() -> None:
    plan = blueprint("yamnet")
    assert not plan.exclusive
    assert len(plan.classes) == 521
    assert plan.classes[0] == "Speech"
