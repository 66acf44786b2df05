"""Receptive fields by interval arithmetic over the operations that a forward pass performs.

The operations are watched as they run, in this thread only; symbolic tracing would patch
``nn.Module`` for every thread of the process. Sizes, strides and offsets follow Araujo, Norris and
Sim, "Computing receptive fields of convolutional neural networks" (Distill, 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary


@dataclass(frozen=True)
class Axis:
    """What the positions along one axis of a tensor see of the input's height or width.

    Position i sees ``offset + i * stride`` up to, not including, that plus ``size``.

    Attributes
    ----------
    dim : int or None
        Axis of the tensor; None where it has been summed up or merged with others.
    size, stride, offset : int
        In input pixels; stride 0 where every position sees the same.
    """

    dim: int | None
    size: int
    stride: int
    offset: int

    def moved(self, dim: int | None) -> Axis:
        """Return the same field along another axis of the tensor."""
        return replace(self, dim=dim)

    def span(self, count: int) -> tuple[int, int]:
        """First pixel and the one behind the last that ``count`` positions see together."""
        return self.offset, self.offset + self.size + (count - 1) * self.stride

    def together(self, shape: Sequence[int], dim: int | None) -> Axis:
        """Every position sees what all of them see."""
        first, end = self.span(self.count(shape))
        return Axis(dim, end - first, 0, first)

    def count(self, shape: Sequence[int]) -> int:
        """Count the positions in a tensor of this shape."""
        return 1 if self.dim is None else shape[self.dim]

    def window(self, size: int, stride: int, padding: int, dilation: int = 1) -> Axis:
        """Behind a sliding window."""
        return Axis(
            self.dim,
            self.size + (size - 1) * dilation * self.stride,
            self.stride * stride,
            self.offset - padding * self.stride,
        )


Field = tuple[Axis, Axis]
Values = dict[str, Any]
AxisRule = Callable[[Axis, Sequence[int], Values], Axis]


def merge(axes: Sequence[tuple[Axis, Sequence[int]]], ndim: int) -> Axis:
    """One axis that sees what several broadcast tensors of these shapes see."""
    placed = []
    for axis, shape in axes:
        dim = None if axis.dim is None else axis.dim + ndim - len(shape)
        placed.append((axis.moved(dim), axis.count(shape)))
    longest = max(count for _, count in placed)
    dims = {axis.dim for axis, _ in placed} - {None}
    dim = dims.pop() if len(dims) == 1 else None
    strides = {axis.stride if count == longest else 0 for axis, count in placed}
    if len(strides) == 1 and not dims:
        first = min(axis.offset for axis, _ in placed)
        end = max(axis.offset + axis.size for axis, _ in placed)
        return Axis(dim, end - first, strides.pop(), first)
    spans = [axis.span(count) for axis, count in placed]
    first, end = min(span[0] for span in spans), max(span[1] for span in spans)
    return Axis(dim, end - first, 0, first)


def each(value: Any, index: int, default: int) -> int:
    """Entry of an argument that may be one number, a list of one, a full list or missing."""
    if value is None or (isinstance(value, list | tuple) and not value):
        return default
    if isinstance(value, list | tuple):
        return int(value[index if len(value) > 1 else 0])
    return int(value)


def convolve(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of convolution (N, C, ...)."""
    if axis.dim is None or axis.dim == 0:
        return axis
    if axis.dim == 1 or v["transposed"]:
        return axis.together(shape, None if axis.dim == 1 else axis.dim)
    index = axis.dim - 2
    size = v["weight"].shape[axis.dim]
    stride, padding = each(v["stride"], index, 1), each(v["padding"], index, 0)
    return axis.window(size, stride, padding, each(v["dilation"], index, 1))


def pool(spatial: int) -> AxisRule:
    """Rule of pooling over the last ``spatial`` axes."""

    def rule(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
        if axis.dim is None or axis.dim < len(shape) - spatial:
            return axis
        index = axis.dim - (len(shape) - spatial)
        size = each(v["kernel_size"], index, 1)
        stride = each(v.get("stride"), index, size)
        return axis.window(
            size, stride, each(v.get("padding"), index, 0), each(v.get("dilation"), index, 1)
        )

    return rule


def adapt(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of pooling to a fixed number of positions."""
    sizes = v["output_size"]
    spatial = len(sizes) if isinstance(sizes, list | tuple) else 1
    if axis.dim is None or axis.dim < len(shape) - spatial:
        return axis
    before = shape[axis.dim]
    after = each(sizes, axis.dim - (len(shape) - spatial), before)
    if before % after or after == 1:
        return axis.together(shape, axis.dim)
    return axis.window(before // after, before // after, 0)


def contract(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of a matrix product with weights over the last axis."""
    return axis.together(shape, None) if axis.dim == len(shape) - 1 else axis


def normalise_trailing(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of layer norm."""
    inside = axis.dim is not None and axis.dim >= len(shape) - len(v["normalized_shape"])
    return axis.together(shape, axis.dim) if inside else axis


def normalise_maps(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of group and instance norm, which use statistics of the whole map."""
    return axis.together(shape, axis.dim)


def along(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of softmax and the like, where positions along one axis see each other."""
    return axis.together(shape, axis.dim) if axis.dim == v["dim"] % len(shape) else axis


def reduce(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of means, sums and maxima."""
    dims = v.get("dim")
    if dims is None or dims == []:
        dims = range(len(shape))
    gone = {dim % len(shape) for dim in ([dims] if isinstance(dims, int) else dims)}
    kept = bool(v.get("keepdim"))
    if axis.dim in gone:
        return axis.together(shape, axis.dim if kept else None)
    return axis if kept else dropped(axis, gone)


def dropped(axis: Axis, gone: Iterable[int]) -> Axis:
    """Return the axis after others were removed."""
    if axis.dim is None:
        return axis
    dim = axis.dim
    return axis.moved(dim - sum(1 for other in gone if other < dim))


def pad(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of padding and cropping; mirrored borders count as padding."""
    amounts = v["pad"] if "pad" in v else v["padding"]
    if axis.dim is None or axis.dim < len(shape) - len(amounts) // 2:
        return axis
    return axis.window(1, 1, amounts[2 * (len(shape) - 1 - axis.dim)])


def cut(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of x[start:end:step] along one axis."""
    if axis.dim is None or axis.dim != v["dim"] % len(shape):
        return axis
    start = v.get("start") or 0
    start = max(start + shape[axis.dim], 0) if start < 0 else min(start, shape[axis.dim])
    return axis.window(1, v.get("step") or 1, -start)


def select(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of x[index] along one axis."""
    dim = v["dim"] % len(shape)
    if axis.dim == dim:
        index = v["index"] % shape[dim]
        return Axis(None, axis.size, 0, axis.offset + index * axis.stride)
    return dropped(axis, {dim})


def divide(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of splitting into parts along one axis."""
    return axis.together(shape, axis.dim) if axis.dim == v["dim"] % len(shape) else axis


def unbind(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of splitting into slices that lose the axis."""
    dim = v["dim"] % len(shape)
    return axis.together(shape, None) if axis.dim == dim else dropped(axis, {dim})


def unsqueeze(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of a new axis."""
    new = v["dim"] % (len(shape) + 1)
    return axis if axis.dim is None or axis.dim < new else axis.moved(axis.dim + 1)


def squeeze(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of removing axes of length 1."""
    dims = v.get("dim", list(range(len(shape))))
    wanted = {dim % len(shape) for dim in ([dims] if isinstance(dims, int) else dims)}
    gone = {dim for dim in wanted if shape[dim] == 1}
    return axis.together(shape, None) if axis.dim in gone else dropped(axis, gone)


def permute(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of reordering axes."""
    order = [dim % len(shape) for dim in v["dims"]]
    return axis if axis.dim is None else axis.moved(order.index(axis.dim))


def transpose(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of swapping two axes."""
    a, b = v["dim0"] % len(shape), v["dim1"] % len(shape)
    return axis if axis.dim is None else axis.moved({a: b, b: a}.get(axis.dim, axis.dim))


def reshape(axis: Axis, shape: Sequence[int], v: Values) -> Axis:
    """Rule of views: an axis survives where the axes before it hold as many entries as before."""
    if axis.dim is None:
        return axis
    after: Sequence[int] = v["shape after"]
    before = math.prod(shape[: axis.dim])
    for dim, size in enumerate(after):
        if math.prod(after[:dim]) == before and size == shape[axis.dim]:
            return axis.moved(dim)
    return axis.together(shape, None)


RULES: dict[str, AxisRule] = {
    "convolution": convolve,
    "linear": contract,
    "layer_norm": normalise_trailing,
    "group_norm": normalise_maps,
    "instance_norm": normalise_maps,
    "constant_pad_nd": pad,
    "slice": cut,
    "select": select,
    "unbind": unbind,
    "unsqueeze": unsqueeze,
    "squeeze": squeeze,
    "permute": permute,
    "transpose": transpose,
    "linalg_vector_norm": reduce,
    **dict.fromkeys(("softmax", "log_softmax", "_softmax", "_log_softmax", "cumsum"), along),
    **dict.fromkeys(("mean", "sum", "amax", "amin", "std", "var", "logsumexp", "prod"), reduce),
    **dict.fromkeys(("split", "split_with_sizes", "chunk"), divide),
    **dict.fromkeys(
        ("view", "reshape", "_unsafe_view", "_reshape_alias", "flatten", "unflatten"), reshape
    ),
    **{f"{kind}_pool{n}d": pool(n) for kind in ("max", "avg") for n in (1, 2, 3)},
    **{f"max_pool{n}d_with_indices": pool(n) for n in (1, 2, 3)},
    **{f"adaptive_{kind}_pool{n}d": adapt for kind in ("max", "avg") for n in (1, 2, 3)},
    **{f"{kind}_pad{n}d": pad for kind in ("reflection", "replication") for n in (1, 2, 3)},
}
# Operations on each position that torch does not tag as such.
POINTWISE_NAMES = (
    "batch_norm dropout feature_dropout alpha_dropout native_dropout hardswish hardtanh relu6 relu "
    "hardsigmoid silu mish gelu elu celu selu prelu rrelu leaky_relu softplus threshold clone "
    "detach alias contiguous copy to _to_copy add sub mul div rsub type_as expand"
)
POINTWISE = frozenset(POINTWISE_NAMES.split())


class FieldTracker(TorchDispatchMode):
    """Watches the operations of this thread and notes what each tensor sees of the input.

    Parameters
    ----------
    x : torch.Tensor
        The input (N, C, H, W).
    """

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.extent = (int(x.shape[-2]), int(x.shape[-1]))
        self.fields: Any = WeakTensorKeyDictionary()
        self.fields[x] = (Axis(x.ndim - 2, 1, 1, 0), Axis(x.ndim - 1, 1, 1, 0))
        self.lost = False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation and note what its outputs see."""
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        base = name[:-1] if name.endswith("_") else name
        known = base in RULES or base in POINTWISE or base in ("cat", "stack")
        if not known and torch.Tag.pointwise not in func.tags:
            with self:  # composite operations are watched part by part
                result = func.decompose(*args, **kwargs)
            if result is not NotImplemented:
                return result
        values = {arg.name: arg.default_value for arg in func._schema.arguments}
        values |= dict(zip(values, args, strict=False)) | kwargs
        sources = [(self.fields[t], t) for t in tensors(values.values()) if t in self.fields]
        shapes = [tuple(t.shape) for _, t in sources]
        result = func(*args, **kwargs)
        if sources:
            fields = [field for field, _ in sources]
            for out in tensors([result]):
                self.note(out, self.behind(base, func, values, fields, shapes, out), name != base)
        return result

    def behind(
        self,
        base: str,
        func: Any,
        values: Values,
        fields: list[Field],
        shapes: list[tuple[int, ...]],
        out: torch.Tensor,
    ) -> Field:
        """Tell what an output of an operation sees, given what its inputs see."""
        if base in RULES and len(fields) == 1 and not self.lost:
            values["shape after"] = tuple(out.shape)
            try:
                height, width = (RULES[base](axis, shapes[0], values) for axis in fields[0])
            except (KeyError, IndexError, TypeError, ValueError, ZeroDivisionError):
                return self.everything()
            return height, width
        pointwise = base in POINTWISE or torch.Tag.pointwise in func.tags
        if self.lost or not (pointwise or base in ("cat", "stack")):
            return self.everything()
        if base == "stack":
            fields = [
                (unsqueeze(h, s, values), unsqueeze(w, s, values))
                for (h, w), s in zip(fields, shapes, strict=True)
            ]
            dim = values["dim"] % out.ndim
            shapes = [(*s[:dim], 1, *s[dim:]) for s in shapes]
        joined = []
        for side in (0, 1):
            axes = [(f[side], s) for f, s in zip(fields, shapes, strict=True)]
            if base == "cat" and any(a.dim == values["dim"] % out.ndim for a, _ in axes):
                axes = [(a.together(s, a.dim), s) for a, s in axes]
            joined.append(merge(axes, out.ndim))
        return joined[0], joined[1]

    def note(self, out: torch.Tensor, field: Field, inplace: bool) -> None:
        """Remember what a tensor sees."""
        if inplace and self.fields.get(out) != field:
            # Writing into a part of a tensor changes what the rest of it is taken for.
            storage = out.untyped_storage().nbytes()
            self.lost = self.lost or storage != out.numel() * out.element_size()
        self.fields[out] = field

    def everything(self) -> Field:
        """Every position sees the whole input, as far as is known."""
        height, width = self.extent
        return Axis(None, height, 0, 0), Axis(None, width, 0, 0)

    def field_of(self, tensor: torch.Tensor) -> Field | None:
        """Tell what a tensor sees; None where it was not followed."""
        return None if self.lost else self.fields.get(tensor)


def tensors(values: Iterable[Any]) -> list[torch.Tensor]:
    """All tensors among arguments and lists of arguments."""
    found: list[torch.Tensor] = []
    for value in values:
        if isinstance(value, torch.Tensor):
            found.append(value)
        elif isinstance(value, list | tuple):
            found += [item for item in value if isinstance(item, torch.Tensor)]
    return found
