"""A network that may change: a copy, with a last layer for other classes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.geometry import describe_layers
from cnnvis_core.models.model import Model

HEAD, ALL = "head", "all"


def stages_of(model: Model) -> tuple[str, ...]:
    """Names of the parts that learn or stay together, from the input to the answer.

    The children of the network that hold weights; a row of such parts counts one by one.
    """
    return tuple(_stages(model.module, ""))


def _stages(module: nn.Module, prefix: str) -> Iterator[str]:
    parts = [
        (name, child)
        for name, child in module.named_children()
        if next(child.parameters(), None) is not None
    ]
    for name, child in parts:
        row = isinstance(child, nn.Sequential) and len(list(child.children())) > 1
        inner = [part for part in child.children() if any(True for _ in part.parameters())]
        blocks = row and all(any(True for _ in part.children()) for part in inner)
        if len(parts) == 1 or blocks:
            yield from _stages(child, f"{prefix}{name}.")
        else:
            yield prefix + name


def head_of(model: Model) -> str:
    """Name of the layer that gives the logits.

    Raises
    ------
    ModelError
        If it cannot be told.
    """
    for layer in reversed(model.layers):
        part = model.module.get_submodule(layer.name)
        if isinstance(part, nn.Linear | nn.Conv2d) and layer.channels == len(model.classes):
            return layer.name
    raise ModelError(
        f"{model.card.title} does not end with a linear layer or a convolution of one unit a "
        "class; give it such a last layer first."
    )


def trainable(model: Model, classes: Sequence[str], seed: int, scratch: bool) -> nn.Module:
    """A copy in eval mode whose weights may change, with a last layer for these classes.

    A class that the model knows by the same name keeps its weights of the last layer; those of the
    others are drawn at random.

    Parameters
    ----------
    model : Model
        Not changed.
    classes : sequence of str
        Names of the new classes.
    seed : int
        Of the new weights.
    scratch : bool
        Whether all weights are made new.
    """
    name = head_of(model)
    module = copy.deepcopy(model.module).eval()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if tuple(classes) != model.classes:
            old = module.get_submodule(name)
            new = _head(old, len(classes)).to(model.device)
            _keep_known(old, new, model.classes, classes)
            _put(module, name, new)
        if scratch:
            for part in module.modules():
                renew = getattr(part, "reset_parameters", None)
                if callable(renew):
                    renew()
    return module.requires_grad_(False)


def _head(layer: nn.Module, classes: int) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        kernel = (layer.kernel_size[0], layer.kernel_size[1])
        return nn.Conv2d(
            layer.in_channels, classes, kernel, layer.stride, layer.padding, layer.dilation,  # type: ignore[arg-type]
            bias=layer.bias is not None,
        )  # fmt: skip
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, classes, layer.bias is not None)
    raise ModelError("The last layer is neither linear nor a convolution.")


def _keep_known(
    old: nn.Module, new: nn.Module, before: Sequence[str], after: Sequence[str]
) -> None:
    """Copy what the last layer knows of classes that are there before and after."""
    known = [(after.index(name), before.index(name)) for name in after if name in before]
    with torch.no_grad():
        for (_, mine), (_, theirs) in zip(
            new.named_parameters(), old.named_parameters(), strict=True
        ):
            for here, there in known:
                mine[here] = theirs[there]


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, child = name.rpartition(".")
    setattr(module.get_submodule(parent), child, layer)


def learning(
    model: Model, train: str | int | tuple[str, ...], classes: Sequence[str]
) -> tuple[str, ...]:
    """Names of the stages that learn; the last layer always does where it is a new one.

    Raises
    ------
    ModelError
        If there are no such stages.
    """
    stages, head = stages_of(model), head_of(model)
    names = {name for name, _ in model.module.named_modules() if name}
    if train == ALL:
        return stages
    if train == HEAD:
        return (head,)
    if isinstance(train, int) and not isinstance(train, bool) and 1 <= train <= len(stages):
        chosen = stages[-train:]
    elif isinstance(train, tuple) and train and set(train) <= names:
        chosen = train
    else:
        raise ModelError(
            f"{model.card.title} cannot train {train!r}; choose 'all', 'head', how many of its "
            f"{len(stages)} stages, or among {', '.join(stages)}."
        )
    new = tuple(classes) != model.classes
    there = any(head == name or head.startswith(f"{name}.") for name in chosen)
    return chosen if there or not new else (*chosen, head)


def set_learning(module: nn.Module, stages: Sequence[str]) -> list[nn.Parameter]:
    """Let some stages learn and everything else stay; returns the weights that learn."""
    module.eval()
    module.requires_grad_(False)
    for name in stages:
        module.get_submodule(name).train().requires_grad_(True)
    return [weight for weight in module.parameters() if weight.requires_grad]


def as_model(
    base: Model, module: nn.Module, classes: Sequence[str], name: str, title: str
) -> Model:
    """A frozen model of a network that was trained from another one."""
    card = replace(
        base.card, id=name, title=title, source=f"trained from {base.card.title}",
        available_offline=True, classes=len(classes), accuracy="", details="",
        parameters=sum(weight.numel() for weight in module.parameters()),
    )  # fmt: skip
    kept = tuple(classes) == base.classes
    return replace(
        base,
        card=card,
        module=module.eval().requires_grad_(False),
        classes=tuple(classes),
        layers=base.layers if kept else describe_layers(module, tuple(base.input_shape)),
        exclusive=base.exclusive if kept else True,
    )
