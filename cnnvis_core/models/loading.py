"""From a name, or from anybody's module, to a frozen `Model`."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args

import torch
from torch import nn

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models.blueprint import DeviceLike, assemble, choose_device, move
from cnnvis_core.models.card import Modality, ModelCard
from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.download import Patience, ProgressCallback
from cnnvis_core.models.geometry import describe_layers
from cnnvis_core.models.model import Frontend, Model
from cnnvis_core.models.preprocessing import ImageFrontend

SEED = 0  # of the input that finds out the number of classes
MOST_MEAN = 10  # of values from 0 to 1; those from 0 to 255 are beyond it
TINY = 1e-30  # keeps the logarithm of a probability of 0 finite


def load(
    model_id: str,
    device: DeviceLike = None,
    progress: ProgressCallback | None = None,
    patience: Patience | None = None,
) -> Model:
    """Load a model of the catalogue with its trained weights, frozen and in eval mode.

    Parameters
    ----------
    model_id : str
        An id of `catalogue`, for example ``"vgg16"``.
    device : str, torch.device, optional
        None picks cuda, then mps, then cpu.
    progress : callable, optional
        Called with (bytes so far, bytes in all) while weights are downloaded. It may raise to
        cancel; what it raises passes on and the incomplete file is removed.
    patience : Patience, optional
        How long to wait for a slow server.

    Raises
    ------
    ModelError
        If there is no such model or device, or its weights can be neither found nor downloaded.
    """
    plan = blueprint(model_id, patience)
    place = choose_device(device)
    return assemble(plan, plan.skeleton(), plan.weights(progress), place)


def from_module(
    module: nn.Module,
    input_shape: Sequence[int] = (3, 224, 224),
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    modality: Modality = "image",
    name: str | None = None,
    frontend: Frontend | None = None,
    exclusive: bool | None = None,
    device: DeviceLike = None,
) -> Model:
    """Wrap any network that answers with one number a class.

    The model works on a deep copy in float32, frozen and in eval mode; the caller's module is left
    exactly as it was, and later changes to it do not reach the model.

    Parameters
    ----------
    module : torch.nn.Module
        Maps (N, C, H, W) to logits (N, classes). Where it returns a tuple, a dict or a dataclass,
        the first tensor of that shape is taken. Where every answer is a distribution (softmax
        inside the network), its logarithm is taken, whose softmax is that distribution. In both
        cases the copy stands inside a wrapper and layer names begin with ``"network."``.
    input_shape : sequence of int
        (C, H, W) of one input. For sound (1, mel bands, frames).
    mean, std : sequence of float, optional
        One a channel, for values in [0, 1]; none means 0 and 1.
    classes : sequence of str, optional
        Names in the order of the logits; none means ``"class 0"`` and so on.
    modality : {"image", "audio"}
        What the network is given.
    name : str, optional
        For people; none means the class name of the module.
    frontend : Frontend, optional
        Turns a picture or clip into an input, in place of the default `ImageFrontend`, or of a
        `LogMel` with ``input_shape[1]`` bands up to 8 kHz and 10 ms a frame.
    exclusive : bool, optional
        True for one answer among all classes (softmax), False for independent ones (sigmoid); none
        means True where there are two classes or more.
    device : str, torch.device, optional
        None picks cuda, then mps, then cpu.

    Raises
    ------
    InputError
        If shape, mean, std, classes or modality do not go together.
    ModelError
        If the module cannot be copied or run on such an input, or does not return (N, classes).
    """
    shape = checked_shape(input_shape)
    if modality not in get_args(Modality):
        raise InputError(f"modality must be 'image' or 'audio', not {modality!r}.")
    if not isinstance(module, nn.Module):
        raise ModelError(f"A torch.nn.Module is needed, not {type(module).__name__}.")
    eyes = frontend or default_frontend(modality, shape, mean, std)
    title = name or type(module).__name__
    place = choose_device(device)
    network = move(private_copy(module), place)
    network, count = as_logits(network, shape, place, title)
    names = tuple(classes) if classes is not None else numbered(count)
    if len(names) != count:
        raise InputError(f"{title} has {count} classes; {len(names)} names were given.")
    layers = describe_layers(network, shape)
    if isinstance(module, torch.fx.GraphModule) and not layers:
        raise ModelError(
            "An exported program has no layers left; save it with torch.export.save and give the "
            "file to load_program."
        )
    weights = list(network.parameters())
    card = ModelCard(
        id=title,
        title=title,
        modality=modality,
        source="a module of the user",
        licence="",
        bytes=sum(weight.numel() * weight.element_size() for weight in weights),
        available_offline=True,
        classes=count,
        parameters=sum(weight.numel() for weight in weights),
    )
    return Model(
        card=card,
        module=network,
        device=place,
        classes=names,
        input_shape=shape,
        frontend=eyes,
        layers=layers,
        exclusive=count > 1 if exclusive is None else exclusive,
    )


class Logits(nn.Module):
    """Takes the logits out of what a network returns.

    Parameters
    ----------
    network : torch.nn.Module
        Returns a tensor, a tuple, a dict or a dataclass.
    probabilities : bool
        Whether it returns probabilities that sum to 1.
    """

    def __init__(self, network: nn.Module, probabilities: bool) -> None:
        super().__init__()
        self.network = network
        self.probabilities = probabilities

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs (N, C, H, W) to logits (N, classes)."""
        answer = find_answer(self.network(x), len(x))
        if answer is None:
            raise ModelError("The network returned no tensor of shape (N, classes).")
        return answer.clamp_min(TINY).log() if self.probabilities else answer


def as_logits(
    network: nn.Module, shape: tuple[int, int, int], device: torch.device, title: str
) -> tuple[nn.Module, int]:
    """Wrap the network if need be, so that it returns logits, and count its classes."""
    # Two different inputs tell the axis of the batch from the others.
    x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(SEED)).to(device)
    try:
        with torch.inference_mode():
            output = network(x)
    except Exception as error:  # somebody else's code may raise anything
        raise ModelError(
            f"{title} cannot take an input of shape {shape}; give the input_shape it expects."
        ) from error
    answer = find_answer(output, 2)
    if answer is None:
        raise ModelError(
            f"{title} must return one number a class, a tensor of shape (N, classes); "
            "wrap it in a module that does."
        )
    count = int(answer.shape[1])
    whole = count > 1 and bool((answer >= 0).all()) and bool((answer.sum(1) - 1).abs().max() < 1e-4)
    if whole or answer is not output:
        network = Logits(network, whole).eval()
    return network, count


def find_answer(output: Any, batch: int) -> torch.Tensor | None:
    """Return the first floating-point tensor (batch, classes) in an output."""
    if isinstance(output, torch.Tensor):
        fits = output.ndim == 2 and len(output) == batch and output.shape[1] > 0
        return output if fits and output.is_floating_point() else None
    parts: Sequence[Any] = ()
    if isinstance(output, Mapping):
        parts = list(output.values())
    elif isinstance(output, list | tuple):
        parts = output
    elif is_dataclass(output):
        parts = [getattr(output, field.name) for field in fields(output)]
    return next((a for part in parts if (a := find_answer(part, batch)) is not None), None)


def private_copy(module: nn.Module) -> nn.Module:
    """Return a frozen copy in eval mode and float32.

    Raises
    ------
    ModelError
        If it cannot be copied.
    """
    try:
        twin = copy.deepcopy(module)
    except Exception as error:  # any class may refuse to be copied in its own way
        raise ModelError(
            "The module cannot be copied; remove weight_norm or tensors with a gradient history."
        ) from error
    return twin.eval().requires_grad_(False).float()


def checked_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """(C, H, W) as a tuple.

    Raises
    ------
    InputError
        If it is anything else.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(n, int) and n > 0 for n in shape):
        raise InputError(f"input_shape must be (channels, height, width), not {shape}.")
    return shape[0], shape[1], shape[2]


def numbered(count: int) -> tuple[str, ...]:
    """Names for classes that have none."""
    return tuple(f"class {index}" for index in range(count))


def _each(values: Sequence[float] | None, usual: float, channels: int) -> tuple[float, ...]:
    """Numbers, one a channel, as a tuple; none where they are no such numbers."""
    if values is None:
        return (usual,) * channels
    try:
        found = tuple(float(value) for value in values)
    except (TypeError, ValueError):
        return ()
    return found if all(map(math.isfinite, found)) else ()


def default_frontend(
    modality: Modality,
    shape: tuple[int, int, int],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
) -> Frontend:
    """Return the front end of a network of which only the input shape is known.

    Raises
    ------
    InputError
        If mean and std do not fit the channels, or sound has more than one.
    """
    channels, height, width = shape
    means = _each(mean, 0.0, channels)
    stds = _each(std, 1.0, channels)
    if len(means) != channels or len(stds) != channels or min(stds) <= 0:
        raise InputError(f"mean and std need {channels} values, one a channel, std positive.")
    if modality == "image" and max(map(abs, means)) > MOST_MEAN:
        raise InputError("mean and std are of values from 0 to 1; divide yours by 255.")
    if modality == "image":
        # The longer side of the crop, so that no shape of picture needs black padding.
        return ImageFrontend(max(height, width), (height, width), means, stds, channels=channels)
    if channels != 1:
        raise InputError(f"Sound has one channel, not {channels}; pass a frontend of your own.")
    from cnnvis_core.models.logmel import LogMel

    rate, window, hop = 16000, 400, 160
    return LogMel(
        sample_rate=rate,
        window=window,
        hop=hop,
        n_fft=1024,
        n_mels=height,
        fmin=20.0,
        fmax=rate / 2,
        offset=1e-6,
        mean=means[0],
        std=stds[0],
        min_seconds=max((width - 1) * hop, window) / rate,
    )
