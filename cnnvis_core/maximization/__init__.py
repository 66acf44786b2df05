"""Activation maximisation: the inputs that drive units most."""

from cnnvis_core.maximization.ascent import maximize
from cnnvis_core.maximization.listening import listen, spectrogram_levels
from cnnvis_core.maximization.objectives import (
    Objective,
    classes,
    direction,
    diversity,
    energy,
    group,
    neurons,
    repeated,
    units,
)
from cnnvis_core.maximization.result import Maximization, contrast, is_blank
from cnnvis_core.maximization.settings import PRESETS, Preset, Settings
from cnnvis_core.maximization.transforms import Transforms

__all__ = [
    "PRESETS",
    "Maximization",
    "Objective",
    "Preset",
    "Settings",
    "Transforms",
    "classes",
    "contrast",
    "direction",
    "diversity",
    "energy",
    "group",
    "is_blank",
    "listen",
    "maximize",
    "neurons",
    "repeated",
    "spectrogram_levels",
    "units",
]
