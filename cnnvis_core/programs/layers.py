"""One call of a program as a module: torch's own where there is one, else the bare operation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnvis_core.errors import InputError
from cnnvis_core.models.graph import replace
from cnnvis_core.programs.operations import base_name, kind_name, resolved
from cnnvis_core.programs.schema import TRAINING, Call, Value

Arguments = Mapping[str, Any]
Held = Mapping[str, torch.Tensor]


@dataclass(frozen=True)
class Slot:
    """In place of an argument that the module is called with, by its position."""

    position: int


@dataclass(frozen=True)
class Own:
    """In place of an argument that the module holds itself, by its name."""

    name: str


class Operation(nn.Module):
    """One operation of ATen, with the parameters and numbers that it was exported with.

    Parameters
    ----------
    target : str
        Its name, as `resolved` takes it.
    arguments : mapping
        By name; `Slot` and `Own` stand for what is given and held.
    own : mapping
        Tensors that it holds.
    """

    def __init__(self, target: str, arguments: Arguments, own: Held) -> None:
        super().__init__()
        self.target = target
        self.arguments = dict(arguments)
        for name, value in own.items():
            if isinstance(value, nn.Parameter):
                self.register_parameter(name, value)
            else:
                self.register_buffer(name, value)

    @property
    def kind(self) -> str:
        """What people call it."""
        return kind_name(self.target)

    def forward(self, *given: Any) -> Any:
        """Call the operation with what it is given."""

        def filled(part: Any) -> Any:
            if isinstance(part, Slot):
                return given[part.position]
            if isinstance(part, Own):
                return getattr(self, part.name)
            return part

        arguments = {name: replace(value, filled) for name, value in self.arguments.items()}
        return resolved(self.target)(**arguments)

    def extra_repr(self) -> str:
        """Name and fixed arguments."""
        return f"{self.target}, {self.arguments}"


def as_layer(
    call: Call, arguments: Arguments, held: Held, ranks: Mapping[str, int]
) -> tuple[nn.Module, tuple[Any, ...]]:
    """The module that makes a call, and what it is called with.

    Parameters
    ----------
    call : Call
        Of an operation of ATen.
    arguments : mapping
        Its arguments, sizes of batches filled in.
    held : mapping
        The program's own tensors by the names of their values.
    ranks : mapping
        Number of axes of each value.

    Raises
    ------
    InputError
        If it is a step of training.
    """
    found = _known(call, arguments, held, ranks)
    if found is not None:
        return found
    own: dict[str, torch.Tensor] = {}
    given: list[Any] = []

    def slot(value: Any, name: str) -> Any:
        if isinstance(value, list):
            return [slot(part, f"{name}_{n}") for n, part in enumerate(value)]
        if isinstance(value, Value) and value.name in held:
            own[f"held_{name}"] = held[value.name]
            return Own(f"held_{name}")
        if isinstance(value, int | float | str | torch.dtype | torch.memory_format | torch.layout):
            return value
        if value is None:
            return None
        given.append(value)
        return Slot(len(given) - 1)

    fixed = {name: slot(value, name) for name, value in arguments.items()}
    return Operation(call.target, fixed, own), tuple(given)


def _known(
    call: Call, arguments: Arguments, held: Held, ranks: Mapping[str, int]
) -> tuple[nn.Module, tuple[Any, ...]] | None:
    """One of torch's own modules, which other parts of cnnvis know by their classes."""
    name = base_name(call.target)
    if name in ("batch_norm", "_native_batch_norm_legit_no_training"):
        if arguments.get("training"):
            raise InputError(TRAINING)
        found = _batch_norm(call, arguments, held, ranks)
        if found is None:
            # The bare operation would read beyond statistics that are too short.
            raise InputError("The program has a batch normalisation of an unusual kind.")
        return found
    if name in ("dropout", "feature_dropout"):
        rate = float(arguments["p"])
        made = nn.Dropout(rate) if name == "dropout" else nn.Dropout2d(rate)
        return made.eval(), (arguments.get("input", arguments.get("self")),)
    if name in ("conv2d", "convolution") and not arguments.get("transposed"):
        return _convolution(arguments, held)
    if name == "linear":
        return _linear(arguments, held)
    return None


def _tensor(value: Any, held: Held) -> torch.Tensor | None:
    """A tensor of the program's own; None where the value is another."""
    return held.get(value.name) if isinstance(value, Value) else None


def _fits(arguments: Arguments, held: Held, *names: str) -> bool:
    """Whether all of these arguments are the program's own tensors, or none at all."""
    return all(
        arguments.get(name) is None or _tensor(arguments[name], held) is not None for name in names
    )


def _pair(value: Any, default: int) -> tuple[int, int] | None:
    sizes = [default] if value is None else [value] if isinstance(value, int) else list(value)
    sizes = sizes * 2 if len(sizes) == 1 else sizes
    if len(sizes) != 2 or not all(isinstance(n, int) for n in sizes):
        return None
    return sizes[0], sizes[1]


def _convolution(arguments: Arguments, held: Held) -> tuple[nn.Module, tuple[Any, ...]] | None:
    weight, bias = _tensor(arguments["weight"], held), _tensor(arguments.get("bias"), held)
    if weight is None or weight.ndim != 4 or not _fits(arguments, held, "bias"):
        return None
    stride, dilation = _pair(arguments.get("stride"), 1), _pair(arguments.get("dilation"), 1)
    padding = arguments.get("padding")
    sides = padding if padding in ("same", "valid") else _pair(padding, 0)
    groups = int(arguments.get("groups") or 1)
    kernel = (weight.shape[2], weight.shape[3])
    if stride is None or dilation is None or sides is None:
        return None
    try:
        with torch.device("meta"):
            made = nn.Conv2d(
                weight.shape[1] * groups, weight.shape[0], kernel, stride, sides,
                dilation, groups, bias is not None,
            )  # fmt: skip
    except ValueError as error:
        raise InputError("A convolution of the program has impossible settings.") from error
    _fill(made, weight=weight, bias=bias)
    return made, (arguments["input"],)


def _linear(arguments: Arguments, held: Held) -> tuple[nn.Module, tuple[Any, ...]] | None:
    weight, bias = _tensor(arguments["weight"], held), _tensor(arguments.get("bias"), held)
    if weight is None or weight.ndim != 2 or not _fits(arguments, held, "bias"):
        return None
    with torch.device("meta"):
        made = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    _fill(made, weight=weight, bias=bias)
    return made, (arguments["input"],)


def _batch_norm(
    call: Call, arguments: Arguments, held: Held, ranks: Mapping[str, int]
) -> tuple[nn.Module, tuple[Any, ...]] | None:
    mean, variance = (_tensor(arguments.get(n), held) for n in ("running_mean", "running_var"))
    given = arguments["input"]
    if mean is None or variance is None or not _fits(arguments, held, "weight", "bias"):
        return None
    if not isinstance(given, Value) or any(name is not None for name in call.outputs[1:]):
        return None
    weight, bias = (_tensor(arguments.get(n), held) for n in ("weight", "bias"))
    if (weight is None) != (bias is None):
        return None
    kind = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d}.get(ranks.get(given.name, 0))
    if kind is None:
        return None
    eps, momentum = float(arguments["eps"]), float(arguments["momentum"])
    with torch.device("meta"):
        made = kind(len(mean), eps, momentum, affine=weight is not None)
    _fill(made, weight=weight, bias=bias)
    made.running_mean, made.running_var = mean.detach().clone(), variance.detach().clone()
    made.num_batches_tracked = torch.zeros((), dtype=torch.int64)
    return made.eval(), (given,)


def _fill(module: nn.Module, **tensors: torch.Tensor | None) -> None:
    """Give a module of shapes alone its numbers."""
    for name, value in tensors.items():
        if value is not None:
            shaped = value if isinstance(value, nn.Parameter) else nn.Parameter(value, False)
            setattr(module, name, shaped)
