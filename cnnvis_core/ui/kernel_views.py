"""Kernels on pages: measured once, and one of them drawn beside its unit."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cnnvis_core.filters import (
    GaborFits,
    Kernels,
    Tuning,
    can_fit,
    filters,
    fitting,
    has_kernels,
    on_brightness,
    spectral_tuning,
)
from cnnvis_core.models import Layer, Model
from cnnvis_core.network import reads_input
from cnnvis_core.render.kernels import colour_kernel, slice_sheet
from cnnvis_core.render.pictures import enlarged, png
from cnnvis_core.ui.jobs import recall, run_job
from cnnvis_core.ui.models import is_public

FITS = ("gabor functions",)  # what results of fits are kept under
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


def fit_kernels(model: Model, layer: str) -> None:
    """Fit Gabor functions to kernels on the picture itself, unless that was done before."""
    if not has_kernels(model, layer):
        return
    kernels, _ = kernels_of(model, layer)
    if _sees(model, kernels) and can_fit(kernels.weight.numpy()):
        run_job(
            (*FITS, model.card.id, layer), partial(fitting, kernels.weight.numpy()),
            "Fitting Gabor functions", public=is_public(model),
        )  # fmt: skip


def fits_of(model: Model, layer: str) -> GaborFits | None:
    """What `fit_kernels` found; None where there is nothing to fit or it was cancelled."""
    kept = recall((*FITS, model.card.id, layer))
    found: Any = kept.value if kept is not None and kept.complete else None
    return found if isinstance(found, GaborFits) else None


@st.cache_resource(
    scope="session", max_entries=4, show_spinner=False,
    hash_funcs={Model: lambda model: model.card.id},
)  # fmt: skip
def weights_tuning(model: Model, layer: str) -> Tuning | None:
    """What a layer's kernels are tuned to by their weights.

    Of kernels on the picture itself the angle is that of what they make of brightness. None where
    the layer has no kernels of more than a pixel.
    """
    if not has_kernels(model, layer):
        return None
    kernels, _ = kernels_of(model, layer)
    if max(kernels.size) == 1:
        return None
    if not _sees(model, kernels):
        return kernels.tuning
    return spectral_tuning(on_brightness(model, kernels))


def brightness_of(model: Model, layer: str) -> NDArray[np.float32] | None:
    """What kernels (units, h, w) of the picture itself weigh brightness with; None for others."""
    if not has_kernels(model, layer):
        return None
    kernels, _ = kernels_of(model, layer)
    return on_brightness(model, kernels)[:, 0] if _sees(model, kernels) else None


def _sees(model: Model, kernels: Kernels) -> bool:
    """Whether kernels weigh all channels of the picture itself."""
    whole = kernels.groups == 1 and kernels.inputs == model.input_shape[0]
    return whole and model.modality == "image" and reads_input(model, kernels.layer)


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
