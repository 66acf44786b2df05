"""How a network of the catalogue is put together from its parts."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from cnnvis_core.errors import ModelError
from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.download import ProgressCallback
from cnnvis_core.models.geometry import describe_layers
from cnnvis_core.models.model import Frontend, Model

State = Mapping[str, torch.Tensor]
DeviceLike = str | torch.device | None

# Counters and markers that older or public files lack; the modules fill them in.
OPTIONAL = ("num_batches_tracked", "kernels_mel_first")
# DenseNet files of before 2018 have names such as denselayer1.norm.1.weight.
OLD_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|relu|conv))\.([12]\..+)$")


@dataclass(frozen=True)
class Blueprint:
    """Everything about a network but its weights.

    Attributes
    ----------
    card : ModelCard
        What is known of it.
    build : callable
        Returns the untrained module.
    weights : callable
        Returns the state_dict on the CPU; takes the progress callback of a download or None.
    classes : tuple of str
        In the order of the logits.
    input_shape : tuple of int
        (C, H, W).
    frontend : Frontend
        Turns a picture or a clip into an input.
    exclusive : bool
        See `Model`.
    heads : tuple of str
        Prefixes of weights that only training uses; they are left out.
    """

    card: ModelCard
    build: Callable[[], nn.Module]
    weights: Callable[[ProgressCallback | None], State]
    classes: tuple[str, ...]
    input_shape: tuple[int, int, int]
    frontend: Frontend
    exclusive: bool = True
    heads: tuple[str, ...] = ()

    def skeleton(self) -> nn.Module:
        """Build the module in eval mode; its weights have shapes but no memory."""
        with Weightless():
            return self.build().eval()


class Weightless(TorchFunctionMode):
    """Makes the weights of modules that are built in this thread on the meta device.

    ``torch.device("meta")`` would also catch the small sums by which RegNet finds its widths.
    """

    CATCHES = frozenset((torch.empty, torch.zeros, torch.ones))

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run a function of torch, on the meta device where it makes a tensor for weights."""
        kwargs = dict(kwargs or {})
        if func in self.CATCHES and kwargs.get("device") is None:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def assemble(plan: Blueprint, module: nn.Module, state: State, device: DeviceLike) -> Model:
    """Return a frozen model from a skeleton and its weights.

    Parameters
    ----------
    plan : Blueprint
        What the skeleton was made from.
    module : torch.nn.Module
        What `Blueprint.skeleton` returns, or one of other ends; it becomes the model's.
    state : mapping
        Name to tensor, on the CPU; floating-point numbers of any kind become float32.
    device : str, torch.device or None
        None picks cuda, then mps, then cpu.

    Raises
    ------
    ModelError
        If weights and module do not fit or there is no such device.
    """
    place = choose_device(device)
    layers = describe_layers(module, plan.input_shape)
    full = OrderedDict((k, single_precision(v)) for k, v in tidy(plan, state).items())
    # Versions of the layout, which MNASNet needs; a file without them has today's.
    versions = getattr(state, "_metadata", None) or getattr(module.state_dict(), "_metadata", {})
    full._metadata = versions  # type: ignore[attr-defined]
    try:
        missing, unexpected = module.load_state_dict(full, strict=False, assign=True)
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"The weights of {plan.card.title} do not fit its layers.") from error
    lost = [name for name in missing if not name.endswith(OPTIONAL)]
    if lost or unexpected:
        name = (lost + unexpected)[0]
        raise ModelError(f"The weights of {plan.card.title} do not fit its layers, see {name}.")
    fill_counters(module)
    module.requires_grad_(False)
    return Model(
        card=plan.card,
        module=move(module, place),
        device=place,
        classes=plan.classes,
        input_shape=plan.input_shape,
        frontend=plan.frontend,
        layers=layers,
        exclusive=plan.exclusive,
    )


def tidy(plan: Blueprint, state: State) -> dict[str, torch.Tensor]:
    """Return the weights under today's names, without those that only training uses."""
    renamed = {OLD_DENSENET.sub(r"\1\2", name): value for name, value in state.items()}
    return {
        name: value
        for name, value in renamed.items()
        if not (plan.heads and name.startswith(plan.heads))
    }


def single_precision(value: torch.Tensor) -> torch.Tensor:
    """Copy a tensor, floating-point numbers as float32; nothing is shared with a file."""
    kind = torch.float32 if value.is_floating_point() else value.dtype
    return value.detach().to(kind, copy=True, memory_format=torch.contiguous_format)


def fill_counters(module: nn.Module) -> None:
    """Give the counters that old files lack a value, so that no tensor stays without memory.

    Raises
    ------
    ModelError
        If anything but a counter is left.
    """
    for path, part in module.named_modules():
        for name, value in part.named_buffers(recurse=False):
            if value.is_meta:
                if name not in OPTIONAL:
                    raise ModelError(f"The weights lack {path}.{name}.")
                setattr(part, name, torch.zeros(value.shape, dtype=value.dtype))


def choose_device(device: DeviceLike = None) -> torch.device:
    """Choose the device to work on; None picks cuda, then mps, then cpu.

    Raises
    ------
    ModelError
        If torch knows no such device.
    """
    if device is not None:
        try:
            return torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise ModelError(f"There is no device {device!r}; use 'cpu' or 'cuda'.") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def move(module: nn.Module, device: torch.device) -> nn.Module:
    """Move the module to a device.

    Raises
    ------
    ModelError
        If the device is not there or has too little memory.
    """
    try:
        return module.to(device)
    except torch.OutOfMemoryError as error:
        raise ModelError(
            f"The network does not fit into the memory of {device}; choose a smaller one."
        ) from error
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ModelError(f"The device {device} cannot be used here; use 'cpu'.") from error
