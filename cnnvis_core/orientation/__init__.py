"""Orientation: units ranked by their tuning to gratings."""

from cnnvis_core.orientation.gratings import Gratings, usual_gratings
from cnnvis_core.orientation.ranking import LayerTuning, OrientationTuning, rank_orientation
from cnnvis_core.orientation.tuning import agreement

__all__ = [
    "Gratings",
    "LayerTuning",
    "OrientationTuning",
    "agreement",
    "rank_orientation",
    "usual_gratings",
]
