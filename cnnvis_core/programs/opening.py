"""From the bytes of a ``.pt2`` file to a model."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models.blueprint import DeviceLike
from cnnvis_core.models.card import Modality
from cnnvis_core.models.loading import checked_shape, from_module
from cnnvis_core.models.model import Model
from cnnvis_core.programs.archive import BROKEN, DAMAGED, read_archive, read_graph
from cnnvis_core.programs.network import Exported
from cnnvis_core.programs.schema import Program, parsed
from cnnvis_core.programs.trial import check_behaviour, check_size


def load_program(
    data: bytes,
    input_shape: Sequence[int] | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    classes: Sequence[str] | None = None,
    modality: Modality = "image",
    name: str | None = None,
    device: DeviceLike = None,
) -> Model:
    """Load a network of any architecture from a program that ``torch.export.save`` wrote.

    Nothing in the file is run: its graph is read as data, only operations that are known to be
    harmless are taken, sizes are checked before memory is, and every weight must be a plain tensor.
    Layers have the names that the exported modules had; an operation that no module of its own made
    has its module's name and its own.

    Parameters
    ----------
    data : bytes
        Content of a ``.pt2`` file.
    input_shape : sequence of int, optional
        (C, H, W); none means the shape that the program was exported with.
    mean, std, classes, modality, name, device
        As in `from_module`.

    Raises
    ------
    InputError
        If the file is damaged, hostile or too large, holds other things than a network that maps
        (N, C, H, W) to (N, classes), or was exported while training.
    ModelError
        If there is no such device.
    """
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(f"The content of a program is needed, not {type(data).__name__}.")
    data = bytes(data)
    contents = read_archive(data)
    program = parsed(contents.program)
    shape = checked_shape(program.shape[1:] if input_shape is None else tuple(input_shape))
    network = built(program, contents.tensors)
    check_size(network, shape)
    check_behaviour(network, shape)
    try:
        model = from_module(
            network, shape, mean, std, classes, modality, name or "Your network", device=device
        )
    except ModelError as error:
        raise InputError(str(error)) from error
    digest = hashlib.sha256(data + repr((shape, mean, std, classes, modality)).encode()).hexdigest()
    card = replace(
        model.card,
        id=f"program-{digest[:12]}",
        source="a program of the user",
        bytes=len(data),
    )
    return replace(model, card=card)


def built(program: Program, tensors: Mapping[str, torch.Tensor]) -> nn.Module:
    """The program as a frozen module in eval mode and float32.

    Raises
    ------
    InputError
        If its calls do not go together, or need what is not known here.
    """
    try:
        return Exported(program, tensors).eval().requires_grad_(False).float()
    except DAMAGED as error:
        raise InputError(BROKEN) from error


def told_shape(data: bytes) -> tuple[int, int, int]:
    """(C, H, W) of the inputs that a program was exported with; its tensors are not read.

    Raises
    ------
    InputError
        If the file is no such program.
    """
    program: Program = parsed(read_graph(bytes(data)))
    return program.shape[1], program.shape[2], program.shape[3]
