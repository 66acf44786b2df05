"""The kind of tuning that suits a network's input."""

from __future__ import annotations

from typing import Any

from cnnvis_core.models import Model
from cnnvis_core.orientation import ModulationTuning, OrientationTuning
from cnnvis_core.ui.grating_views import GratingView
from cnnvis_core.ui.ripple_views import RippleView
from cnnvis_core.ui.tuning import TuningView

Found = OrientationTuning | ModulationTuning


def tuning_view(model: Model) -> TuningView[Any]:
    """Ripples for networks that hear, gratings for those that see."""
    return RippleView(model) if model.modality == "audio" else GratingView(model)
