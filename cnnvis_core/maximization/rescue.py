"""Getting a dead unit to move: gradients through ReLUs that let nothing through."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from cnnvis_core.models.graph import Node, Ref, compute

_CUT_AT_ZERO = frozenset({"relu", "relu6", "hardtanh", "clamp_min"})


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
    if node.name not in _CUT_AT_ZERO or node.values().get("min_val", 0) != 0:
        return result
    return _Waking.apply(value(next(node.refs())), result, everywhere)


class _Waking(torch.autograd.Function):
    """The result as it is, with another gradient where a picture's own is lost."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, result: torch.Tensor, everywhere: bool) -> torch.Tensor:
        ctx.save_for_backward(x)
        ctx.everywhere = everywhere
        return result.detach().clone()

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        own = torch.where(x > 0, gradient, 0.0)
        # The loss falls along minus its gradient: what is below zero may only be raised.
        waking = torch.where((x <= 0) & (gradient < 0), gradient, 0.0)
        if ctx.everywhere:
            return own + waking, None, None
        lost = own.flatten(1).abs().amax(1) == 0
        return torch.where(lost.view(-1, *[1] * (x.ndim - 1)), waking, own), None, None
