"""Rules of sliding windows: convolution and pooling."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from cnnvis_core.models.graph import Node, Ref, compute
from cnnvis_core.occlusion.incremental.boxes import Change, Window
from cnnvis_core.occlusion.incremental.generic import extent_of, otherwise, region
from cnnvis_core.occlusion.incremental.runner import Outcome, Pass

# Above this share of a map, computing the whole map is as quick as its rectangle.
WHOLE_SHARE = 0.85


def pair(value: Any, default: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """(vertical, horizontal) of a setting: one number, a list of one or two, or an empty one."""
    if isinstance(value, int):
        return value, value
    values = list(value) or list(default)
    return int(values[0]), int(values[-1])


def slide(
    run: Pass,
    node: Node,
    window: Window,
    fill: float,
    operation: Callable[[torch.Tensor], torch.Tensor],
) -> Outcome:
    """Rule of a sliding window.

    Parameters
    ----------
    fill : float
        What padding stands for.
    operation : callable
        Takes rectangles (R, C, h, w) with their surroundings, computes without padding.
    """
    ref = next(node.refs())
    change = run.change(ref)
    if change is None or change.boxes is None or change.axes != (2, 3) or change.windows:
        return otherwise(run, node)
    low, high = window.behind(change.boxes, extent_of(node))
    rows, boxes = region(change, low, high, extent_of(node))
    if not len(rows):
        return None
    if boxes.share > WHOLE_SHARE:
        return Change(rows, compute(node, lambda r: run.whole(r, rows), len(rows)))
    if window.reach.max() == 0 and max(window.stride) == 1 and boxes.same_place(change.boxes):
        content = change.content
    else:
        content = run.gather(ref, rows, *window.before(boxes), fill)
    return Change(rows, operation(content), boxes)


def convolution(run: Pass, node: Node) -> Outcome:
    """Rule of conv2d."""
    v = node.values()
    weight = v["weight"]
    if isinstance(v["padding"], str) or not isinstance(weight, torch.Tensor):
        return otherwise(run, node)
    if weight.ndim != 4 or isinstance(v["bias"], Ref):
        return otherwise(run, node)
    stride, dilation = pair(v["stride"], (1, 1)), pair(v["dilation"], (1, 1))
    window = Window(pair(weight.shape[2:]), stride, pair(v["padding"]), dilation)

    def operation(x: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(x, weight, v["bias"], stride, 0, dilation, v["groups"])

    return slide(run, node, window, 0.0, operation)


def max_pool(run: Pass, node: Node) -> Outcome:
    """Rule of max_pool2d."""
    v = node.values()
    kernel, dilation = pair(v["kernel_size"]), pair(v["dilation"], (1, 1))
    stride = pair(v["stride"], kernel)

    def operation(x: torch.Tensor) -> torch.Tensor:
        return torch.max_pool2d(x, kernel, stride, 0, dilation)

    window = Window(kernel, stride, pair(v["padding"]), dilation)
    return slide(run, node, window, -math.inf, operation)


def average_pool(run: Pass, node: Node) -> Outcome:
    """Rule of avg_pool2d, where every window divides by the same number."""
    v = node.values()
    kernel, padding = pair(v["kernel_size"]), pair(v["padding"])
    stride, divisor = pair(v["stride"], kernel), v["divisor_override"]
    if v["ceil_mode"] or (any(padding) and not v["count_include_pad"]):
        return otherwise(run, node)

    def operation(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(x, kernel, stride, divisor_override=divisor)

    return slide(run, node, Window(kernel, stride, padding, (1, 1)), 0.0, operation)
