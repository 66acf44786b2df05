"""Exemplars: which items of a collection drive each unit most."""

from cnnvis_core.exemplars.build import build_exemplars
from cnnvis_core.exemplars.crops import SoundPatch, picture_crop, sound_patch
from cnnvis_core.exemplars.index import By, Exemplars, open_exemplars
from cnnvis_core.exemplars.sources import BytesSource, Source, bytes_source, open_source
from cnnvis_core.exemplars.tiles import sample_tiles

__all__ = [
    "By",
    "BytesSource",
    "Exemplars",
    "SoundPatch",
    "Source",
    "build_exemplars",
    "bytes_source",
    "open_exemplars",
    "open_source",
    "picture_crop",
    "sample_tiles",
    "sound_patch",
]
