"""What rules share, and the rule of operations that have none of their own."""

from __future__ import annotations

import numpy as np
import torch

from cnnvis_core.models.graph import Node, Scaled, compute
from cnnvis_core.occlusion.incremental.boxes import Boxes, Change, Ints
from cnnvis_core.occlusion.incremental.runner import Outcome, Pass

# Operations on each position that torch does not tag as such.
POINTWISE = frozenset(("hardswish", "log_sigmoid", "type_as", "to", "clone", "_to_copy"))
# Operations whose row i depends on row i of their inputs only.
ROWWISE_NAMES = (
    "conv1d conv2d conv3d linear batch_norm layer_norm group_norm instance_norm prelu "
    "max_pool2d avg_pool2d adaptive_avg_pool2d adaptive_max_pool2d pad constant_pad_nd "
    "local_response_norm upsample_nearest2d upsample_bilinear2d pixel_shuffle"
)
ROWWISE = frozenset(ROWWISE_NAMES.split())
# The same, as long as the first axis is none of those that are named.
ROWWISE_BEYOND_FIRST_NAMES = (
    "mean sum amax amin max min std var logsumexp softmax log_softmax cat flatten squeeze "
    "unsqueeze slice select chunk split split_with_sizes permute transpose "
    "linalg_vector_norm cumsum"
)
ROWWISE_BEYOND_FIRST = frozenset(ROWWISE_BEYOND_FIRST_NAMES.split())


def is_pointwise(node: Node) -> bool:
    """Whether an operation treats every position by itself."""
    return node.name in POINTWISE or torch.Tag.pointwise in node.op.tags


def extent_of(node: Node) -> tuple[int, int]:
    """Height and width of a node's output."""
    height, width = node.shapes[0][-2:]
    return int(height), int(width)  # type: ignore[arg-type]


def region(change: Change, low: Ints, high: Ints, extent: tuple[int, int]) -> tuple[Ints, Boxes]:
    """Rows that still differ and the rectangles in which they do."""
    some = np.flatnonzero((high > low).all(0))
    rows: Ints = change.rows  # type: ignore[assignment]
    if len(some) < len(rows):
        rows, low, high = rows[some], low[:, some], high[:, some]
    return rows, Boxes.around(low, high, extent) if len(rows) else Boxes(
        low, high, low, (0, 0), extent
    )


def rowwise(run: Pass, node: Node) -> bool:
    """Whether every row of the result depends on one row of the inputs."""
    if node.name in ROWWISE or is_pointwise(node):
        return True
    if node.name not in ROWWISE_BEYOND_FIRST:
        return False
    v = node.values()
    if node.name == "permute":
        return bool(v["dims"][0] == 0)
    if node.name == "transpose":
        dims = [v["dim0"], v["dim1"]]
    else:
        named = next((v[key] for key in ("start_dim", "dim") if key in v), None)
        dims = list(named) if isinstance(named, list | tuple) else [named]
    # Axes that are counted from the end are the input's where there is one less behind.
    ref = next(node.refs())
    shapes = node.shapes[0], run.clean.graph.nodes[ref.node].shapes[ref.item or 0]
    rank = max(len(shape) for shape in shapes)
    return bool(dims) and all(isinstance(d, int) and d % rank != 0 for d in dims)


def together(run: Pass, node: Node) -> tuple[Ints, Boxes | None, tuple[int, int]] | None:
    """Rows and common rectangles of all inputs of a node; None where rows cannot be matched."""
    found = run.changed(node)
    first = found[0]
    if any(c.rows is None or c.windows or c.axes != first.axes for c in found):
        return None
    if len({run.clean.each(ref) for ref in node.refs()} - {0}) > 1:
        return None
    rows: Ints = first.rows  # type: ignore[assignment]
    if any(c.rows is not rows and not np.array_equal(c.rows, rows) for c in found):  # type: ignore[arg-type]
        rows = np.unique(np.concatenate([c.rows for c in found]))
    if any(c.boxes is None or c.boxes.extent != first.boxes.extent for c in found):  # type: ignore[union-attr]
        return rows, None, first.axes
    extent = first.boxes.extent  # type: ignore[union-attr]
    low = np.repeat(np.array(extent)[:, None], len(rows), 1)
    high = np.zeros((2, len(rows)), np.int64)
    for c in found:
        at = np.searchsorted(rows, c.rows)  # type: ignore[arg-type]
        low[:, at] = np.minimum(low[:, at], c.boxes.low)  # type: ignore[union-attr]
        high[:, at] = np.maximum(high[:, at], c.boxes.high)  # type: ignore[union-attr]
    return rows, Boxes.around(low, high, extent), first.axes


def otherwise(run: Pass, node: Node) -> Outcome:
    """Rule of everything else: the whole value, of the rows that differ where rows stay apart."""
    shared = together(run, node) if rowwise(run, node) else None
    several = len(node.shapes) > 1
    if shared is not None and not several:
        rows = shared[0]
        each = {run.clean.each(ref) for ref in node.refs()}
        grows = any(isinstance(v, Scaled) for v in node.args)
        if 0 not in each and (not grows or len(rows) % max(each) == 0):
            content = compute(node, lambda ref: run.whole(ref, rows), len(rows) // max(each))
            if len(content) == len(rows):
                return Change(rows, content)
    result = compute(node, run.everything, run.n)
    parts = list(result) if isinstance(result, list | tuple) else [result]
    found: list[Change | None] = []
    for item, part in enumerate(parts):
        first = node.shapes[item][:1]
        batch = bool(first) and isinstance(first[0], Scaled) and first[0].base == 0
        found.append(Change(np.arange(len(part), dtype=np.int64) if batch else None, part))
    return found if isinstance(result, list | tuple) else found[0]
