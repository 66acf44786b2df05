"""A program is tried before it is believed: without memory first, then on two small batches."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from cnnvis_core.errors import InputError
from cnnvis_core.models.graph import leaves, weightless
from cnnvis_core.models.untrusted import available_memory
from cnnvis_core.models.weights import weights_hash

MAX_BYTES = 1 << 33  # that all steps make of two inputs, together
MAX_FLOPS = 1 << 38  # for two inputs; VGG19 takes a quarter of it
POOLING = 16  # times as long as a product and a sum
SEED = 0
FIXED = (
    "The program works for one size of batch only; export it with "
    'dynamic_shapes=({0: torch.export.Dim("batch")},).'
)


class _Budget(TorchDispatchMode):
    """Counts the bytes that operations make, and the work that counting products overlooks."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes = self.work = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run one operation on shapes."""
        made = func(*args, **(kwargs or {}))
        values = [v for v in leaves(made) if isinstance(v, torch.Tensor)]
        self.bytes += sum(v.numel() * v.element_size() for v in values)
        name = func.overloadpacket.__name__
        if "pool" in name and values:
            window = args[1] if len(args) > 1 else 1
            sides = window if isinstance(window, list | tuple) else [window]
            if "adaptive" in name:  # then it says how many windows there are
                self.work += 4 * args[0].numel()
            else:
                self.work += POOLING * values[0].numel() * math.prod(sides)
        if "convolution" in name and values and values[0].dtype != torch.float32:
            # Other kinds of numbers are laid out in columns first.
            columns = values[0].numel() // max(values[0].shape[1], 1) * args[1][0].numel()
            self.bytes += columns * values[0].element_size()
        if self.bytes > MAX_BYTES:
            raise InputError("The program makes more numbers than can be kept here; export a "
                             "smaller network.")  # fmt: skip
        return made


def check_size(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Run a network on shapes alone, before any memory is taken.

    Parameters
    ----------
    network : torch.nn.Module
        Any.
    shape : tuple of int
        (C, H, W) of one input.

    Raises
    ------
    InputError
        If it cannot take such inputs, makes too many numbers, computes for too long, or needs
        values to know what to do.
    """
    budget, flops = _Budget(), FlopCounterMode(display=False)
    try:
        ghost, _ = weightless(network)
        with torch.inference_mode(), flops, budget:
            ghost(torch.empty((2, *shape), device="meta"))
    except InputError:
        raise
    except Exception as error:  # a program of anybody's may make torch raise anything
        raise InputError(
            f"The program cannot take two inputs of shape {shape}; give the input shape that it "
            f"was exported for. If that is right: {FIXED[0].lower()}{FIXED[1:]}"
        ) from error
    if flops.get_total_flops() + budget.work > MAX_FLOPS:
        raise InputError("The program computes for too long; export a smaller network.")
    free = available_memory()
    if free is not None and budget.bytes > free:
        raise InputError("There is not enough memory left for this program; close other models.")


def check_behaviour(network: nn.Module, shape: tuple[int, int, int]) -> None:
    """Two inputs at once must give what each gives alone, and nothing may be written over.

    Raises
    ------
    InputError
        If that is not so.
    """
    x = torch.rand((2, *shape), generator=torch.Generator().manual_seed(SEED))
    given, before = x.clone(), weights_hash(network)
    try:
        with torch.inference_mode():
            together = _first(network(x))
            alone = [_first(network(one[None])) for one in given]
    except Exception as error:  # as above
        raise InputError(
            f"The program cannot be run on inputs of shape {shape}. {FIXED}"
        ) from error
    if not torch.equal(x, given) or weights_hash(network) != before:
        raise InputError(
            "The program writes over its input or its own weights; export a network that does not."
        )
    if together.ndim < 1 or together.shape[0] != 2:
        raise InputError(FIXED)
    if not torch.allclose(together, torch.cat(alone), rtol=1e-3, atol=1e-4, equal_nan=True):
        raise InputError(FIXED)


def _first(made: Any) -> torch.Tensor:
    found = next((v for v in leaves(made) if isinstance(v, torch.Tensor)), None)
    return torch.empty(()) if found is None else found
