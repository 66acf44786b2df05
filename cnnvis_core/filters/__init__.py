"""Kernels: the weights of a convolution, put in order and described."""

from cnnvis_core.filters.gabor import GaborFits, can_fit, fit_gabors, fitting
from cnnvis_core.filters.kernels import (
    CONVOLUTIONS,
    ORDERS,
    Kernels,
    Order,
    filters,
    has_kernels,
    on_brightness,
)
from cnnvis_core.filters.likeness import by_similarity
from cnnvis_core.filters.spectrum import Tuning, spectral_tuning

__all__ = [
    "CONVOLUTIONS",
    "ORDERS",
    "GaborFits",
    "Kernels",
    "Order",
    "Tuning",
    "by_similarity",
    "can_fit",
    "filters",
    "fit_gabors",
    "fitting",
    "has_kernels",
    "on_brightness",
    "spectral_tuning",
]
