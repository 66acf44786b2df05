"""A program in which layers look alike, whether it was decomposed into core operations or not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cnnvis_core.programs.operations import base_name
from cnnvis_core.programs.schema import Call, Program, Value, made_by, values_in

LINEAR = "torch.ops.aten.linear.default"


def last_readers(program: Program) -> dict[str, int]:
    """The number of the last call that needs each value, its maker where none reads it.

    What the program returns is left out.
    """
    last: dict[str, int] = {}
    for number, call in enumerate(program.calls):
        last.update(dict.fromkeys(made_by(call), number))
        for _, argument in call.arguments:
            last.update(dict.fromkeys(values_in(argument), number))
    for name in program.outputs:
        last.pop(name, None)
    return last


def plain(program: Program) -> Program:
    """The same program with linear layers in one piece, without outputs that nobody reads.

    Decomposed, a linear layer is a product with its weight turned round by a step of its own.
    """
    turned = {
        call.outputs[0]: source
        for call in program.calls
        if (source := _turned(call)) is not None and source.name in program.held
    }
    calls = tuple(_in_one_piece(call, turned) for call in program.calls)
    read = {name for call in calls for _, v in call.arguments for name in values_in(v)}
    read.update(program.outputs)
    kept = (call for call in calls if call.outputs[:1] and _needed(call, turned, read))
    return replace(program, calls=tuple(replace(c, outputs=_those(c.outputs, read)) for c in kept))


def _needed(call: Call, turned: dict[Any, Value], read: set[str]) -> bool:
    """Whether a call is more than the turning of a weight that nobody needs any more."""
    return call.outputs[0] not in turned or call.outputs[0] in read


def _turned(call: Call) -> Value | None:
    """The matrix that a call transposes, if it does nothing else."""
    values = dict(call.arguments)
    source, name = values.get("self", values.get("input")), base_name(call.target)
    if not isinstance(source, Value) or len(call.outputs) != 1:
        return None
    swapped = {
        "t": True,
        "numpy_T": True,
        "permute": values.get("dims") == [1, 0],
        "transpose": {values.get("dim0"), values.get("dim1")} in ({0, 1}, {-1, -2}),
    }
    return source if swapped.get(name) else None


def _in_one_piece(call: Call, turned: dict[Any, Value]) -> Call:
    """A product with a turned weight as a linear layer; other calls as they are."""
    values, name = dict(call.arguments), base_name(call.target)
    weight = values.get("mat2")
    if name not in ("addmm", "mm") or not isinstance(weight, Value) or weight.name not in turned:
        return call
    if any(values.get(scale, 1) != 1 for scale in ("alpha", "beta")):
        return call
    first, bias = ("mat1", values.get("self")) if name == "addmm" else ("self", None)
    named = (("input", values[first]), ("weight", turned[weight.name]), ("bias", bias))
    return replace(call, target=LINEAR, arguments=named)


def _those(outputs: tuple[Any, ...], read: set[str]) -> tuple[Any, ...]:
    """Names among what a call makes that somebody reads, None for the others."""
    return tuple(
        _those(part, read) if isinstance(part, tuple) else part if part in read else None
        for part in outputs
    )
