"""Gradient methods, beside each other and beside controls."""

from cnnvis_core.attribution.comparison import (
    Comparison,
    compare_methods,
    likeness,
    quarter_share,
    root_mean_square,
)
from cnnvis_core.attribution.gradients import METHODS, TITLES, Attribution, Method, attribute

__all__ = [
    "METHODS",
    "TITLES",
    "Attribution",
    "Comparison",
    "Method",
    "attribute",
    "compare_methods",
    "likeness",
    "quarter_share",
    "root_mean_square",
]
