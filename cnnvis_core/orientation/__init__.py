"""Units ranked by their tuning: to gratings where they see, to ripples where they hear."""

from cnnvis_core.orientation.gratings import COLOURS, Gratings, usual_gratings
from cnnvis_core.orientation.modulation import (
    LayerModulation,
    ModulationTuning,
    rank_modulation,
    strf,
)
from cnnvis_core.orientation.ranking import (
    LayerTuning,
    OrientationTuning,
    agreeing,
    beside_weights,
    cardinal,
    rank_orientation,
)
from cnnvis_core.orientation.responses import PLACES, Place
from cnnvis_core.orientation.ripples import Ripples, RippleStimuli, ripple_sound, usual_ripples
from cnnvis_core.orientation.tuning import agreement

__all__ = [
    "COLOURS",
    "PLACES",
    "Gratings",
    "LayerModulation",
    "LayerTuning",
    "ModulationTuning",
    "OrientationTuning",
    "Place",
    "RippleStimuli",
    "Ripples",
    "agreeing",
    "agreement",
    "beside_weights",
    "cardinal",
    "rank_modulation",
    "rank_orientation",
    "ripple_sound",
    "strf",
    "usual_gratings",
    "usual_ripples",
]
