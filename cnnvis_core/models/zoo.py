"""The classification CNNs of torchvision's registry, with torchvision's own weights."""

from __future__ import annotations

import pickle
import re
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.blueprint import Blueprint, State
from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.download import (
    Patience,
    ProgressCallback,
    WeightFile,
    download,
    fetch,
)
from cnnvis_core.models.preprocessing import ImageFrontend

TRANSFORMERS = ("vit_", "swin", "maxvit")  # in the registry, but no CNNs
MEBIBYTE = 1024 * 1024
LICENCE = (
    "BSD-3-Clause code; weights trained on ImageNet, whose terms (research, non-commercial) may "
    "apply: torchvision leaves it to the user to determine"
)
SWAG_LICENCE = "CC-BY-NC-4.0 (SWAG weights)"
SOURCE = "torchvision, https://download.pytorch.org"
FAMILIES = {
    "alexnet": "AlexNet",
    "convnext": "ConvNeXt",
    "densenet": "DenseNet",
    "efficientnet": "EfficientNet",
    "googlenet": "GoogLeNet",
    "inception": "Inception",
    "mnasnet": "MNASNet",
    "mobilenet": "MobileNet",
    "regnet": "RegNet",
    "resnet": "ResNet",
    "resnext": "ResNeXt",
    "shufflenet": "ShuffleNet",
    "squeezenet": "SqueezeNet",
    "vgg": "VGG",
    "wide_resnet": "Wide ResNet",
}
CLOSE = ("vgg", "resnet", "resnext", "wide_resnet", "densenet")  # ResNet50, but MobileNet v2
DECIMAL = re.compile(r"(?<!\d)(\d)_(\d+)(?=$|[gm]f)")  # 1_6gf is 1.6 GF, 1_0 is 1.0
# These rescale their input from ImageNet's statistics to [-1, 1] themselves.
SELF_NORMALISING = ("googlenet", "inception_v3")


def zoo_ids() -> tuple[str, ...]:
    """Names of torchvision's classification CNNs that have weights, in alphabetical order."""
    import torchvision.models as zoo

    names = sorted(zoo.list_models(module=zoo))
    return tuple(name for name in names if not name.startswith(TRANSFORMERS))


def default_weights(model_id: str) -> Any:
    """Return torchvision's default weights: their ``url``, ``meta`` and ``transforms``."""
    import torchvision.models as zoo

    return zoo.get_model_weights(model_id).DEFAULT


def weight_file(model_id: str) -> WeightFile:
    """Return the file of torchvision's default weights of a model."""
    weights = default_weights(model_id)
    return WeightFile(weights.url, round(weights.meta["_file_size"] * MEBIBYTE))


def zoo_card(model_id: str) -> ModelCard:
    """Return the card of a torchvision model, from the metadata of its weights."""
    meta = default_weights(model_id).meta
    file = weight_file(model_id)
    measured = meta["_metrics"]["ImageNet-1K"]
    return ModelCard(
        id=model_id,
        title=title(model_id),
        modality="image",
        source=SOURCE,
        licence=SWAG_LICENCE if "SWAG" in meta.get("license", "") else LICENCE,
        bytes=file.size,
        available_offline=file.is_here,
        classes=len(meta["categories"]),
        parameters=meta["num_params"],
        accuracy=f"top-1 {measured['acc@1']:.1f} %, top-5 {measured['acc@5']:.1f} % on ImageNet-1K "
        "(torchvision)",
        details=f"Trained on ImageNet, 1000 classes; recipe: {meta['recipe']}",
    )


def title(model_id: str) -> str:
    """Return a title for people: ``"vgg16_bn"`` is ``"VGG16 BN"``."""
    prefix = max((known for known in FAMILIES if model_id.startswith(known)), key=len, default="")
    rest = DECIMAL.sub(r"\1.\2", model_id.removeprefix(prefix)).strip("_").replace("_", " ")
    for part, shown in (("bn", "BN"), ("gf", " GF"), ("mf", " MF")):
        rest = rest.replace(part, shown)
    if prefix == "regnet":
        rest = rest[:1].upper() + rest[1:]
    glue = " " if rest and (prefix not in CLOSE or "." in rest) and prefix != "regnet" else ""
    return FAMILIES.get(prefix, "") + glue + rest


def builder(model_id: str) -> Callable[[], nn.Module]:
    """Return a function that builds the untrained network, without training's extra heads."""

    def build() -> nn.Module:
        import torchvision.models as zoo

        options: dict[str, Any] = {}
        if model_id in SELF_NORMALISING:
            options = {"aux_logits": False, "transform_input": True, "init_weights": False}
        module: nn.Module = zoo.get_model(model_id, weights=None, **options)
        return module

    return build


def zoo_blueprint(model_id: str, patience: Patience | None = None) -> Blueprint:
    """Return the blueprint of a torchvision model.

    Parameters
    ----------
    model_id : str
        One of `zoo_ids`.
    patience : Patience, optional
        When to give up on a server.
    """
    weights = default_weights(model_id)
    preset = weights.transforms()
    crop = (int(preset.crop_size[0]), int(preset.crop_size[0]))
    frontend = ImageFrontend(
        resize=int(preset.resize_size[0]),
        crop=crop,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        interpolation=preset.interpolation.value,
    )

    def state(progress: ProgressCallback | None) -> State:
        return fetch_state(weight_file(model_id), progress, patience)

    return Blueprint(
        card=zoo_card(model_id),
        build=builder(model_id),
        weights=state,
        classes=tuple(weights.meta["categories"]),
        input_shape=(3, *crop),
        frontend=frontend,
        heads=("aux1.", "aux2.", "AuxLogits."),
    )


def fetch_state(
    file: WeightFile, progress: ProgressCallback | None = None, patience: Patience | None = None
) -> State:
    """Return the state_dict of a public file; a cached one that cannot be read is fetched again.

    Raises
    ------
    ModelError
        If the file cannot be fetched or holds no weights.
    """
    path = fetch(file, progress, patience)
    try:
        return read_state(path)
    except ModelError:
        if file.digest:  # the very bytes that were published
            raise
    return read_state(download(file, progress, patience))


def read_state(path: Path) -> State:
    """Return the state_dict in a file that torch saved, without running any code from it.

    Raises
    ------
    ModelError
        If it is not one.
    """
    try:
        # Mapped, so that converting it needs no second copy; files of before torch 1.6 cannot be.
        mapped = zipfile.is_zipfile(path)
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except (RuntimeError, pickle.UnpicklingError, EOFError, OSError, ValueError) as error:
        raise ModelError(f"The weight file {path.name} cannot be read; delete it.") from error
    if not isinstance(state, dict) or not state:
        raise ModelError(f"The weight file {path.name} holds no weights; delete it.")
    found = OrderedDict((k, v) for k, v in state.items() if isinstance(v, torch.Tensor))
    found._metadata = getattr(state, "_metadata", None)  # type: ignore[attr-defined]
    return found
