"""A program's calls as a module whose layers can be looked at like any network's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from cnnvis_core.errors import InputError
from cnnvis_core.models.graph import replace
from cnnvis_core.programs.archive import BROKEN
from cnnvis_core.programs.layers import Operation, as_layer
from cnnvis_core.programs.operations import base_name, check_arguments, is_idle, resolved
from cnnvis_core.programs.plain import last_readers, plain
from cnnvis_core.programs.schema import Call, Device, Program, Value, made_by, values_in

MAX_NAME = 60  # characters of a part of a layer's name
MAX_DEPTH = 16  # such parts
# Arguments that say where to look in a tensor, by the names of ATen's operations.
PLACES: Mapping[str, str] = {
    "index": "indices",
    "embedding": "indices",
    "index_select": "index",
    "gather": "index",
    "repeat_interleave": "repeats",
}
# Their first size is that of the batch where the program was exported for one size of batch.
SIZED: Mapping[str, str] = {
    **dict.fromkeys(("view", "_unsafe_view", "expand", "zeros", "ones", "full"), "size"),
    **dict.fromkeys(("new_zeros", "new_ones", "new_full"), "size"),
    "reshape": "shape",
}

# They make tensors of nothing, by default on the CPU.
MAKERS = frozenset(("zeros", "ones", "full", "arange", "linspace", "scalar_tensor", "eye"))


@dataclass(frozen=True)
class PerInput:
    """A size that grows with the batch: ``size`` where the program has ``batch`` inputs."""

    size: int
    batch: int


@dataclass(frozen=True)
class Step:
    """What to do next.

    Attributes
    ----------
    layer : str
        Dotted name of the module to call; empty for arithmetic with sizes.
    target : str
        That arithmetic's name.
    given : tuple
        What it is called with: `Value`, `Device`, `PerInput`, numbers.
    outputs : tuple
        As in `Call`.
    free : tuple of str
        Names of values that nobody reads any more.
    """

    layer: str
    target: str
    given: tuple[Any, ...]
    outputs: tuple[Any, ...]
    free: tuple[str, ...]


class Exported(nn.Module):
    """A network that computes the steps of a program, each layer a module under its own name.

    Parameters
    ----------
    program : Program
        What to compute.
    tensors : mapping
        The file's tensors by name.

    Raises
    ------
    InputError
        If the program names an operation that is not known, or a tensor that is not there.
    """

    def __init__(self, program: Program, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self._input, self._outputs = program.input, program.outputs
        held = {value: _parameter(tensors, name) for value, name in program.held.items()}
        program = plain(program)
        names = _names(program.calls)
        ends: dict[int, list[str]] = {}
        for name, number in last_readers(program).items():
            ends.setdefault(number, []).append(name)
        given_by_input = _dependent(program)
        steps: list[Step] = []
        twins: dict[tuple[str, str], str] = {}  # one module for a layer that is called twice
        for number, call in enumerate(program.calls):
            if is_idle(call.target):
                continue
            free = tuple(ends.get(number, ()))
            arguments = _with_batch(call, program.batch)
            check_arguments(call.target, arguments)
            _check_places(call, given_by_input)
            if not base_name(call.target) or base_name(call.target) == "sym_size":
                steps.append(Step("", call.target, tuple(arguments.values()), call.outputs, free))
                continue
            layer, given = as_layer(call, arguments, held, program.ranks)
            outputs = call.outputs if isinstance(layer, Operation) else call.outputs[:1]
            name = names[number]
            if not isinstance(layer, Operation):
                name = twins.setdefault((call.module[0], _settings(call)), name)
            if name == names[number]:
                _place(self, name, layer)
            steps.append(Step(name, call.target, given, outputs, free))
        self._steps = tuple(steps)

    def forward(self, x: torch.Tensor) -> Any:
        """Map inputs (N, C, H, W) to what the program returns."""
        values: dict[str, Any] = {self._input: x}

        def filled(part: Any) -> Any:
            if isinstance(part, Value):
                return values[part.name]
            if isinstance(part, Device):
                return x.device
            if isinstance(part, PerInput):
                return part.size * len(x) // part.batch
            return part

        for step in self._steps:
            given = replace(step.given, filled)
            if step.layer:
                made = self.get_submodule(step.layer)(*given)
            else:
                made = resolved(step.target)(*given)
            _note(values, step.outputs, made)
            for name in step.free:
                values.pop(name, None)
        found = tuple(values[name] for name in self._outputs)
        return found[0] if len(found) == 1 else found

    def extra_repr(self) -> str:
        """The steps, so that two programs of equal layers are told apart."""
        return "\n".join(f"{s.layer or s.target}({s.given}) -> {s.outputs}" for s in self._steps)


def _settings(call: Call) -> str:
    """All that a call is given but its input: weights and statistics by name, and numbers."""
    fixed = [part for part in call.arguments if part[0] not in ("input", "self")]
    return f"{call.target} {fixed}"


def _parameter(tensors: Mapping[str, torch.Tensor], name: str) -> torch.Tensor:
    if name not in tensors:
        raise InputError(BROKEN)
    value = tensors[name]
    return nn.Parameter(value, requires_grad=False) if value.is_floating_point() else value


def _note(values: dict[str, Any], outputs: tuple[Any, ...], made: Any) -> None:
    """Keep what a call made under its names."""
    several = len(outputs) != 1
    if not several and isinstance(outputs[0], tuple):  # a list of tensors
        outputs, several = outputs[0], True
    for name, value in zip(outputs, made if several else (made,), strict=False):
        if name is not None:
            values[name] = value


def _dependent(program: Program) -> set[str]:
    """Names of all values that depend on the input."""
    found = {program.input}
    for call in program.calls:
        if any(name in found for _, value in call.arguments for name in values_in(value)):
            found.update(made_by(call))
    return found


def _check_places(call: Call, given_by_input: set[str]) -> None:
    """Refuse places in a tensor that depend on the input: one out of range ends a GPU's process.

    Raises
    ------
    InputError
        If there are such.
    """
    places = PLACES.get(base_name(call.target))
    named = dict(call.arguments)
    if places and any(name in given_by_input for name in values_in(named.get(places))):
        raise InputError("The program looks up places that depend on its input.")


def _with_batch(call: Call, batch: int | None) -> dict[str, Any]:
    """A call's arguments; what is made anew is made where the input is.

    Where the size of the batch was fixed, it becomes that of the input.
    """
    arguments = dict(call.arguments)
    if base_name(call.target) in MAKERS:
        arguments.setdefault("device", Device())
    key = SIZED.get(base_name(call.target))
    sizes = arguments.get(key) if key else None
    if batch is None or not isinstance(sizes, list) or not sizes or not isinstance(sizes[0], int):
        return arguments
    first, rest = sizes[0], sizes[1:]
    if key is not None and first > 0 and first % batch == 0:
        viewed = base_name(call.target) in ("view", "_unsafe_view", "reshape")
        # The batch is the slowest axis, so that what is left over belongs to the first.
        free = viewed and -1 not in rest
        arguments[key] = [-1 if free else PerInput(first, batch), *rest]
    return arguments


def _names(calls: tuple[Call, ...]) -> list[str]:
    """A layer's name for each call: its module's where the module makes one call, else its own."""
    many: dict[str, int] = {}
    for call in calls:
        if not is_idle(call.target):
            many[call.module[1]] = many.get(call.module[1], 0) + 1
    inner = {name for call in calls for name in _parents(call.module[0])}
    taken: set[str] = set()
    again: dict[str, int] = {}
    found = []
    for call in calls:
        path, numbered = call.module
        own = re.sub("__+", "_", call.name).strip("_") or "step"
        alone = path and many.get(numbered) == 1 and path not in inner
        name = _clean(numbered if alone else f"{path}.{own}" if path else own)
        while name in taken or any(parent in taken for parent in _parents(name)):
            again[name] = again.get(name, 1) + 1
            name = f"{name}_{again[name]}"
        taken.add(name)
        found.append(name)
    return found


def _parents(name: str) -> Iterator[str]:
    parts = name.split(".")
    return (".".join(parts[:end]) for end in range(1, len(parts)))


def _clean(name: str) -> str:
    """A dotted name of letters, digits and underscores; @ tells the number of a call."""
    parts = [re.sub(r"[^0-9A-Za-z_@]", "_", part)[:MAX_NAME] for part in name.split(".")]
    # What every module has by that name, such as `type`, is no place for a layer.
    return ".".join(f"{p}_" if not p or hasattr(Exported, p) else p for p in parts[-MAX_DEPTH:])


def _place(root: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer under its dotted name."""
    *path, last = name.split(".")
    for part in path:
        inner = root._modules.get(part)
        if inner is None:
            inner = nn.Module()
            root.add_module(part, inner)
        root = inner
    root.add_module(last, layer)
