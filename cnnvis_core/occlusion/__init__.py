"""Occlusion: cover a place, and see what the answer loses."""

from cnnvis_core.occlusion.engine import occlude, occluder_for
from cnnvis_core.occlusion.faithfulness import Faithfulness, faithfulness, top_share
from cnnvis_core.occlusion.grid import Axis, Box, Grid
from cnnvis_core.occlusion.occluder import Occluder
from cnnvis_core.occlusion.picture import PICTURE_FILLS, PictureOccluder, default_patch
from cnnvis_core.occlusion.result import Occlusion
from cnnvis_core.occlusion.sound import (
    SOUND_FILLS,
    SoundMode,
    SoundOccluder,
    default_sound_patch,
)

__all__ = [
    "PICTURE_FILLS",
    "SOUND_FILLS",
    "Axis",
    "Box",
    "Faithfulness",
    "Grid",
    "Occluder",
    "Occlusion",
    "PictureOccluder",
    "SoundMode",
    "SoundOccluder",
    "default_patch",
    "default_sound_patch",
    "faithfulness",
    "occlude",
    "occluder_for",
    "top_share",
]
