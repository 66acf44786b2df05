"""The user's own weights for an architecture of the catalogue."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from cnnvis_core.errors import InputError
from cnnvis_core.models.blueprint import (
    OPTIONAL,
    Blueprint,
    DeviceLike,
    State,
    Weightless,
    assemble,
    tidy,
)
from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.geometry import describe_layers
from cnnvis_core.models.loading import numbered
from cnnvis_core.models.model import Model
from cnnvis_core.models.preprocessing import ImageFrontend
from cnnvis_core.models.untrusted import read_weights, told_classes

WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
PREFIXES = ("module.", "_orig_mod.", "model.", "network.")  # DataParallel, torch.compile, wrappers
TIMES = 4  # weights, and what an optimiser keeps beside them
SHOWN = 3


def load_checkpoint(model_id: str, data: bytes, device: DeviceLike = None) -> Model:
    """Load somebody's weights into an architecture of the catalogue; nothing in the file is run.

    Accepted are safetensors files and the zip files of ``torch.save`` with a state_dict, bare or
    under ``"state_dict"`` or ``"model"``, with or without the prefix of DataParallel. Another
    number of classes or input channels than the catalogue's is taken from the shapes in the file;
    its classes are then called ``"class 0"`` and so on, unless `finetune` wrote the file, which
    names them, and the normalisation is extended as in `ImageFrontend.for_channels`. GoogLeNet and
    Inception v3 rescale three-channel inputs as torchvision's own weights need it.

    Parameters
    ----------
    model_id : str
        An id of `catalogue`.
    data : bytes
        Content of the file.
    device : str, torch.device, optional
        None picks cuda, then mps, then cpu.

    Raises
    ------
    InputError
        If the file is no weight file, is damaged, hostile or too large, holds values that are no
        finite numbers, or belongs to another architecture.
    ModelError
        If there is no such model or device.
    """
    plan = blueprint(model_id)
    module = plan.skeleton()
    ends = find_ends(module, plan)
    numbers = sum(value.numel() for value in module.state_dict().values())
    state = tidy(plan, without_prefix(find_state(read_weights(data, TIMES * numbers))))
    channels, classes = wanted(state, ends, plan)
    module = adapt(module, ends, channels, classes)
    check_names(module, state, plan.card.title)
    check_values(state)
    weights = list(module.parameters())
    card = replace(
        plan.card,
        id=f"{model_id}-{hashlib.sha256(data).hexdigest()[:12]}",
        title=f"{plan.card.title} (your weights)",
        source="a file of the user",
        licence="",
        bytes=len(data),
        available_offline=True,
        classes=classes,
        parameters=sum(weight.numel() for weight in weights),
        accuracy="",
        details="",
    )
    frontend = plan.frontend
    if isinstance(frontend, ImageFrontend):
        frontend = frontend.for_channels(channels)
    names = told_classes(bytes(data), classes) or (
        plan.classes if classes == len(plan.classes) else numbered(classes)
    )
    fitted = replace(
        plan,
        card=card,
        classes=names,
        input_shape=(channels, *plan.input_shape[1:]),
        frontend=frontend,
        exclusive=plan.exclusive and classes > 1,
    )
    return assemble(fitted, module, state, device)


@dataclass(frozen=True)
class Ends:
    """Names of the layers whose shapes depend on the channels of the input and on the classes."""

    first: str
    last: str


def find_ends(module: nn.Module, plan: Blueprint) -> Ends:
    """Return the first convolution and the layer that gives the logits."""
    layers = describe_layers(module, plan.input_shape)
    first = next(
        layer.name for layer in layers if isinstance(module.get_submodule(layer.name), nn.Conv2d)
    )
    last = next(
        layer.name
        for layer in reversed(layers)
        if isinstance(module.get_submodule(layer.name), nn.Conv2d | nn.Linear)
        and layer.channels == len(plan.classes)
    )
    return Ends(first, last)


def find_state(content: object) -> State:
    """Return the state_dict in the content of a file.

    Raises
    ------
    InputError
        If there is none.
    """
    if isinstance(content, Mapping):
        for name in WRAPPERS:
            if isinstance(content.get(name), Mapping):
                content = content[name]
                break
    found: dict[str, torch.Tensor] = {}
    if isinstance(content, Mapping):
        found = {str(k): v for k, v in content.items() if isinstance(v, torch.Tensor)}
    if not found:
        raise InputError("The file holds no state_dict; save model.state_dict() with torch.save.")
    return found


def without_prefix(state: State) -> State:
    """Return the weights without the prefixes that wrappers put before every name."""
    for prefix in PREFIXES * 2:
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def wanted(state: State, ends: Ends, plan: Blueprint) -> tuple[int, int]:
    """Input channels and classes of the file; the catalogue's where the file does not tell.

    Raises
    ------
    InputError
        If a network for sound has more than one channel.
    """
    channels, classes = plan.input_shape[0], len(plan.classes)
    first, last = state.get(f"{ends.first}.weight"), state.get(f"{ends.last}.weight")
    if first is not None and first.ndim == 4 and first.shape[1]:
        channels = int(first.shape[1])
    if last is not None and last.ndim >= 2 and len(last):
        classes = len(last)
    if plan.card.modality == "audio" and channels != plan.input_shape[0]:
        raise InputError(
            f"The file's first layer takes {channels} channels; a sound has {plan.input_shape[0]}."
        )
    return channels, classes


def adapt(module: nn.Module, ends: Ends, channels: int, classes: int) -> nn.Module:
    """Return the skeleton with other ends where the file has them."""
    first, last = module.get_submodule(ends.first), module.get_submodule(ends.last)
    with Weightless():
        if isinstance(first, nn.Conv2d) and first.in_channels != channels:
            put(module, ends.first, like(first, channels, first.out_channels))
            if hasattr(module, "transform_input"):  # its constants are those of three colours
                module.transform_input = False  # type: ignore[assignment]
        if isinstance(last, nn.Linear) and last.out_features != classes:
            put(module, ends.last, nn.Linear(last.in_features, classes, last.bias is not None))
        if isinstance(last, nn.Conv2d) and last.out_channels != classes:
            put(module, ends.last, like(last, last.in_channels, classes))
    return module.eval()


def like(layer: nn.Conv2d, inputs: int, outputs: int) -> nn.Conv2d:
    """Return an untrained convolution with other channels."""
    options: dict[str, Any] = {
        name: getattr(layer, name) for name in ("stride", "padding", "dilation", "padding_mode")
    }
    kernel = (layer.kernel_size[0], layer.kernel_size[1])
    return nn.Conv2d(inputs, outputs, kernel, bias=layer.bias is not None, **options)


def put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Replace the layer of this dotted name."""
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)


def check_names(module: nn.Module, state: State, title: str) -> None:
    """Compare names, shapes and kinds of numbers with the architecture's.

    Raises
    ------
    InputError
        If they differ; it lists the first differences.
    """
    expected = module.state_dict()
    faults = [
        f"{name} is missing"
        for name in expected
        if name not in state and not name.endswith(OPTIONAL)
    ]
    for name, value in state.items():
        if name not in expected:
            faults.append(f"{name} is unknown")
        elif value.layout != torch.strided or value.is_quantized:
            faults.append(f"{name} is no plain tensor")
        elif value.shape != expected[name].shape:
            faults.append(f"{name} is {show(value.shape)} instead of {show(expected[name].shape)}")
        elif expected[name].is_floating_point() and not value.is_floating_point():
            faults.append(f"{name} holds whole numbers")
    if faults:
        more = f" and {len(faults) - SHOWN} more differences" if len(faults) > SHOWN else ""
        raise InputError(
            f"The weights do not fit {title}: {', '.join(faults[:SHOWN])}{more}; choose the "
            "architecture that they were trained for."
        )


def check_values(state: State) -> None:
    """Refuse values that no trained network has.

    Raises
    ------
    InputError
        If a value is infinite or no number in float32, or a variance is negative.
    """
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        single = value.float()
        if not bool(torch.isfinite(single).all()):
            raise InputError(
                f"The weights hold values that are infinite or no numbers, in {name}; the training "
                "has failed there, so choose an earlier checkpoint."
            )
        if name.endswith("running_var") and bool((single < 0).any()):
            raise InputError(f"The weights hold a negative variance, in {name}; save them again.")


def show(shape: Sequence[int]) -> str:
    """Return a shape for people, such as ``64x3x7x7``."""
    return "x".join(map(str, shape)) or "a single number"
