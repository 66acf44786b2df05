"""The networks that ship with the project: safetensors in half precision, each with a card."""

from __future__ import annotations

import importlib
import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.models.blueprint import Blueprint, State
from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.download import ProgressCallback
from cnnvis_core.models.model import Frontend
from cnnvis_core.models.offspring import child_of
from cnnvis_core.models.preprocessing import ImageFrontend

ASSETS = Path(__file__).resolve().parents[2] / "assets" / "models"
CONTROL = "control"
# Only these classes can be named by a card.
ARCHITECTURES: Mapping[str, str] = {
    "ResNet64": "cnnvis_core.models.resnet64",
    "SoundNet": "cnnvis_core.models.soundnet",
}


def embedded_ids(folder: Path = ASSETS) -> tuple[str, ...]:
    """Ids of the models whose card and weights are in the folder.

    Pictures before sound, and networks before those that were made from them.
    """
    cards = {
        path.stem: read_card(path)
        for path in sorted(folder.glob("*.json"))
        if path.with_suffix(".safetensors").is_file()
    }
    order = {name: (card["modality"] != "image", "parent" in card) for name, card in cards.items()}
    return tuple(sorted(cards, key=order.__getitem__))


def epochs_of(model_id: str, folder: Path = ASSETS) -> tuple[int, ...]:
    """Epochs of which an embedded model has weights; ``load("ID:EPOCH")`` loads an early one."""
    path = folder / f"{model_id}.json"
    return tuple(read_card(path).get("epochs", ())) if path.is_file() else ()


def control_of(model_id: str, folder: Path = ASSETS) -> str | None:
    """What `load` takes for a child that was made with another seed; None where there is none."""
    path = folder / f"{model_id}.json"
    there = path.is_file() and "control" in read_card(path)
    return f"{model_id}:{CONTROL}" if there else None


def parent_of(model_id: str, folder: Path = ASSETS) -> str | None:
    """Id of the model that an embedded one was made from; None where it was made from nothing."""
    path = folder / f"{model_id}.json"
    return read_card(path).get("parent") if path.is_file() else None


def read_card(path: Path) -> dict[str, Any]:
    """Return the content of a card file.

    Raises
    ------
    ModelError
        If it is not there or not a card.
    """
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"The card {path.name} cannot be read; reinstall cnnvis.") from error
    if not isinstance(card, dict) or not {"modality", "architecture", "classes"} <= card.keys():
        raise ModelError(f"The card {path.name} is incomplete; reinstall cnnvis.")
    return card


def embedded_card(model_id: str, folder: Path = ASSETS) -> ModelCard:
    """Return the card of an embedded model.

    Raises
    ------
    ModelError
        If its card cannot be read.
    """
    card = read_card(folder / f"{model_id}.json")
    weights = folder / f"{model_id}.safetensors"
    sentences = (card.get(key, "") for key in ("data", "limits"))
    return ModelCard(
        id=model_id,
        title=card.get("title", model_id),
        modality=card["modality"],
        source=str(card.get("source", "trained for this project")),
        licence=str(card.get("licence", "")),
        bytes=weights.stat().st_size if weights.is_file() else int(card.get("bytes", 0)),
        available_offline=weights.is_file(),
        classes=len(card["classes"]),
        parameters=int(card.get("parameters", 0)),
        accuracy=accuracy_text(card.get("accuracy", "")),
        details=" ".join(plain_text(sentence) for sentence in sentences if sentence),
    )


def accuracy_text(accuracy: object) -> str:
    """Return an accuracy for people, from a card's text or its figures in per cent."""
    if isinstance(accuracy, Mapping) and {"top1", "top5", "on"} <= accuracy.keys():
        figures = f"top-1 {accuracy['top1']:.1f} %, top-5 {accuracy['top5']:.1f} %"
        return f"{figures} on {accuracy['on']}"
    if isinstance(accuracy, Mapping) and {"mean", "folds", "on"} <= accuracy.keys():
        figures = f"{accuracy['mean']:.1f} %, mean of {len(accuracy['folds'])} folds"
        return f"{figures}, on {accuracy['on']}"
    return plain_text(accuracy)


def plain_text(value: object) -> str:
    """Return a card's entry in one line, be it a text, a list or named figures."""
    if isinstance(value, Mapping):
        return "; ".join(f"{name.replace('_', ' ')}: {plain_text(v)}" for name, v in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(plain_text(item) for item in value)
    return str(value)


def embedded_blueprint(
    model_id: str, folder: Path = ASSETS, epoch: int | str | None = None
) -> Blueprint:
    """Return the blueprint of an embedded model.

    Parameters
    ----------
    model_id : str
        Its id.
    folder : Path
        Where it lies.
    epoch : int or "control", optional
        Of a fine-tuned one; by default the last. The control was made with another seed.

    Raises
    ------
    ModelError
        If its card cannot be read or names an architecture that does not exist, or there are no
        weights of this epoch.
    """
    card = read_card(folder / f"{model_id}.json")
    name = card["architecture"]["name"]
    if name not in ARCHITECTURES:
        raise ModelError(f"The card of {model_id} names the unknown architecture {name!r}.")
    options = {key: frozen(value) for key, value in card["architecture"].get("kwargs", {}).items()}

    def build() -> nn.Module:
        module: nn.Module = getattr(importlib.import_module(ARCHITECTURES[name]), name)(**options)
        return module

    epochs, parent = tuple(card.get("epochs", ())), card.get("parent")
    number = card.get("control") if epoch == CONTROL else epoch
    if epoch is not None and number not in (*epochs, card.get("control")):
        known = f"epochs {', '.join(map(str, epochs))}" if epochs else "no epochs"
        raise ModelError(f"{model_id} has {known}, not {epoch}.")

    def state(progress: ProgressCallback | None) -> State:
        kept = _read_weights(folder, model_id)
        if parent is None:
            return kept
        return child_of(
            _read_weights(folder, parent), kept, max(epochs) if number is None else int(number)
        )

    channels, height, width = card["input_shape"]
    described = embedded_card(model_id, folder)
    if epoch is not None and epoch != max(epochs):
        accuracy = plain_text(card.get("accuracy_by_epoch", {}).get(str(epoch), ""))
        which = "another seed" if epoch == CONTROL else f"epoch {epoch}"
        described = replace(
            described, id=f"{model_id}:{epoch}", title=f"{described.title}, {which}",
            accuracy=f"{accuracy} %" if accuracy else "",
        )  # fmt: skip
    return Blueprint(
        card=described,
        build=build,
        weights=state,
        classes=tuple(card["classes"]),
        input_shape=(channels, height, width),
        frontend=make_frontend(card["modality"], card["frontend"]),
        exclusive=bool(card.get("exclusive", True)),
    )


def _read_weights(folder: Path, model_id: str) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(folder / f"{model_id}.safetensors")
    except (OSError, SafetensorError) as error:
        raise ModelError(f"The weights of {model_id} are missing; reinstall cnnvis.") from error


def make_frontend(modality: str, fields: Mapping[str, Any]) -> Frontend:
    """Return the front end that a card describes by the fields of `ImageFrontend` or `LogMel`.

    Raises
    ------
    ModelError
        If a field is unknown or missing.
    """
    options = {name: frozen(value) for name, value in fields.items()}
    try:
        if modality == "image":
            return ImageFrontend(**{"channels": len(options.get("mean", (0, 0, 0))), **options})
        from cnnvis_core.models.logmel import LogMel

        return LogMel(**options)
    except TypeError as error:
        raise ModelError("A card's front end has a wrong or a missing field.") from error


def frozen(value: Any) -> Any:
    """Return a list of JSON as a tuple."""
    return tuple(value) if isinstance(value, list) else value
