"""Kernels on pages: measured once, and one of them drawn beside its unit."""

from __future__ import annotations

import streamlit as st

from cnnvis_core.filters import Kernels, filters, has_kernels
from cnnvis_core.models import Layer, Model
from cnnvis_core.network import reads_input
from cnnvis_core.render.kernels import colour_kernel, slice_sheet
from cnnvis_core.render.pictures import enlarged, png

MOST_SLICES = 64  # of a kernel beside its unit
SIDE = 150  # pixels of a kernel in colour


# Scoped to the visitor, for own weights are theirs alone.
@st.cache_resource(
    scope="session", max_entries=4, show_spinner=False,
    hash_funcs={Model: lambda model: model.card.id},
)  # fmt: skip
def kernels_of(model: Model, layer: str) -> tuple[Kernels, bool]:
    """A layer's kernels, and whether they weigh red, green and blue of the input itself."""
    kernels = filters(model, layer)
    in_colour = kernels.three_inputs and model.input_shape[0] == 3 and reads_input(model, layer)
    return kernels, in_colour


def draw_kernel(model: Model, layer: Layer, unit: int) -> None:
    """Draw a unit's kernel in little; nothing where the layer has none."""
    if not has_kernels(model, layer.name):
        return
    kernels, in_colour = kernels_of(model, layer.name)
    limit = kernels.limits(False)[unit]
    if in_colour:
        drawn, said = colour_kernel(kernels, unit), "gray is zero"
    else:
        drawn, _ = slice_sheet(kernels, unit, MOST_SLICES)
        said = "orange above zero, blue below"
        if kernels.inputs > 1:
            said = f"its {drawn.count} slices"
        if drawn.count < kernels.inputs:
            said = f"the {drawn.count} strongest of its {kernels.inputs:,} slices"
    st.image(
        png(enlarged(drawn.picture, SIDE)),
        width=SIDE if drawn.count == 1 else "content",
        alt=f"The kernel of unit {unit}, {said}",
    )
    st.caption(f"Its kernel, {said}; full colour is a weight of ±{limit:.3g}.")
