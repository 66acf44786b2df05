"""A loaded network: frozen, in eval mode, shared by everybody, never changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cached_property, lru_cache
from typing import Any, Literal, Protocol

import torch
from torch import nn

from cnnvis_core.brief import brief
from cnnvis_core.errors import ModelError
from cnnvis_core.models.card import Modality, ModelCard
from cnnvis_core.models.graph import Graph, record
from cnnvis_core.models.memory import in_halves
from cnnvis_core.models.simplify import simplify
from cnnvis_core.models.weights import weights_hash

ScoreKind = Literal["probability", "logit"]


@dataclass(frozen=True)
class ReceptiveField:
    """The part of the input that a unit sees, as (height, width) pairs in input pixels.

    Position ``(i, j)`` of a map sees rows ``offset[0] + i * stride[0]`` up to, not including,
    that plus ``size[0]``; columns likewise. What lies outside the input is padding.
    """

    size: tuple[int, int]
    stride: tuple[int, int]
    offset: tuple[int, int]

    def box(self, row: int, col: int) -> tuple[int, int, int, int]:
        """(top, left, bottom, right) that a position sees, in input pixels; may lie outside."""
        top, left = (
            start + place * step
            for start, place, step in zip(self.offset, (row, col), self.stride, strict=True)
        )
        return top, left, top + self.size[0], left + self.size[1]


@dataclass(frozen=True)
class Layer:
    """One layer of a network.

    Attributes
    ----------
    name : str
        Dotted module name, as ``named_modules`` prints it.
    kind : str
        Class name of the module, for example ``"Conv2d"``.
    channels : int
        Number of units.
    output_shape : tuple of int
        Shape for one input, without the batch axis.
    receptive_field : ReceptiveField or None
        None where a unit sees the whole input or where the graph could not be traced.
    axes : tuple
        Which axis of ``output_shape`` holds the units, the rows and the columns; None for an axis
        that it does not have.
    """

    name: str
    kind: str
    channels: int
    output_shape: tuple[int, ...]
    receptive_field: ReceptiveField | None
    axes: tuple[int, int | None, int | None] = (0, 1, 2)


class Frontend(Protocol):
    """Turns a validated picture or clip into what the network takes."""

    def __call__(self, item: object, /) -> torch.Tensor:
        """Float32 tensor (1, C, H, W) on the CPU."""
        ...


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A network with everything that is needed to ask it about an input.

    Attributes
    ----------
    card : ModelCard
        Where it comes from.
    module : torch.nn.Module
        Maps (N, C, H, W) to logits (N, classes); in eval mode, no weight requires a gradient.
    device : torch.device
        Where the module lives.
    classes : tuple of str
        Names of the classes, in the order of the logits.
    input_shape : tuple of int
        (C, H, W) of one input. For sound, H is the number of mel bands and W that of the frames
        of a clip of the usual length; longer clips give more frames.
    frontend : Frontend
        An `ImageFrontend` or a `LogMel`.
    layers : tuple of Layer
        In the order of the forward pass.
    exclusive : bool
        True for one answer among all classes (softmax), False for independent ones (sigmoid).
    """

    card: ModelCard
    module: nn.Module
    device: torch.device
    classes: tuple[str, ...]
    input_shape: tuple[int, ...]
    frontend: Frontend
    layers: tuple[Layer, ...] = ()
    exclusive: bool = True

    def __repr__(self) -> str:
        return (
            f"<Model {self.card.id}: {len(self.layers)} layers, from {self.modality} "
            f"{self.input_shape} to {len(self.classes)} classes, on {self.device}>"
        )

    def __getstate__(self) -> dict[str, Any]:
        """What is copied and sent: what it is made of, not what it has noted on the way."""
        return {part.name: getattr(self, part.name) for part in fields(self)}

    @property
    def modality(self) -> Modality:
        """What the model is given: ``"image"`` or ``"audio"``."""
        return self.card.modality

    def preprocess(self, item: object) -> torch.Tensor:
        """Float32 tensor (1, C, H, W) on the model's device from a PIL image or a `Clip`.

        Raises
        ------
        InputError
            If the item is of the wrong kind or too small or short for the network.
        """
        return self.frontend(item).to(self.device)

    def score(self, x: torch.Tensor, kind: ScoreKind = "probability") -> torch.Tensor:
        """Probabilities or logits (N, classes) of inputs (N, C, H, W).

        Raises
        ------
        ModelError
            If the network cannot take an input of this shape.
        """
        try:
            with torch.inference_mode():
                logits = in_halves(self.module, x.to(self.device), torch.cat)
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ModelError(
                f"{self.card.title} cannot take an input of shape {tuple(x.shape[1:])}; "
                f"it expects {self.input_shape}."
            ) from error
        return self.as_score(logits, kind)

    def as_score(self, logits: torch.Tensor, kind: ScoreKind) -> torch.Tensor:
        """Probabilities or logits (N, classes) of logits (N, classes)."""
        if kind == "logit":
            return logits
        return logits.softmax(1) if self.exclusive else logits.sigmoid()

    def layer(self, name: str) -> Layer:
        """The layer of a name.

        Raises
        ------
        ModelError
            If there is no such layer.
        """
        found = next((layer for layer in self.layers if layer.name == name), None)
        if found is None:
            raise ModelError(
                f"{self.card.title} has no layer named {brief(name)}; model.layers lists them."
            )
        return found

    @cached_property
    def weights(self) -> str:
        """Hash of the weights, by which two networks of one architecture are told apart."""
        return weights_hash(self.module)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of all that its answers depend on: weights, modules, input shape and front end.

        The same in every process; of a front end of one's own the class counts.
        """
        frontend = self.frontend
        eyes = repr(frontend) if is_dataclass(frontend) else type(frontend).__qualname__
        parts = self.weights, repr(self.module), tuple(self.input_shape), eyes, self.exclusive
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    @cached_property
    def recording(self) -> Callable[[tuple[int, ...]], Graph]:
        """The forward pass as it is, for inputs of a shape (C, H, W); kept as `graph` is.

        Where several threads ask at once it may be recorded twice, which does no harm.
        """
        return lru_cache(maxsize=4)(lambda shape: record(self.module, shape))

    @cached_property
    def graph(self) -> Callable[[tuple[int, ...]], Graph]:
        """The forward pass as a list of few operations, for inputs of a shape (C, H, W).

        Kept while the model lives, for the last few shapes; raises `UntraceableError`.
        """
        return lru_cache(maxsize=4)(lambda shape: simplify(self.recording(shape)))

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Probabilities (N, classes) of inputs (N, C, H, W)."""
        return self.score(x, "probability")

    def class_index(self, target: int | str) -> int:
        """Index of a class given by index or by name.

        Raises
        ------
        ModelError
            If there is no such class.
        """
        if isinstance(target, str):
            if target in self.classes:
                return self.classes.index(target)
            raise ModelError(f"{self.card.title} has no class named {target!r}.")
        if 0 <= target < len(self.classes):
            return int(target)
        raise ModelError(
            f"{self.card.title} has classes 0 to {len(self.classes) - 1}, not {target}."
        )
