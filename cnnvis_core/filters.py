"""Kernels: the weights of a convolution, put in order and described."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.model import Model

Order = Literal["index", "norm", "orientation", "similarity"]
ORDERS: tuple[Order, ...] = ("index", "norm", "orientation", "similarity")
DEAD_SHARE = 1e-3  # of the layer's largest norm
SPECTRUM_SIDE = 32  # frequencies a side; kernels are padded with zeros to it
UNITS_AT_ONCE = 32  # bounds the memory of a layer's spectra
CONVOLUTIONS = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
)


@dataclass(frozen=True, eq=False)
class Kernels:
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


@dataclass(frozen=True, eq=False)
class Tuning:
    """What kernels are tuned to, by their own weights.

    Attributes
    ----------
    orientation_deg : ndarray (out,)
        Angle of the stripes, counter-clockwise from horizontal, in [0, 180); NaN for kernels
        without any, such as those of one pixel.
    coherence : ndarray (out,)
        0 for all orientations alike, 1 for stripes of one orientation.
    """

    orientation_deg: NDArray[np.float64]
    coherence: NDArray[np.float64]


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


def spectral_tuning(weight: NDArray[np.float32]) -> Tuning:
    """Dominant orientation by the power spectrum of each kernel, summed over its inputs.

    The direction of every frequency is averaged at twice its angle, weighted by power (Bigun and
    Granlund 1987, in the Fourier domain); a Gaussian window keeps the kernel's straight edges out.

    Parameters
    ----------
    weight : ndarray (out, in, kh, kw)
        Kernels.
    """
    height, width = weight.shape[2:]
    if height * width == 1:
        return Tuning(np.full(len(weight), np.nan), np.zeros(len(weight)))
    rows, cols = (np.arange(n) - (n - 1) / 2 for n in (height, width))
    spread = max(height, width) / 2.5
    window = np.exp(-(rows[:, None] ** 2 + cols**2) / (2 * spread**2))
    side = max(SPECTRUM_SIDE, height, width)
    power = np.concatenate(
        [
            _power(weight[first : first + UNITS_AT_ONCE], window, side)
            for first in range(0, len(weight), UNITS_AT_ONCE)
        ]
    )
    frequency = np.fft.fftfreq(side)
    # Frequencies beyond the Nyquist circle exist along the diagonals alone.
    inside = np.hypot(frequency[:, None], frequency) <= 0.5
    # Rows run downwards, angles upwards.
    direction = np.arctan2(-frequency[:, None], frequency[None])
    total = (power * inside).sum((1, 2))
    vector = (power * inside * np.exp(2j * direction)).sum((1, 2))
    with np.errstate(invalid="ignore", divide="ignore"):
        coherence = np.abs(vector) / total
    across = np.degrees(np.angle(vector)) / 2
    blank = total <= 1e-12 * np.maximum((weight**2).sum((1, 2, 3)), 1e-30)
    return Tuning(
        np.where(blank, np.nan, (across + 90) % 180), np.where(blank, 0.0, np.nan_to_num(coherence))
    )


def _power(
    weight: NDArray[np.float32], window: NDArray[np.float64], side: int
) -> NDArray[np.float64]:
    """Power spectra (out, side, side) of windowed kernels without their mean, over all inputs."""
    mean = (weight * window).sum((2, 3), keepdims=True) / window.sum()
    taps = ((weight - mean) * window).reshape(*weight.shape[:2], -1)
    # Inputs are summed before the transform: e* (sum of w w') e is the sum of |w' e|^2.
    gram = np.einsum("oik,oil->okl", taps, taps, optimize=True)
    row, col = np.divmod(np.arange(window.size), window.shape[1])
    frequency = np.fft.fftfreq(side)
    turns = row[:, None, None] * frequency[:, None] + col[:, None, None] * frequency
    waves = np.exp(-2j * np.pi * turns).reshape(window.size, -1)
    return (waves.conj() * (gram @ waves)).sum(1).real.reshape(-1, side, side)


def by_similarity(rows: NDArray[np.float32]) -> NDArray[np.int64]:
    """Rows (n, m) with like beside like: in the order of a tree of their cosine distances."""
    if len(rows) < 3:
        return np.arange(len(rows))
    from scipy.cluster.hierarchy import leaves_list, linkage, optimal_leaf_ordering
    from scipy.spatial.distance import squareform

    unit = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
    distance = np.clip(1 - unit @ unit.T, 0, 2)
    np.fill_diagonal(distance, 0)
    condensed = squareform(distance, checks=False)
    tree = linkage(condensed, "average")
    if len(rows) <= 256:  # grows with the fourth power
        tree = optimal_leaf_ordering(tree, condensed)
    return leaves_list(tree).astype(np.int64)
