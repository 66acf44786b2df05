"""A server's own networks, from a Python file that the operator names in ``CNNVIS_MODELS``."""

from __future__ import annotations

import copy
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from types import MappingProxyType
from typing import get_args

from cnnvis_core.errors import ModelError
from cnnvis_core.models.blueprint import Blueprint, State
from cnnvis_core.models.card import Modality, ModelCard
from cnnvis_core.models.download import ProgressCallback
from cnnvis_core.models.model import Model

VARIABLE = "CNNVIS_MODELS"
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MODULE = "cnnvis_models_of_this_server"


@dataclass(frozen=True)
class Registered:
    """A network of one's own in the catalogue.

    Attributes
    ----------
    make : callable
        Returns the network, as `from_module` or `load_program` make it; called when somebody first
        chooses it.
    title : str
        For people; empty means the id.
    modality : {"image", "audio"}
        What it is given.
    source, licence, accuracy, details : str
        See `ModelCard`.
    """

    make: Callable[[], Model]
    title: str = ""
    modality: Modality = "image"
    source: str = "this server"
    licence: str = ""
    accuracy: str = ""
    details: str = ""

    def card(self, name: str) -> ModelCard:
        """What is known of it before it is made; sizes are 0."""
        return ModelCard(
            id=name,
            title=self.title or name,
            modality=self.modality,
            source=self.source,
            licence=self.licence,
            bytes=0,
            available_offline=True,
            classes=0,
            accuracy=self.accuracy,
            details=self.details,
        )


def registered() -> Mapping[str, Registered]:
    """The networks of the file that ``CNNVIS_MODELS`` names, by id; none where it names none.

    The file is Python, run once; ``MODELS`` in it maps ids to `Registered`. Modules beside it can
    be imported there.

    Raises
    ------
    ModelError
        If there is no such file, it fails, or what it offers cannot be used.
    """
    path = os.environ.get(VARIABLE, "").strip()
    return _read(path) if path else MappingProxyType({})


@lru_cache(maxsize=4)
def _read(path: str) -> Mapping[str, Registered]:
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise ModelError(f"{VARIABLE} names {file.name}, and there is no such file.")
    spec = importlib.util.spec_from_file_location(MODULE, file)
    if spec is None or spec.loader is None:
        raise ModelError(f"{VARIABLE} must name a Python file, not {file.name}.")
    module = importlib.util.module_from_spec(spec)
    if str(file.parent) not in sys.path:
        sys.path.append(str(file.parent))  # behind all others, so that nothing is shadowed
    sys.modules[MODULE] = module  # its classes must be found when they are copied or sent
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # an operator's file may raise anything
        raise ModelError(f"{file.name} failed: {type(error).__name__}: {error}") from error
    offered = getattr(module, "MODELS", None)
    if not isinstance(offered, Mapping):
        raise ModelError(f"{file.name} must define MODELS, a dict of ids and cv.Registered.")
    for name, entry in offered.items():
        if not isinstance(name, str) or not NAME.fullmatch(name):
            raise ModelError(
                f"{file.name}: {name!r} is no id; use small letters, digits, dots and dashes."
            )
        if not isinstance(entry, Registered) or entry.modality not in get_args(Modality):
            raise ModelError(f"{file.name}: {name} must be a cv.Registered(make, ...).")
    return MappingProxyType(dict(offered))


def registered_blueprint(name: str, entry: Registered) -> Blueprint:
    """How to put a registered network together; it is made here.

    Raises
    ------
    ModelError
        If it cannot be made.
    """
    try:
        model = entry.make()
    except Exception as error:  # as above
        raise ModelError(
            f"{entry.title or name} could not be made ({type(error).__name__}); tell whoever runs "
            "this server."
        ) from error
    if not isinstance(model, Model) or model.modality != entry.modality:
        raise ModelError(
            f"{name} must return a cv.Model for modality {entry.modality!r}, as cv.from_module "
            "does."
        )
    channels, height, width = model.input_shape
    card = replace(
        entry.card(name),
        bytes=model.card.bytes,
        classes=len(model.classes),
        parameters=model.card.parameters,
    )
    return Blueprint(
        card=card,
        build=partial(copy.deepcopy, model.module),
        weights=partial(_weights, model),
        classes=model.classes,
        input_shape=(channels, height, width),
        frontend=model.frontend,
        exclusive=model.exclusive,
    )


def _weights(model: Model, progress: ProgressCallback | None) -> State:
    return model.module.state_dict()
