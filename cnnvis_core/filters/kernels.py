"""Kernels: the weights of a convolution, put in order and described."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnvis_core.brief import Brief
from cnnvis_core.errors import ModelError
from cnnvis_core.filters.likeness import by_similarity
from cnnvis_core.filters.spectrum import Tuning, spectral_tuning
from cnnvis_core.models.model import Model
from cnnvis_core.models.preprocessing import ImageFrontend

Order = Literal["index", "norm", "orientation", "similarity"]
ORDERS: tuple[Order, ...] = ("index", "norm", "orientation", "similarity")
DEAD_SHARE = 1e-3  # of the layer's largest norm
CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(frozen=True, eq=False, repr=False)
class Kernels(Brief):
    """The kernels of one convolution.

    Attributes
    ----------
    layer : str
        Its name.
    weight : Tensor (out, in, kh, kw)
        Float32 on the CPU, a copy; ``in`` counts the inputs that one kernel reads. Height is 1 for
        convolutions over one axis.
    groups : int
        Groups of inputs that are not mixed.
    transposed : bool
        Whether it spreads its input out instead of gathering it.
    """

    layer: str
    weight: torch.Tensor
    groups: int
    transposed: bool

    def __len__(self) -> int:
        return len(self.weight)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a kernel."""
        return int(self.weight.shape[2]), int(self.weight.shape[3])

    @property
    def inputs(self) -> int:
        """How many inputs one kernel reads."""
        return int(self.weight.shape[1])

    @property
    def kind(self) -> str:
        """``"dense"``, ``"grouped"`` or ``"depthwise"`` (one input a kernel, many groups)."""
        if self.groups == 1:
            return "dense"
        return "depthwise" if self.inputs == 1 else "grouped"

    @property
    def three_inputs(self) -> bool:
        """Whether each reads the same three inputs: red, green and blue in a first layer."""
        return self.groups == 1 and self.inputs == 3

    def reads(self, unit: int) -> range:
        """Which units of the layer before a kernel reads."""
        group = unit // (len(self) // self.groups)
        return range(group * self.inputs, (group + 1) * self.inputs)

    @cached_property
    def norms(self) -> NDArray[np.float32]:
        """Euclidean norm of each kernel (out,)."""
        return self.weight.flatten(1).norm(dim=1).numpy()

    @cached_property
    def dead(self) -> NDArray[np.bool_]:
        """Kernels (out,) with next to no weight: under a thousandth of the largest norm."""
        return self.norms <= DEAD_SHARE * float(self.norms.max())

    def limits(self, common: bool) -> NDArray[np.float32]:
        """Largest absolute weight of each kernel (out,), or of all of them; never 0."""
        each = self.weight.flatten(1).abs().amax(1).numpy()
        if common:
            each = np.full_like(each, each.max())
        return np.maximum(each, np.float32(1e-12))

    @cached_property
    def tuning(self) -> Tuning:
        """Dominant orientation of each kernel, over all its inputs."""
        return spectral_tuning(self.weight.numpy())

    def order(self, by: Order) -> NDArray[np.int64]:
        """Kernels (out,) in an order: by index, strongest first, by angle, or like beside like."""
        if by == "norm":
            return np.argsort(-self.norms, kind="stable")
        if by == "orientation":
            return np.argsort(self.tuning.orientation_deg, kind="stable")
        if by == "similarity":
            return by_similarity(self.weight.flatten(1).numpy())
        return np.arange(len(self))


def filters(model: Model, layer: str) -> Kernels:
    """Return the kernels of a convolution.

    Parameters
    ----------
    model : Model
        Not changed.
    layer : str
        Name of a convolution from ``model.layers``.

    Raises
    ------
    ModelError
        If there is no such layer or it has no kernels.
    """
    model.layer(layer)
    part = dict(model.module.named_modules())[layer]
    weight = getattr(part, "weight", None)
    if not isinstance(part, CONVOLUTIONS) or not isinstance(weight, torch.Tensor):
        raise ModelError(
            f"The layer {layer!r} of {model.card.title} has no kernels; choose a convolution."
        )
    values = weight.detach().float().cpu().clone()
    if part.transposed:
        grouped = values.unflatten(0, (part.groups, -1)).transpose(1, 2)
        values = grouped.flatten(0, 1)
    if values.ndim == 3:
        values = values.unsqueeze(2)
    # A third axis, such as time, stands as further rows.
    return Kernels(layer, values.flatten(2, -2), part.groups, part.transposed)


def has_kernels(model: Model, layer: str) -> bool:
    """Whether `filters` has something to return for a layer."""
    return isinstance(dict(model.module.named_modules()).get(layer), CONVOLUTIONS)


def on_brightness(model: Model, kernels: Kernels) -> NDArray[np.float32]:
    """What kernels on red, green and blue of the input weigh its brightness with (out, 1, kh, kw).

    A step of brightness is the same in all channels before each is divided by its deviation.

    Raises
    ------
    ModelError
        If the kernels do not read as many channels as the network's pictures have.
    """
    frontend, channels = model.frontend, model.input_shape[0]
    if kernels.inputs != channels or kernels.groups != 1:
        raise ModelError(f"The kernels of {kernels.layer!r} do not read the picture itself.")
    std = frontend.std if isinstance(frontend, ImageFrontend) else (1.0,) * channels
    shares = 1 / np.array(std, np.float32)
    return np.einsum("oikl,i->okl", kernels.weight.numpy(), shares)[:, None].astype(np.float32)
