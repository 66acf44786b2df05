"""How a changed rectangle passes through each operation of a network."""

from __future__ import annotations

from typing import Any

import torch

from cnnvis_core.models.graph import Node, Ref, compute, replace, resolve
from cnnvis_core.occlusion.incremental import layout, windows
from cnnvis_core.occlusion.incremental.boxes import Boxes, Change, Ints
from cnnvis_core.occlusion.incremental.generic import is_pointwise, otherwise, together
from cnnvis_core.occlusion.incremental.runner import Outcome, Pass, Rule

# Operations on each position that know which axis is that of the channels.
CHANNELWISE = frozenset(("batch_norm", "prelu"))
# Results of these are new tensors that nobody else holds, so an activation may write there.
FRESH = frozenset(("conv2d", "batch_norm", "linear", "cat"))
ACTIVATION_NAMES = (
    "relu relu6 leaky_relu elu celu selu silu mish gelu sigmoid tanh "
    "hardtanh hardsigmoid hardswish clamp clamp_min"
)
ACTIVATIONS = frozenset(ACTIVATION_NAMES.split())


def rule_for(node: Node) -> Rule:
    """The rule of a node."""
    return RULES.get(node.name, pointwise if is_pointwise(node) else otherwise)


def forgets(node: Node) -> bool:
    """Whether a node's rule hardly ever asks for the clean values of its inputs."""
    return is_pointwise(node) and sum(1 for _ in node.refs()) == 1


def pointwise(run: Pass, node: Node) -> Outcome:
    """Rule of operations on each position, of one value or several."""
    refs = list(node.refs())
    change = run.change(refs[0])
    rank = len(node.shapes[0])
    if len(refs) == 1 and change is not None:
        if change.rows is None or change.windows or change.content.ndim != rank:
            return otherwise(run, node)
        if change.boxes is not None and not same_everywhere(node, change.axes):
            return otherwise(run, node)
        operation = in_place(run, node, refs[0]) or node.op
        args = replace(resolve(node.args, len(change.rows)), lambda v: _put(v, change.content))
        content = operation(*args, **node.kwargs)
        return Change(change.rows, content, change.boxes, change.axes)
    return _several(run, node)


def _put(leaf: Any, content: torch.Tensor) -> Any:
    return content if isinstance(leaf, Ref) else leaf


def in_place(run: Pass, node: Node, ref: Ref) -> Any:
    """Return the operation's twin that writes to its input, where nobody else reads that input."""
    source = run.clean.graph.nodes[ref.node]
    if source.op is None or source.name not in FRESH or node.name not in ACTIVATIONS:
        return None
    if run.clean.reader_count[ref.node] > 1:
        return None
    packet = getattr(torch.ops.aten, node.name + "_", None)
    return getattr(packet, node.op._overloadname, None)


def same_everywhere(node: Node, axes: tuple[int, int]) -> bool:
    """Whether an operation does the same at all positions of the map."""
    if node.name in CHANNELWISE:
        return 1 not in axes and not node.values().get("training")
    return all(broadcasts(leaf, len(node.shapes[0]), axes) for leaf in node.args)


def broadcasts(leaf: Any, rank: int, axes: tuple[int, int]) -> bool:
    """Whether a constant is the same at all positions of the map."""
    if not isinstance(leaf, torch.Tensor):
        return True
    return all(axis - rank < -leaf.ndim or leaf.shape[axis - rank] == 1 for axis in axes)


def concatenate(run: Pass, node: Node) -> Outcome:
    """Rule of cat along the channels."""
    change = run.changed(node)[0]
    axis = node.values()["dim"] % len(node.shapes[0])
    if change.boxes is None or axis in (0, *change.axes):
        return otherwise(run, node)
    return _several(run, node)


def _several(run: Pass, node: Node) -> Outcome:
    """Several values in the rectangle that holds the changes of all."""
    shared = together(run, node)
    if shared is None or shared[1] is None:
        return otherwise(run, node)
    rows, boxes, axes = shared[0], shared[1], shared[2]
    rank = len(node.shapes[0])
    constants = [leaf for leaf in node.args if not isinstance(leaf, Ref | list | tuple)]
    if not all(broadcasts(leaf, rank, axes) for leaf in constants):
        return otherwise(run, node)
    if tuple(node.shapes[0][axis] for axis in axes) != boxes.extent:
        return otherwise(run, node)
    parts = {ref: fetched(run, ref, rows, boxes, axes) for ref in set(node.refs())}
    if any(part is None for part in parts.values()):
        return otherwise(run, node)
    return Change(rows, compute(node, parts.__getitem__, len(rows)), boxes, axes)


def fetched(run: Pass, ref: Ref, rows: Ints, boxes: Boxes, axes: tuple[int, int]) -> Any:
    """A value in some rectangles; None where it cannot be cut out."""
    change, clean = run.change(ref), run.clean
    if change is not None and change.boxes is not None:
        if len(change.boxes) == len(rows) and change.boxes.same_place(boxes):
            return change.content
        if change.content.ndim != 4 or axes != (2, 3):
            return None
        return run.gather(ref, rows, boxes.origin, boxes.size)
    value = clean.value(ref)
    if value.ndim == 4 and axes == (2, 3) and clean.each(ref):
        if tuple(value.shape[2:]) == boxes.extent:
            return run.gather(ref, rows, boxes.origin, boxes.size)
        if tuple(value.shape[2:]) == (1, 1):
            return run.whole(ref, rows)
    return None


def last_axis(run: Pass, node: Node) -> Outcome:
    """Rule of linear and layer norm, on axes behind the map's."""
    change, v = run.change(next(node.refs())), node.values()
    count = len(v.get("normalized_shape", [0]))
    if change is None or change.boxes is None or change.windows:
        return otherwise(run, node)
    if max(change.axes) >= change.content.ndim - count or sum(1 for _ in node.refs()) > 1:
        return otherwise(run, node)
    content = compute(node, lambda _: change.content, len(change.boxes))
    return Change(change.rows, content, change.boxes, change.axes)


RULES: dict[str, Rule] = {
    "conv2d": windows.convolution,
    "max_pool2d": windows.max_pool,
    "avg_pool2d": windows.average_pool,
    "pad": layout.padding,
    "constant_pad_nd": layout.padding,
    "slice": layout.cut,
    "select": layout.other_rank,
    "unsqueeze": layout.other_rank,
    "cat": concatenate,
    "stack": layout.stack,
    "linear": last_axis,
    "layer_norm": last_axis,
    **dict.fromkeys(("chunk", "split", "split_with_sizes"), layout.channels),
    **dict.fromkeys(("permute", "transpose"), layout.reorder),
    **dict.fromkeys(("view", "reshape", "flatten", "unflatten", "_unsafe_view"), layout.reshape),
    **dict.fromkeys(CHANNELWISE, pointwise),
}
