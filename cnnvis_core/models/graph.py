"""A network's forward pass as a list of operations, each a call of torch's ATen library.

The pass is watched while it runs on tensors without memory, in this thread only; symbolic tracing
with torch.fx would patch ``nn.Module`` for every thread of the process.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

CPU = torch.device("cpu")


class UntraceableError(Exception):
    """The forward pass cannot be written as a list of operations; the message says why."""


@dataclass(frozen=True)
class Ref:
    """The value of an earlier node, or one of its values where it has several."""

    node: int
    item: int | None = None


@dataclass(frozen=True)
class Scaled:
    """A number that grows with the number of inputs in the batch: ``base + each * n``."""

    base: int
    each: int


@dataclass(frozen=True, eq=False)
class Node:
    """One operation.

    Attributes
    ----------
    op : torch._ops.OpOverload
        A functional ATen operation; operations in place are recorded as their functional twin.
    args : tuple
        Numbers, constant tensors, `Ref` and `Scaled`, possibly in lists.
    kwargs : dict
        Likewise.
    shapes : tuple of tuple
        Shape of each output, of int and `Scaled`.
    depends : bool
        Whether it depends on the network's input.
    """

    op: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    shapes: tuple[tuple[int | Scaled, ...], ...]
    depends: bool

    @property
    def name(self) -> str:
        """Name of the operation without its overload, for example ``"conv2d"``."""
        return str(self.op.overloadpacket.__name__)

    def refs(self) -> Iterator[Ref]:
        """All references to earlier nodes among the arguments."""
        for value in leaves((self.args, tuple(self.kwargs.values()))):
            if isinstance(value, Ref):
                yield value

    def values(self) -> dict[str, Any]:
        """Arguments by their names in the operation's schema, defaults included."""
        named = {arg.name: arg.default_value for arg in self.op._schema.arguments}
        return {**named, **dict(zip(named, self.args, strict=False)), **self.kwargs}


@dataclass(frozen=True)
class Call:
    """The first call of a module during the pass.

    Attributes
    ----------
    inputs : tuple of Ref
        What it was given.
    output : Ref
        What it returned; of several tensors the first.
    """

    inputs: tuple[Ref, ...]
    output: Ref


@dataclass(frozen=True, eq=False)
class Graph:
    """A forward pass for inputs of one shape and any batch size.

    Attributes
    ----------
    nodes : tuple of Node
        In the order of the pass. Node 0 is the input: its ``op`` is None.
    output : Ref
        The logits.
    calls : dict
        The modules by their dotted names, in the order of their ends.
    """

    nodes: tuple[Node, ...]
    output: Ref
    calls: dict[str, Call] = field(default_factory=dict)


def leaves(value: Any) -> Iterator[Any]:
    """Everything in nested lists and tuples."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def replace(value: Any, change: Callable[[Any], Any]) -> Any:
    """Nested lists and tuples with every leaf exchanged."""
    if isinstance(value, list | tuple):
        return type(value)([replace(item, change) for item in value])
    return change(value)


def resolve(value: Any, n: int) -> Any:
    """Nested arguments with every `Scaled` as a number, for ``n`` inputs."""
    return replace(value, lambda v: v.base + v.each * n if isinstance(v, Scaled) else v)


def compute(node: Node, value: Callable[[Ref], torch.Tensor], n: int) -> Any:
    """Run a node's operation for ``n`` inputs.

    Parameters
    ----------
    node : Node
        Not the input.
    value : callable
        Gives the value of an earlier node.
    n : int
        Number of inputs in the batch.
    """

    def filled(leaf: Any) -> Any:
        return value(leaf) if isinstance(leaf, Ref) else leaf

    args = replace(resolve(node.args, n), filled)
    kwargs = {key: replace(resolve(v, n), filled) for key, v in node.kwargs.items()}
    return node.op(*args, **kwargs)


def record(module: nn.Module, shape: Sequence[int]) -> Graph:
    """Write down the forward pass of a network.

    It is watched for two and for three inputs at once: numbers that differ grow with the batch.

    Parameters
    ----------
    module : torch.nn.Module
        In eval mode; its weights are referred to, not copied.
    shape : sequence of int
        (C, H, W) of one input.

    Raises
    ------
    UntraceableError
        If the pass depends on the values of the input, writes into parts of tensors that are used
        elsewhere, or takes other steps for other batch sizes.
    """
    try:
        ghost, true = weightless(module)
    except (RuntimeError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise UntraceableError("it cannot be copied to be watched") from error
    device = next((t.device for t in (*module.parameters(), *module.buffers())), CPU)
    two, three = (_watch(ghost, true, device, (n, *shape)) for n in (2, 3))
    if [n.op for n in two.nodes] != [n.op for n in three.nodes] or two.output != three.output:
        raise UntraceableError("it takes other steps for other batch sizes")
    nodes = tuple(
        Node(
            a.op, _grown(a.args, b.args), _grown_kwargs(a, b), _grown(a.shapes, b.shapes), a.depends
        )
        for a, b in zip(two.nodes, three.nodes, strict=True)
    )
    return Graph(nodes, two.output, two.calls)


def _grown_kwargs(two: Node, three: Node) -> dict[str, Any]:
    if two.kwargs.keys() != three.kwargs.keys():
        raise UntraceableError("it takes other steps for other batch sizes")
    return {key: _grown(value, three.kwargs[key]) for key, value in two.kwargs.items()}


def _grown(two: Any, three: Any) -> Any:
    """Arguments of a batch of any size from those of two sizes."""
    if isinstance(two, list | tuple) and isinstance(three, list | tuple) and len(two) == len(three):
        return type(two)([_grown(a, b) for a, b in zip(two, three, strict=True)])
    if two is three:
        return two
    whole = isinstance(two, int) and isinstance(three, int)
    if whole and two != three:
        return Scaled(two - 2 * (three - two), three - two)
    if not isinstance(two, torch.Tensor) and type(two) is type(three) and two == three:
        return two
    raise UntraceableError("it takes other steps for other batch sizes")


def weightless(module: nn.Module) -> tuple[nn.Module, dict[int, torch.Tensor]]:
    """Copy of a module whose tensors have no memory, and the true tensor of each by identity."""
    true: dict[int, torch.Tensor] = {}
    memo: dict[int, Any] = {}
    for part in module.modules():
        plain = [value for value in vars(part).values() if isinstance(value, torch.Tensor)]
        held = (*part.parameters(recurse=False), *part.buffers(recurse=False), *plain)
        for tensor in held:
            if id(tensor) not in memo:
                ghost = tensor.detach().to("meta")
                if isinstance(tensor, nn.Parameter):
                    ghost = nn.Parameter(ghost, requires_grad=False)
                memo[id(tensor)], true[id(ghost)] = ghost, tensor.detach()
    ghosts = copy.deepcopy(module, memo)
    for part in ghosts.modules():
        # Hooks that others hold on a shared model must not see tensors without memory.
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    return ghosts, true


def _watch(
    module: nn.Module,
    true: dict[int, torch.Tensor],
    device: torch.device,
    shape: tuple[int, ...],
) -> Graph:
    try:
        with torch.inference_mode():
            x = torch.empty(shape, device="meta")
            recorder = _Recorder(x, true, device)
            with recorder, recorder.watching_calls(module):
                result = module(x)
    except UntraceableError:
        raise
    except Exception as error:  # a network of one's own may raise anything
        raise UntraceableError(
            "its forward pass depends on values, or cannot be run without them"
        ) from error
    output = recorder.ref(result) if isinstance(result, torch.Tensor) else None
    if output is None or result.ndim != 2 or len(result) != shape[0]:
        raise UntraceableError("its answer is not one row of logits an input")
    return Graph(tuple(recorder.nodes), output, recorder.calls)


class _Recorder(TorchDispatchMode):
    """Notes the operations of this thread."""

    def __init__(
        self, x: torch.Tensor, true: dict[int, torch.Tensor], device: torch.device
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.true, self.device = true, device
        self.nodes = [Node(None, (), {}, (tuple(x.shape),), True)]
        self.known: Any = WeakTensorKeyDictionary()
        self.known[x] = Ref(0)
        self.calls: dict[str, Call] = {}

    @contextlib.contextmanager
    def watching_calls(self, module: nn.Module) -> Iterator[None]:
        """Note what each module is given and returns when it is first called."""
        given: dict[str, tuple[Ref, ...]] = {}
        handles = []
        for name, part in module.named_modules():

            def before(_: Any, args: Any, name: str = name) -> None:
                if name not in given:
                    given[name] = tuple(self.refs(args))

            def after(_: Any, args: Any, result: Any, name: str = name) -> None:
                made = next(iter(self.refs(result)), None)
                if name not in self.calls and made is not None:
                    self.calls[name] = Call(given[name], made)

            handles.append(part.register_forward_pre_hook(before))
            handles.append(part.register_forward_hook(after))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def refs(self, values: Any) -> list[Ref]:
        """All values of the pass among what a module is given or returns."""
        if isinstance(values, Mapping):
            values = tuple(values.values())
        return [
            self.known[value]
            for value in leaves(values)
            if isinstance(value, torch.Tensor) and value in self.known
        ]

    def ref(self, value: Any) -> Any:
        """Return the reference to a tensor that an operation made, the true tensor or device."""
        if isinstance(value, torch.device) and value.type == "meta":
            return self.device
        if not isinstance(value, torch.Tensor):
            return value
        if value in self.known:
            return self.known[value]
        constant = self.true.get(id(value))
        if constant is None and value.device.type == "meta":
            raise UntraceableError("it uses a tensor that no operation made")
        return value if constant is None else constant

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and note it."""
        kwargs = kwargs or {}
        noted = replace(args, self.ref), {k: replace(v, self.ref) for k, v in kwargs.items()}
        func_, mutated = _functional(func, args)
        if mutated is not None:
            self.refuse_shared(mutated)
        result = func(*args, **kwargs)
        outputs = [v for v in leaves(result) if isinstance(v, torch.Tensor)]
        if outputs:
            position = len(self.nodes)
            # The dtype and device of x.to(...) and the like stay as they were.
            refs = [v for v in leaves((noted[0], tuple(noted[1].values()))) if isinstance(v, Ref)]
            depends = any(self.nodes[ref.node].depends for ref in refs)
            shapes = tuple(tuple(v.shape) for v in outputs)
            self.nodes.append(Node(func_, *noted, shapes, depends))
            several = isinstance(result, list | tuple)
            for item, value in enumerate(outputs):
                self.known[value] = Ref(position, item if several else None)
        return result

    def refuse_shared(self, tensor: torch.Tensor) -> None:
        """Refuse to write into memory that another tensor in use shares."""
        storage = tensor.untyped_storage()._cdata
        for other in list(self.known.keys()):
            if other is not tensor and other.untyped_storage()._cdata == storage:
                raise UntraceableError("it writes into a part of a tensor that is used elsewhere")


def _functional(func: Any, args: tuple[Any, ...]) -> tuple[Any, torch.Tensor | None]:
    """Return the operation that does the same without writing, and the tensor written to."""
    written = [
        a for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write
    ]
    if not written:
        return func, None
    packet = getattr(torch.ops.aten, func.overloadpacket.__name__.removesuffix("_"), None)
    twin = getattr(packet, func._overloadname, None)
    if (
        not func.overloadpacket.__name__.endswith("_")
        or twin is None
        or len(written) > 1
        or len(twin._schema.arguments) != len(func._schema.arguments)
    ):
        raise UntraceableError(f"it writes in place with {func.overloadpacket.__name__}")
    return twin, args[0]
