"""torchvision's networks: all build, and answer as torchvision's own do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models import load
from cnnvis_core.models.blueprint import Weightless, assemble
from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.zoo import read_state, weight_file, zoo_ids

SMALL = (  # one a family
    *("alexnet", "convnext_tiny", "densenet121", "efficientnet_b0", "googlenet", "inception_v3"),
    *("mnasnet0_5", "mobilenet_v2", "mobilenet_v3_small", "regnet_x_400mf", "resnet18"),
    *("resnext50_32x4d", "shufflenet_v2_x0_5", "squeezenet1_1", "vgg11"),
)


@pytest.mark.parametrize("model_id", zoo_ids())
def test_every_network_builds_without_memory_and_fits_its_weights(model_id: str) -> None:
    plan = blueprint(model_id)
    module = plan.skeleton()
    assert all(weight.is_meta for weight in module.parameters())
    assert not any(part.training for part in module.modules())
    trained_heads = sum(weight.numel() for weight in module.parameters())
    if model_id == "inception_v3":  # torchvision counts the head that only training uses
        trained_heads += 3_326_696
    assert trained_heads == plan.card.parameters
    assert len(plan.classes) == plan.card.classes == 1000


@pytest.mark.parametrize("model_id", SMALL)
def test_a_network_of_each_family_answers_as_torchvisions(model_id: str) -> None:
    torch.manual_seed(3)
    options: dict[str, Any] = {}
    if model_id in ("googlenet", "inception_v3"):
        # As torchvision builds them for its weights.
        options = {"transform_input": True, "aux_logits": True, "init_weights": False}
    with Weightless():
        reference = torchvision.models.get_model(model_id, weights=None, **options).eval()
    reference.to_empty(device="cpu")
    with torch.no_grad():
        for value in reference.state_dict().values():
            spread = value.shape[1:].numel() ** -0.5 if value.ndim > 1 else 0.5
            if value.is_floating_point():
                value.uniform_(-spread if value.ndim > 1 else 0.1, spread)
    plan = blueprint(model_id)
    model = assemble(plan, plan.skeleton(), reference.state_dict(), "cpu")
    side = 96 if model_id != "alexnet" else 127
    x = torch.randn(1, 3, side, side)
    with torch.inference_mode():
        expected = reference(x)
    found = model.score(x, "logit")
    assert found.shape == (1, 1000)
    assert torch.allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not any(weight.requires_grad for weight in model.module.parameters())
    assert model.layers[-1].channels == 1000 or model_id == "squeezenet1_1"


def test_self_normalising_networks_do_rescale_their_input() -> None:
    for model_id in ("googlenet", "inception_v3"):
        module = blueprint(model_id).skeleton()
        assert bool(module.transform_input)


@pytest.fixture
def cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take any content for the published one."""
    monkeypatch.setattr("cnnvis_core.models.download.has_digest", lambda *_: True)


def test_load_takes_weights_from_torchs_cache(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hash(monkeypatch)
    torch.manual_seed(1)
    reference = torchvision.models.squeezenet1_1(weights=None).eval()
    torch.save(reference.state_dict(), cached / weight_file("squeezenet1_1").name)
    model = load("squeezenet1_1", device="cpu")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(model.score(x, "logit"), reference(x), atol=1e-6)
    # The file may vanish or change: the model holds its own numbers.
    (cached / weight_file("squeezenet1_1").name).write_bytes(b"")
    assert model.predict(x).isfinite().all()


def test_names_of_old_densenet_files_are_understood(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_hash(monkeypatch)
    reference = torchvision.models.densenet121(weights=None).eval()
    old = {}
    for name, value in reference.state_dict().items():
        if "num_batches_tracked" not in name:
            for kind in ("norm", "conv"):
                name = name.replace(f".{kind}1.", f".{kind}.1.").replace(
                    f".{kind}2.", f".{kind}.2."
                )
            old[name] = value
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    path = cached / weight_file("densenet121").name
    torch.save(old, path, _use_new_zipfile_serialization=False)
    model = load("densenet121", device="cpu")
    x = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(model.score(x, "logit"), reference(x), atol=1e-5)


def test_weights_of_another_network_are_one_sentence() -> None:
    plan = blueprint("squeezenet1_1")
    with pytest.raises(ModelError, match="do not fit"):
        assemble(plan, plan.skeleton(), nn.Linear(2, 2).state_dict(), "cpu")


@pytest.mark.parametrize("content", [b"", b"<html>log in</html>", b"PK\x03\x04 but no zip"])
def test_a_file_that_torch_cannot_read_is_one_sentence(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="cannot be read"):
        read_state(path)
