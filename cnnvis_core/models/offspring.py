"""Fine-tuned children of an embedded network, kept as small differences from it."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from cnnvis_core.errors import ModelError

STEPS = 127  # of a difference either way, in a byte
SCALE = "/scale"

State = Mapping[str, torch.Tensor]


def difference(parent: State, child: State, epoch: int) -> dict[str, torch.Tensor]:
    """A child's weights as bytes a weight: differences from its parent in steps of a row's 127th.

    Parameters
    ----------
    parent, child : mapping
        state_dicts; weights of more than one axis that both have are kept as differences, the
        others as they are.
    epoch : int
        Goes before each name.
    """
    found: dict[str, torch.Tensor] = {}
    for name, value in child.items():
        before = parent.get(name)
        if value.ndim < 2 or before is None or before.shape != value.shape:
            found[f"{epoch}/{name}"] = value.contiguous().clone()
            continue
        change = (value.float() - before.float()).flatten(1)
        scale = change.abs().amax(1) / STEPS
        steps = (change / scale.clamp_min(torch.finfo(torch.float32).tiny)[:, None]).round()
        found[f"{epoch}/{name}"] = steps.to(torch.int8).reshape(value.shape)
        found[f"{epoch}/{name}{SCALE}"] = scale
    return found


def child_of(parent: State, kept: State, epoch: int) -> dict[str, torch.Tensor]:
    """The child's weights after an epoch, the inverse of `difference` but for rounding.

    Raises
    ------
    ModelError
        If there is no such epoch, or it is of another parent.
    """
    prefix = f"{epoch}/"
    mine = {name.removeprefix(prefix): v for name, v in kept.items() if name.startswith(prefix)}
    if not mine:
        raise ModelError(f"There are no weights of epoch {epoch}.")
    found = {}
    for name, value in mine.items():
        if name.endswith(SCALE):
            continue
        scale = mine.get(f"{name}{SCALE}")
        if scale is None:
            found[name] = value
            continue
        if name not in parent or parent[name].shape != value.shape:
            raise ModelError(f"The differences are of another network, see {name}.")
        steps = value.float().flatten(1) * scale[:, None]
        found[name] = parent[name].float() + steps.reshape(value.shape)
    return found
