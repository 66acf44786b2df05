"""Getting a dead unit to move: gradients through ReLUs that let nothing through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cnnvis_core.models.graph import Node, Ref, compute

NAMES = frozenset({"relu", "relu6", "hardtanh", "clamp", "clamp_min"})


def through_dead_relus(node: Node, value: Callable[[Ref], torch.Tensor], n: int) -> Any:
    """Run an operation; a ReLU that passes no gradient for a picture passes what would wake it.

    For the unit's own ReLU that makes the target the activation before it.
    """
    return _run(node, value, n, False)


def through_all_relus(node: Node, value: Callable[[Ref], torch.Tensor], n: int) -> Any:
    """Run an operation; a ReLU also passes what would wake its silent places, to all of them."""
    return _run(node, value, n, True)


def _run(node: Node, value: Callable[[Ref], torch.Tensor], n: int, everywhere: bool) -> Any:
    result = compute(node, value, n)
    cap = _cap(node)
    if cap is None:
        return result
    return _Waking.apply(value(next(node.refs())), result, cap, everywhere)


def _cap(node: Node) -> float | None:
    """Where an operation that is cut at zero ends; None for any other."""
    if node.name not in NAMES:
        return None
    values = node.values()
    low = values.get("min_val", values.get("min", 0))
    high = 6.0 if node.name == "relu6" else values.get("max_val", values.get("max"))
    if not isinstance(low, int | float) or low != 0:
        return None
    if high is None:
        return float("inf")
    return float(high) if isinstance(high, int | float) else None


class _Waking(torch.autograd.Function):
    """The result as it is, with another gradient where a picture's own is lost."""

    @staticmethod
    def forward(
        ctx: Any, x: torch.Tensor, result: torch.Tensor, cap: float, everywhere: bool
    ) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.cap, ctx.everywhere = cap, everywhere
        return result.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None, None]:
        (x,) = ctx.saved_tensors
        own = torch.where((x > 0) & (x < ctx.cap), gradient, 0.0)
        # The loss falls along minus its gradient: what is below zero may only be raised.
        waking = torch.where((x <= 0) & (gradient < 0), gradient, 0.0)
        if not ctx.everywhere:
            lost = own.flatten(1).abs().amax(1) == 0
            own = torch.where(lost.view(-1, *[1] * (x.ndim - 1)), waking, own)
            return own, None, None, None
        return own + waking, None, None, None
