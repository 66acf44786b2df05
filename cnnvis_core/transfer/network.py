"""A network that may change: a copy, with a last layer for other classes."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from cnnvis_core.errors import ModelError
from cnnvis_core.models.geometry import describe_layers
from cnnvis_core.models.loading import find_answer
from cnnvis_core.models.model import Model

HEAD, ALL = "head", "all"
LONG_ROW = 4  # parts


def stages_of(model: Model) -> tuple[str, ...]:
    """Names of the parts that learn or stay together, from the input to the answer.

    The children of the network that hold weights and are run; a long row of such parts, or one of
    blocks, counts one by one.
    """
    run = [layer.name for layer in model.layers]
    return tuple(
        stage
        for stage in _stages(model.module, "")
        if any(name == stage or name.startswith(f"{stage}.") for name in run)
    )


def _stages(module: nn.Module, prefix: str) -> Iterator[str]:
    parts = [(name, child) for name, child in module.named_children() if _has_weights(child)]
    for name, child in parts:
        inner = [part for part in child.children() if _has_weights(part)]
        blocks = len(inner) > 1 and all(any(True for _ in part.children()) for part in inner)
        row = isinstance(child, nn.Sequential) and (blocks or len(inner) >= LONG_ROW)
        if (len(parts) == 1 and inner) or row:
            yield from _stages(child, f"{prefix}{name}.")
        else:
            yield prefix + name


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None


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

    Raises
    ------
    ModelError
        If it does not answer with so many classes then.
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
    module.requires_grad_(False)
    x = torch.zeros(2, *model.input_shape, device=model.device)
    try:
        with torch.no_grad():
            answer = logits_of(module, x)
    except (RuntimeError, ValueError, TypeError, IndexError):
        answer = x
    if answer.shape != (2, len(classes)):
        raise ModelError(
            f"{model.card.title} cannot be given {len(classes)} classes by its layer {name}; give "
            "it a plain linear layer or convolution at its end."
        )
    return module


def logits_of(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Answers (N, classes) of a network that may return further ones while it learns."""
    answer = find_answer(module(x), len(x))
    if answer is None:
        raise ModelError("The network returned no tensor of shape (N, classes).")
    return answer


def _head(layer: nn.Module, classes: int) -> nn.Module:
    if isinstance(layer, nn.Conv2d):
        kernel = (layer.kernel_size[0], layer.kernel_size[1])
        return nn.Conv2d(
            layer.in_channels, classes, kernel, layer.stride, layer.padding, layer.dilation,  # type: ignore[arg-type]
            bias=layer.bias is not None, padding_mode=layer.padding_mode,
        )  # fmt: skip
    if isinstance(layer, nn.Linear):
        return nn.Linear(layer.in_features, classes, layer.bias is not None)
    raise ModelError("The last layer is neither linear nor a convolution.")


def _keep_known(
    old: nn.Module, new: nn.Module, before: Sequence[str], after: Sequence[str]
) -> None:
    """Copy what the last layer knows of classes that are there before and after."""
    theirs, mine = dict(old.named_parameters()), dict(new.named_parameters())
    known = [(after.index(name), before.index(name)) for name in after if name in before]
    with torch.no_grad():
        for name in mine.keys() & theirs.keys():
            if mine[name].shape[1:] == theirs[name].shape[1:]:
                for here, there in known:
                    mine[name][here] = theirs[name][there]


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


def set_learning(module: nn.Module, stages: Sequence[str], whole: bool) -> list[nn.Parameter]:
    """Let some stages, or the whole network, learn; returns the weights that do.

    Everything else stays, but for dropout behind the first stage that learns.
    """
    module.train(whole).requires_grad_(whole)
    begun = False
    for name, part in module.named_modules():
        if name in stages:
            part.train().requires_grad_(True)
            begun = True
        elif begun and isinstance(part, _DropoutNd):
            part.train()
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
        exclusive=True,  # as it was trained
    )
