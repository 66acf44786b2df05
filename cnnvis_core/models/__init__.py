"""What can be loaded, and how it is loaded once and safely."""

from cnnvis_core.models.card import ModelCard
from cnnvis_core.models.catalogue import catalogue
from cnnvis_core.models.checkpoint import load_checkpoint
from cnnvis_core.models.loading import from_module, load
from cnnvis_core.models.model import Layer, Model, ReceptiveField
from cnnvis_core.models.preprocessing import ImageFrontend

__all__ = [
    "ImageFrontend",
    "Layer",
    "Model",
    "ModelCard",
    "ReceptiveField",
    "catalogue",
    "from_module",
    "load",
    "load_checkpoint",
]
