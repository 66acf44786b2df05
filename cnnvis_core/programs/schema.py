"""From the JSON of an exported program to a list of calls, every part checked.

The schema is torch's own (``torch/_export/serde/schema.py``); expressions in it are never
evaluated: sizes that depend on the batch are computed by the program's own steps.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from cnnvis_core.errors import InputError
from cnnvis_core.models.graph import leaves
from cnnvis_core.programs.archive import BROKEN, DAMAGED, DTYPES

MAX_CALLS = 5_000
MAX_PATH = 1_000  # characters
GETATTR = re.compile(r"getattr\(([^(),]*), '([^']*)'\)")
ROOT = re.compile(r"^L(\['\w+'\]|__self__)\.?")
NOT_PLAIN = (
    "The program's graph holds parts of other kinds than tensors and numbers; export a network "
    "without branches on values, without torch.no_grad inside, and without objects of its own."
)
ONE_INPUT = "The program must take one batch of pictures (N, C, H, W) and nothing else."
TRAINING = "The program was exported while training; call model.eval() and export it again."
FORMATS: Mapping[int, torch.memory_format] = {
    1: torch.contiguous_format,
    2: torch.channels_last,
    4: torch.preserve_format,
}
NUMBERS: Mapping[str, float] = {
    "Infinity": float("inf"),
    "-Infinity": float("-inf"),
    "NaN": float("nan"),
}
PLAIN: Mapping[str, tuple[type, ...]] = {
    "as_int": (int,),
    "as_bool": (bool,),
    "as_string": (str,),
}
LISTS: Mapping[str, str] = {
    "as_ints": "as_int",
    "as_bools": "as_bool",
    "as_floats": "as_float",
    "as_sym_ints": "as_sym_int",
    "as_sym_floats": "as_sym_float",
    "as_sym_bools": "as_sym_bool",
    "as_tensors": "as_tensor",
    "as_optional_tensors": "",  # its parts say their kinds themselves
}


@dataclass(frozen=True)
class Value:
    """What an earlier call made, or an input, parameter or constant, by its name."""

    name: str


@dataclass(frozen=True)
class Device:
    """In place of the device that the exporter had: the one of the input."""


@dataclass(frozen=True)
class Call:
    """One step of a program.

    Attributes
    ----------
    target : str
        Which operation, as the file names it.
    name : str
        Of the step, unique in the file.
    arguments : tuple of (str, object)
        Names and values; `Value` and `Device` stand for what is known only when it runs.
    outputs : tuple
        Names of what it makes, None for what nobody reads; a tuple within for a list of tensors.
    module : tuple of str
        Dotted name of the module that made the call, and the same with the number of its call.
    """

    target: str
    name: str
    arguments: tuple[tuple[str, Any], ...]
    outputs: tuple[Any, ...]
    module: tuple[str, str]


@dataclass(frozen=True)
class Program:
    """A network as a list of calls.

    Attributes
    ----------
    input : str
        Name of the batch of pictures.
    shape : tuple of int
        That of the pictures which it was exported with, the batch among it.
    batch : int or None
        Inputs in a batch; None where the program takes any number.
    held : dict
        Names of the tensors in the file by the names of their values.
    calls : tuple of Call
        In the order of the pass.
    outputs : tuple of str
        What it returns.
    ranks : dict
        Number of axes of each value.
    """

    input: str
    shape: tuple[int, ...]
    batch: int | None
    held: dict[str, str]
    calls: tuple[Call, ...]
    outputs: tuple[str, ...]
    ranks: dict[str, int]


def parsed(tree: Mapping[str, Any]) -> Program:
    """Read a program's graph and signature.

    Raises
    ------
    InputError
        If it is damaged, or of another kind than a network that maps one batch to logits.
    """
    try:
        module = tree["graph_module"]
        graph, signature = module["graph"], module["signature"]
        if len(graph["nodes"]) > MAX_CALLS:
            raise InputError("The program has too many steps; export a smaller network.")
        given, held = _inputs(signature["input_specs"])
        outputs = _outputs(signature["output_specs"])
        sizes = graph["tensor_values"]
        shape = tuple(_size(n) for n in sizes[given]["sizes"])
        first = sizes[given]["sizes"][0] if shape else {}
        calls = tuple(_call(node) for node in graph["nodes"])
        ranks = {str(name): len(meta["sizes"]) for name, meta in sizes.items()}
    except DAMAGED as error:
        raise InputError(BROKEN) from error
    if len(shape) != 4:
        raise InputError(ONE_INPUT)
    batch = int(first["as_int"]) if "as_int" in first else None
    program = Program(given, shape, batch, held, calls, outputs, ranks)
    _check_order(program)
    return program


def _inputs(specs: list[Mapping[str, Any]]) -> tuple[str, dict[str, str]]:
    """Name of the batch of pictures, and the file's tensors by their values' names."""
    given: list[str] = []
    held: dict[str, str] = {}
    for spec in specs:
        ((kind, entry),) = spec.items()
        if kind == "user_input":
            ((form, value),) = entry["arg"].items()
            if form != "as_tensor":
                raise InputError(ONE_INPUT)
            given.append(str(value["name"]))
        elif kind in ("parameter", "buffer", "tensor_constant"):
            held[str(entry["arg"]["name"])] = str(entry[f"{kind}_name"])
        else:
            raise InputError(NOT_PLAIN)
    if len(given) != 1:
        raise InputError(ONE_INPUT)
    return given[0], held


def _outputs(specs: list[Mapping[str, Any]]) -> tuple[str, ...]:
    found = []
    for spec in specs:
        ((kind, entry),) = spec.items()
        if kind in ("buffer_mutation", "parameter_mutation"):
            raise InputError(TRAINING)
        if kind != "user_output":
            raise InputError(NOT_PLAIN)
        if "as_tensor" in entry["arg"]:
            found.append(str(entry["arg"]["as_tensor"]["name"]))
    if not found:
        raise InputError("The program returns no tensor.")
    return tuple(found)


def _size(size: Mapping[str, Any]) -> int:
    """A size, or of one that may vary the example's."""
    return int(size["as_int"] if "as_int" in size else size["as_expr"]["hint"]["as_int"])


def _call(node: Mapping[str, Any]) -> Call:
    outputs = tuple(_made(entry) for entry in node["outputs"])
    named = next((name for name in leaves(outputs) if name is not None), "")
    stack = str(node.get("metadata", {}).get("nn_module_stack", ""))
    return Call(
        str(node["target"]),
        str(node.get("name") or named),
        tuple((str(entry["name"]), _argument(entry["arg"])) for entry in node["inputs"]),
        outputs,
        _module(stack),
    )


def _made(entry: Mapping[str, Any]) -> Any:
    """Name or names of what a call makes."""
    ((kind, value),) = entry.items()
    if kind in ("as_tensor", "as_optional_tensor"):
        return str(value["name"]) if "name" in value else None
    if kind == "as_tensors":
        return tuple(str(part["name"]) for part in value)
    if kind in ("as_sym_int", "as_sym_bool", "as_sym_float"):
        return str(value["as_name"]) if "as_name" in value else None
    if kind == "as_none":
        return None
    raise InputError(NOT_PLAIN)


def _module(stack: str) -> tuple[str, str]:
    """Dotted name of the innermost module, and the same with the number of its call.

    An entry of the stack is "call,path,class"; until 2.7 paths are expressions such as
    ``getattr(L['self'].blocks, '0').conv``.
    """
    call, _, rest = stack.rpartition(";")[2].partition(",")
    path = rest.rpartition(",")[0][:MAX_PATH]
    while (plainer := GETATTR.sub(r"\1.\2", path)) != path:
        path = plainer
    path = ROOT.sub("", path)
    number = call.partition("@")[2]
    return path, f"{path}@{number}" if number else path


def _argument(entry: Mapping[str, Any]) -> Any:
    """An argument as the operation takes it, `Value` for what an earlier call makes."""
    ((kind, value),) = entry.items()
    if kind in LISTS:
        one = LISTS[kind]
        return [_argument({one: part} if one else part) for part in value]
    if kind in PLAIN and isinstance(value, PLAIN[kind]):
        return value
    if kind == "as_none":
        return None
    if kind == "as_float":
        return NUMBERS[value] if isinstance(value, str) else float(value)
    if kind == "as_tensor":
        return Value(str(value["name"]))
    if kind == "as_optional_tensor":
        return _argument(value)
    if kind.startswith("as_sym_"):
        if "as_name" in value:
            return Value(str(value["as_name"]))
        ((form, number),) = value.items()
        return _argument({form: number})
    if kind == "as_scalar_type" and value in DTYPES:
        return DTYPES[value]
    if kind == "as_memory_format" and value in FORMATS:
        return FORMATS[value]
    if kind == "as_layout" and value == 7:
        return torch.strided
    if kind == "as_device":
        return Device()
    raise InputError(NOT_PLAIN)


def values_in(value: Any) -> Iterator[str]:
    """Names of the values among nested arguments."""
    for leaf in leaves(value):
        if isinstance(leaf, Value):
            yield leaf.name


def made_by(call: Call) -> Iterator[str]:
    """Names of what a call makes."""
    return (name for name in leaves(call.outputs) if name is not None)


def _check_order(program: Program) -> None:
    """Refuse a program that reads what was not made, or makes a name twice."""
    known = {program.input, *program.held}
    for call in program.calls:
        if any(name not in known for _, value in call.arguments for name in values_in(value)):
            raise InputError(BROKEN)
        made = list(made_by(call))
        if known.intersection(made) or len(set(made)) != len(made):
            raise InputError(BROKEN)
        known.update(made)
    if any(name not in known for name in program.outputs):
        raise InputError(BROKEN)
