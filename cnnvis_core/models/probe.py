"""What layers make of a batch of inputs: the one way in which every method looks into a network."""

from __future__ import annotations

import contextlib
import copy
import math
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from cnnvis_core.errors import ModelError
from cnnvis_core.models.geometry import first_tensor
from cnnvis_core.models.graph import Call, Graph, Ref, UntraceableError, compute
from cnnvis_core.models.memory import in_halves
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.models.narrow import narrowed
from cnnvis_core.models.replay import (
    Computation,
    activation_behind,
    before_activation,
    last_readers,
    replay,
)
from cnnvis_core.models.shuffled import with_shuffled
from cnnvis_core.models.simplify import simplify

ANSWER = ""  # in place of a layer's name: the logits
# Before a layer's name: its value before the non-linearity, and its control units.
_DRIVE, _CONTROL = "drive of ", "control of "


@dataclass(frozen=True, eq=False)
class Compared:
    """Layers beside control units, all as maps (N, units, h, w).

    Attributes
    ----------
    maps : dict
        Layer -> what `Probe.maps` gives.
    drive, control : dict
        Layer -> values of its units, and of its control units, before the non-linearity, whose
        threshold would sharpen whatever is weak; see `with_shuffled`. Empty for layers without
        control units.
    """

    maps: dict[str, torch.Tensor]
    drive: dict[str, torch.Tensor]
    control: dict[str, torch.Tensor]


def _number(ref: Ref) -> int:
    return ref.node


class Probe:
    """Gives the values of layers for batches of inputs; nothing behind the last is computed.

    Gradients flow to the inputs as autograd's mode says; the network's weights take none. Nothing
    is hooked where the pass can be recorded; where it cannot, only this thread's pass is listened
    to, and no hook outlives a call.

    Parameters
    ----------
    model : Model
        Left as it was found.
    layers : sequence of str
        Names from ``model.layers``, or `ANSWER`.
    shape : tuple of int
        (C, H, W) of one input.
    behind : bool or collection of str
        Take the value behind the non-linearity that follows each layer, or those named, with the
        normalisation and the sum with a shortcut that stand between; of these layers those that
        none follows are left out.
    folded : bool
        Let batch norms become part of convolutions: quicker, and equal but for rounding.
    control : (int, int), optional
        Number of control units a layer and seed of their kernels, for `compared`.

    Raises
    ------
    ModelError
        If there is no such layer.
    UntraceableError
        If ``behind`` is asked for where the pass cannot be followed.
    """

    def __init__(
        self,
        model: Model,
        layers: Sequence[str],
        shape: tuple[int, ...],
        behind: bool | Collection[str] = False,
        folded: bool = False,
        control: tuple[int, int] | None = None,
    ) -> None:
        self.model = model
        self.layers = {name: model.layer(name) for name in layers if name != ANSWER}
        self._answers, self._behind = ANSWER in layers, bool(behind)
        self._graph: Graph | None = None
        self._refs: dict[str, Ref] = {}
        self._drives: dict[str, Ref] = {}
        self._controls: dict[str, Ref] = {}
        self._units: dict[str, torch.Tensor] = {}
        further = tuple(self.layers) if behind is True else tuple(behind or ())
        try:
            self._follow(shape, further, folded, control)
        except UntraceableError:
            if behind:
                raise

    def _follow(
        self,
        shape: tuple[int, ...],
        behind: Sequence[str],
        folded: bool,
        control: tuple[int, int] | None,
    ) -> None:
        graph = self.model.recording(shape)
        if any(name not in graph.calls for name in self.layers):
            raise UntraceableError("it takes other steps for an input of this size")
        own = {name: graph.calls[name].output for name in self.layers}
        heard = {
            name: activation_behind(graph, ref) if name in behind else ref
            for name, ref in own.items()
        }
        refs = {name: ref for name, ref in heard.items() if ref is not None}
        drives: dict[str, Ref] = {}
        controls: dict[str, Ref] = {}
        if control is not None:
            before = {name: before_activation(graph, ref) for name, ref in refs.items()}
            begins = {name: min(own[name], ref, key=_number) for name, ref in before.items()}
            paths = {name: (begins[name], ref) for name, ref in before.items()}
            graph, controls, moved = with_shuffled(graph, paths, *control)
            refs = {name: moved(ref) for name, ref in refs.items()}
            drives = {name: moved(before[name]) for name in controls}
        if self._answers:
            refs[ANSWER] = graph.output
        if folded and refs:
            marked = {
                mark + name: ref
                for mark, part in (("", refs), (_DRIVE, drives), (_CONTROL, controls))
                for name, ref in part.items()
            }
            last = max(marked.values(), key=_number)
            calls = {name: Call((), ref) for name, ref in marked.items()}
            graph = simplify(Graph(graph.nodes[: last.node + 1], last, calls), tuple(calls))
            refs = {name: graph.calls[name].output for name in refs}
            drives = {name: graph.calls[_DRIVE + name].output for name in drives}
            controls = {name: graph.calls[_CONTROL + name].output for name in controls}
        self._graph, self._refs, self._drives, self._controls = graph, refs, drives, controls

    def of_units(self, channels: Mapping[str, Sequence[int]]) -> Probe:
        """A probe that gives the same maps, but of some layers some units only; others read 0.

        Where a layer's value is made by a convolution and read by nothing else that is wanted, the
        other units are not computed.

        Parameters
        ----------
        channels : mapping
            Layer -> its units.
        """
        narrow = copy.copy(self)
        narrow._units = {}
        read = {ref.node for ref in self._refs.values()}
        for name, units in channels.items():
            layer, ref = self.layers[name], self._refs.get(name)
            if self._graph is None or ref is None or layer.axes != (0, 1, 2):
                continue
            last = all(node <= ref.node for node in read) and len(read) == 1
            graph = narrowed(self._graph, ref, units) if last else None
            if graph is not None:
                narrow._graph = graph
                narrow._units[name] = torch.tensor(units, device=self.model.device)
        return narrow

    @property
    def operations(self) -> frozenset[str]:
        """Names of ATen's operations on the way to the layers; empty where not followed."""
        if self._graph is None:
            return frozenset()
        needed = last_readers(self._graph, set(self._refs.values()), ())
        nodes = (self._graph.nodes[number] for number in needed)
        return frozenset(node.name for node in nodes if node.op is not None)

    @property
    def followed(self) -> bool:
        """Whether the pass is recorded, so that operations can be exchanged."""
        return self._graph is not None

    def bytes_kept(self, shape: tuple[int, ...]) -> int:
        """Bytes that a gradient keeps an input, by counting values of float32 twice."""
        nodes = () if self._graph is None else self._graph.nodes
        values = [
            math.prod(side for side in sides if isinstance(side, int))
            for node in nodes
            if node.op is not None and node.depends
            for sides in node.shapes
        ]
        return 8 * sum(values) if values else 8 * 64 * math.prod(shape)

    def __call__(
        self, x: torch.Tensor, computation: Computation = compute
    ) -> dict[str, torch.Tensor]:
        """Values of the layers, each as the network has it, for inputs (N, C, H, W).

        Parameters
        ----------
        x : Tensor (N, C, H, W)
            On the model's device.
        computation : callable, optional
            Runs one operation in place of `compute`; without effect where the pass is not recorded.

        Raises
        ------
        ModelError
            If the network cannot take the input or does not reach a layer.
        """
        try:
            if self._graph is not None:
                found = replay(self._graph, x, set(self._refs.values()), computation)
                return {name: found[ref] for name, ref in self._refs.items()}
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            if self._behind:
                raise ModelError(
                    f"The operations of {self.model.card.title} cannot be run again; look at the "
                    "layers of the non-linearity themselves."
                ) from error
            self._graph = None
        return self._listen(x)

    def maps(self, x: torch.Tensor, computation: Computation = compute) -> dict[str, torch.Tensor]:
        """The same as maps (N, units, h, w) in float32; h and w are 1 for layers without a map."""
        return in_halves(lambda part: self._maps(part, computation), x, _joined)

    def _maps(self, x: torch.Tensor, computation: Computation) -> dict[str, torch.Tensor]:
        found = {}
        for name, value in self(x, computation).items():
            if name == ANSWER:
                found[name] = value[:, :, None, None]
                continue
            maps = as_maps(value, self.layers[name])
            units = self._units.get(name)
            if units is not None and self.followed:
                whole = maps.new_zeros(len(maps), self.layers[name].channels, *maps.shape[2:])
                maps = whole.index_copy(1, units, maps)
            found[name] = maps
        return found

    def compared(self, x: torch.Tensor) -> Compared:
        """Maps of inputs (N, C, H, W), beside those of control units where there are any."""
        return in_halves(self._compared, x, _joined_comparisons)

    def _compared(self, x: torch.Tensor) -> Compared:
        if not self._controls or self._graph is None:
            return Compared(self.maps(x), {}, {})
        wanted = {*self._refs.values(), *self._drives.values(), *self._controls.values()}
        try:
            found = replay(self._graph, x, wanted)
        except (RuntimeError, TypeError, ValueError, IndexError) as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            self._controls = {}
            return Compared(self.maps(x), {}, {})
        return Compared(
            {name: as_maps(found[ref], self.layers[name]) for name, ref in self._refs.items()},
            {name: found[ref].float() for name, ref in self._drives.items()},
            {name: found[ref].float() for name, ref in self._controls.items()},
        )

    def _listen(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Run the whole module, with hooks that see this thread's pass alone."""
        found: dict[str, torch.Tensor] = {}
        try:
            with self._hooks(found):
                answer = self.model.module(x)
        except Exception as error:  # a network of one's own may raise anything
            if isinstance(error, torch.OutOfMemoryError):
                raise
            raise ModelError(
                f"{self.model.card.title} cannot take an input of shape {tuple(x.shape[1:])}; "
                f"it expects {self.model.input_shape}."
            ) from error
        if self._answers:
            found[ANSWER] = answer
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise ModelError(
                f"{self.model.card.title} does not reach its layer {missing[0]!r} here."
            )
        return found

    @contextlib.contextmanager
    def _hooks(self, found: dict[str, torch.Tensor]) -> Iterator[None]:
        me = threading.get_ident()
        parts = dict(self.model.module.named_modules())
        handles = []
        try:
            for name in self.layers:

                def note(_: Any, __: Any, output: Any, name: str = name) -> None:
                    value = first_tensor(output)
                    if threading.get_ident() == me and name not in found and value is not None:
                        found[name] = value.clone()  # the next layer may write into it

                handles.append(parts[name].register_forward_hook(note))
            yield
        finally:
            for handle in handles:
                handle.remove()


def _joined(parts: Sequence[Mapping[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Values of the parts of a batch, by their names, as values of all of it."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _joined_comparisons(parts: Sequence[Compared]) -> Compared:
    return Compared(
        _joined([part.maps for part in parts]),
        _joined([part.drive for part in parts]),
        _joined([part.control for part in parts]),
    )


def as_maps(value: torch.Tensor, layer: Layer) -> torch.Tensor:
    """A layer's value (N, ...) as (N, units, h, w) in float32, whatever the order of its axes."""
    order = [axis + 1 for axis in layer.axes if axis is not None]
    maps = value.float()
    rest = [axis for axis in range(1, maps.ndim) if axis not in order]
    maps = maps.permute(0, *order, *rest)
    if layer.axes[1] is None:
        maps = maps.unsqueeze(2)
    if layer.axes[2] is None:
        maps = maps.unsqueeze(3)
    return maps.flatten(3) if rest else maps


def has_activation(model: Model, layer: str) -> bool:
    """Whether a non-linearity follows a layer that is none itself, as far as can be told."""
    try:
        graph = model.recording(tuple(model.input_shape))
    except UntraceableError:
        return False
    call = graph.calls.get(layer)
    return call is not None and activation_behind(graph, call.output) is not None
