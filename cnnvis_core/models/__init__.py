"""What can be loaded, and how it is loaded once and safely."""

from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.catalogue import catalogue
from cnnvis_core.models.checkpoint import load_checkpoint
from cnnvis_core.models.loading import from_module, load
from cnnvis_core.models.model import Layer, Model, ReceptiveField, ScoreKind
from cnnvis_core.models.preprocessing import ImageFrontend
from cnnvis_core.models.probe import has_activation
from cnnvis_core.models.registry import Registered
from cnnvis_core.models.units import Reduction, unit_model

__all__ = [
    "ImageFrontend",
    "Layer",
    "Model",
    "ModelCard",
    "ReceptiveField",
    "Reduction",
    "Registered",
    "ScoreKind",
    "catalogue",
    "from_module",
    "has_activation",
    "load",
    "load_checkpoint",
    "unit_model",
]
