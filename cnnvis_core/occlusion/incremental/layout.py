"""Rules of operations that move values about: padding, cropping, splitting, reordering, views."""

from __future__ import annotations

import numpy as np
import torch

from cnnvis_core.models.graph import Node, Scaled, compute
from cnnvis_core.occlusion.incremental.boxes import Boxes, Change
from cnnvis_core.occlusion.incremental.generic import extent_of, otherwise, region
from cnnvis_core.occlusion.incremental.runner import Outcome, Pass


def shift(run: Pass, node: Node, before: tuple[int, int]) -> Outcome:
    """Rule of padding and cropping: positions move, and those outside fall away."""
    ref = next(node.refs())
    change = run.change(ref)
    plain = change is not None and change.axes == (2, 3) and change.content.ndim == 4
    if change is None or change.boxes is None or not plain or change.windows:
        return otherwise(run, node)
    extent, moved = extent_of(node), np.array(before)[:, None]
    low = np.maximum(change.boxes.low + moved, 0)
    high = np.minimum(change.boxes.high + moved, np.array(extent)[:, None])
    rows, boxes = region(change, low, high, extent)
    if not len(rows):
        return None
    stays = len(rows) == len(change.boxes) and boxes.size == change.boxes.size
    if stays and (change.boxes.origin + moved == boxes.origin).all():
        return Change(rows, change.content, boxes)
    return Change(rows, run.gather(ref, rows, boxes.origin - moved, boxes.size), boxes)


def padding(run: Pass, node: Node) -> Outcome:
    """Rule of padding with zeros; other values and mirrored borders are left to the whole map."""
    v = node.values()
    amounts, value = [*v["pad"], 0, 0][:4], v.get("value")
    if v.get("mode", "constant") != "constant" or value not in (None, 0) or len(v["pad"]) > 4:
        return otherwise(run, node)
    return shift(run, node, (amounts[2], amounts[0]))


def cut(run: Pass, node: Node) -> Outcome:
    """Rule of x[start:end] along one axis."""
    v, change = node.values(), run.changed(node)[0]
    axis, start = v["dim"], v["start"] or 0
    if change.boxes is None or change.windows or axis == 0 or isinstance(start, Scaled):
        return otherwise(run, node)
    if axis not in change.axes:
        return channels(run, node)
    extent = change.boxes.extent[change.axes.index(axis)]
    start = max(start + extent, 0) if start < 0 else min(start, extent)
    if v["step"] != 1:
        return otherwise(run, node)
    return shift(run, node, (-start, 0) if axis == 2 else (0, -start))


def channels(run: Pass, node: Node) -> Outcome:
    """Rule of operations on axes other than the batch's and the map's: chunk, select and so on."""
    change = run.changed(node)[0]
    touched = node.values().get("dim")
    dims = [touched] if isinstance(touched, int) else list(touched or [0])
    rank = change.content.ndim
    forbidden = {0, *change.axes}
    if change.boxes is None or change.windows or forbidden & {d % rank for d in dims}:
        return otherwise(run, node)
    result = compute(node, lambda _: change.content, len(change.boxes))
    parts = list(result) if isinstance(result, list | tuple) else [result]
    if any(part.ndim != rank for part in parts):
        return otherwise(run, node)
    found = [Change(change.rows, part, change.boxes, change.axes) for part in parts]
    return list(found) if isinstance(result, list | tuple) else found[0]


def other_rank(run: Pass, node: Node) -> Outcome:
    """Rule of select and unsqueeze, which take away or add an axis."""
    change, added = run.changed(node)[0], node.name == "unsqueeze"
    axis = node.values()["dim"] % (change.content.ndim + added)
    if change.boxes is None or change.windows or axis == 0:
        return otherwise(run, node)
    if not added and axis in change.axes:
        return otherwise(run, node)
    step = 1 if added else -1
    a, b = (at + step if at >= axis else at for at in change.axes)
    content = compute(node, lambda _: change.content, len(change.boxes))
    return Change(change.rows, content, change.boxes, (a, b))


def reorder(run: Pass, node: Node) -> Outcome:
    """Rule of permute and transpose."""
    change, v = run.changed(node)[0], node.values()
    rank = change.content.ndim
    if node.name == "permute":
        order = [d % rank for d in v["dims"]]
    else:
        order = list(range(rank))
        a, b = v["dim0"] % rank, v["dim1"] % rank
        order[a], order[b] = b, a
    if change.boxes is None or change.windows or order[0] != 0:
        return otherwise(run, node)
    axes = (order.index(change.axes[0]), order.index(change.axes[1]))
    if axes[0] > axes[1]:
        return otherwise(run, node)
    return Change(change.rows, change.content.permute(order), change.boxes, axes)


def reshape(run: Pass, node: Node) -> Outcome:
    """Rule of views that leave batch and map alone, and of merging windows into the batch."""
    ref = next(node.refs())
    change, shape = run.changed(node)[0], node.shapes[0]
    if change.windows and shape[0] == Scaled(0, change.windows):
        before = run.clean.value(ref).shape
        if run.clean.value(ref).ndim == len(shape) + 1 and tuple(before[2:]) == shape[1:]:
            return Change(change.rows, change.content, change.boxes, change.axes)
    if change.windows or change.boxes is None or change.rows is None:
        return otherwise(run, node)
    rank, each = change.content.ndim, run.clean.each(ref)
    same = len(shape) > 2 and shape[-2:] == change.boxes.extent and shape[0] == Scaled(0, each)
    if not same or change.axes != (rank - 2, rank - 1):
        return otherwise(run, node)
    inner = [int(size) for size in shape[1:-2]]  # type: ignore[arg-type]
    content = change.content.reshape(len(change.rows), *inner, *change.boxes.size)
    return Change(change.rows, content, change.boxes, (len(shape) - 2, len(shape) - 1))


def stack(run: Pass, node: Node) -> Outcome:
    """Rule of stacking windows of the input along a second axis, as networks for long clips do."""
    refs, axis = list(node.refs()), node.values()["dim"]
    found = [(i, change) for i, ref in enumerate(refs) if (change := run.change(ref)) is not None]
    plain = all(c.boxes is not None and c.axes == (2, 3) and not c.windows for _, c in found)
    if axis != 1 or not plain or any(run.clean.each(ref) != 1 for ref in refs):
        return otherwise(run, node)
    count = len(refs)
    rows = np.concatenate([c.rows * count + i for i, c in found])  # type: ignore[operator]
    low, high = (
        np.concatenate([getattr(c.boxes, side) for _, c in found], 1) for side in ("low", "high")
    )
    boxes = Boxes.around(low, high, extent_of(node))
    origins = np.split(boxes.origin, np.cumsum([len(c.boxes) for _, c in found])[:-1], 1)  # type: ignore[arg-type]
    content = torch.cat(
        [
            run.gather(refs[i], c.rows, origin, boxes.size)  # type: ignore[arg-type]
            for (i, c), origin in zip(found, origins, strict=True)
        ]
    )
    order = rows.argsort()
    boxes = Boxes(low[:, order], high[:, order], boxes.origin[:, order], boxes.size, boxes.extent)
    content = content[torch.from_numpy(order).to(content.device)]
    return Change(rows[order], content, boxes, windows=count)
