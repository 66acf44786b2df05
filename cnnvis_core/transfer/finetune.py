"""Fine-tuning a network on one's own pictures or clips."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from cnnvis_core.datasets import Dataset, open_dataset
from cnnvis_core.errors import InputError
from cnnvis_core.jobs import Job
from cnnvis_core.models.model import Model
from cnnvis_core.transfer.checkpoints import Finetuned
from cnnvis_core.transfer.settings import Finetuning
from cnnvis_core.transfer.splitting import split
from cnnvis_core.transfer.training import Training


def finetune(
    model: Model,
    dataset: str | Path | Dataset,
    out: str | Path | None = None,
    settings: Finetuning | None = None,
    begun: Finetuned | None = None,
    **changes: Any,
) -> Job[Finetuned, Finetuned]:
    """Train a copy of a network further on labelled pictures or clips.

    It gets a last layer for the classes of the data, where classes that it knows by name keep their
    weights. A share of each class is held back, never changed and only tested. After every epoch
    the weights are kept as a safetensors file; a training that was broken off goes on from there,
    and ends at the same weights as an undisturbed one on the same machine.

    Parameters
    ----------
    model : Model
        Not changed.
    dataset : str, Path or Dataset
        See `open_dataset`; with at least two classes of at least two items.
    out : str or Path, optional
        Folder for the weights, the log and the state; by default all is kept in memory.
    settings : Finetuning, optional
        How.
    begun : Finetuned, optional
        What a cancelled training in memory had come to, of the same model, data and settings; it is
        gone on with.
    **changes
        Fields of `Finetuning` to be set otherwise, such as ``epochs=3``.

    Returns
    -------
    Job
        Its previews and its result are `Finetuned`.

    Raises
    ------
    InputError
        If the data or a setting cannot be used, or the folder holds something else; while it runs,
        if no file of a class can be read or the loss is no number any more.
    ModelError
        If the network cannot be given other classes, or has no such stages.
    """
    unknown = changes.keys() - {field.name for field in fields(Finetuning)}
    if unknown:
        raise InputError(f"There is no setting named {min(unknown)!r}; see Finetuning.")
    settings = replace(settings or Finetuning(), **changes)
    found = open_dataset(dataset, model.modality)
    parts = split(found, settings.validation, settings.seed)
    folder = None if out is None else Path(out)
    if folder is not None and folder.exists() and not folder.is_dir():
        raise InputError(f"{folder.name!r} is a file; choose a folder.")
    return Job(Training(model, found, parts, settings, folder, begun).run())
