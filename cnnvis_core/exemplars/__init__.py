"""Exemplars: which items of a dataset drive each unit most."""

from cnnvis_core.exemplars.build import build_exemplars
from cnnvis_core.exemplars.crops import SoundPatch, picture_crop, sound_patch
from cnnvis_core.exemplars.index import By, Exemplars, open_exemplars

__all__ = [
    "By",
    "Exemplars",
    "SoundPatch",
    "build_exemplars",
    "open_exemplars",
    "picture_crop",
    "sound_patch",
]
