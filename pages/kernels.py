"""The weights of a convolution, kernel by kernel."""

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import CnnvisError
from cnnvis_core.filters import ORDERS, has_kernels
from cnnvis_core.render.files import kernels_csv, kernels_npz
from cnnvis_core.render.kernels import COLOUR, kernel_names, kernel_sheet, slice_sheet
from cnnvis_core.render.pictures import png
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.kernel_views import kernels_of
from cnnvis_core.ui.layers import choose_layer, choose_unit, draw_diagram, take_unit
from cnnvis_core.ui.links import unit_links
from cnnvis_core.ui.models import chosen_model
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.tiles import tile_sheet

ensure_router()

st.title("Kernels")
st.markdown(
    "What a convolution multiplies its input with. **Orange** weights look for more, **blue** ones "
    "for less; kernels on red, green and blue are drawn in colour, gray standing for zero."
)

model = chosen_model()
draw_diagram(model)
results, controls = st.columns([2, 1], gap="medium")

try:
    with controls:
        layer = choose_layer(model, lambda layer: has_kernels(model, layer.name), "kernels")
        kernels, in_colour = kernels_of(model, layer.name)
        by = st.selectbox(
            "Order", ORDERS, format_func=str.capitalize, key="kernel-order", bind="query-params",
        )  # fmt: skip
        scale = st.segmented_control(
            "Scale", ["Each its own", "All the same"], default="Each its own", required=True,
            key="scale", bind="query-params",
        )  # fmt: skip
        views = [COLOUR] if in_colour else []
        views += [f"Input {index}" for index in range(kernels.inputs)]
        view = st.selectbox(
            "Show of each kernel",
            views,
            key="view-colour" if in_colour else f"view-{kernels.inputs}",
            bind="query-params",
            help="A kernel has one slice for each unit that it reads.",
        )
        unit = choose_unit(layer)
except CnnvisError as error:
    draw_error(error)
    st.stop()

order = kernels.order(by)
common = scale == "All the same"
sprite = kernel_sheet(kernels, order, view, common)
limits = kernels.limits(common)
dead = int(kernels.dead.sum())

with results:
    st.subheader(f"{len(kernels):,} kernels of {layer.name}")
    tile_sheet(
        sprite,
        kernel_names(kernels, order),
        int((order == unit).argmax()),
        lambda index: take_unit(int(order[index])),
        key=f"kernels-{model.card.id}-{layer.name}-{by}",
        alt=f"{len(kernels)} kernels of {layer.name}, in order of {by}",
    )
    height, width = kernels.size
    scaled = (
        f"full colour is ±{limits[0]:.3g} for all"
        if common
        else f"each on its own scale, full colour from ±{limits.min():.3g} to ±{limits.max():.3g}"
    )
    grouping = {
        "dense": f"each reads all {kernels.inputs:,} inputs",
        "grouped": f"in {kernels.groups:,} groups, each reads {kernels.inputs:,} inputs",
        "depthwise": "depthwise: each reads one input",
    }[kernels.kind]
    st.caption(
        f"Weights of {height} × {width} px, {grouping}; {scaled}."
        + (f" **{dead} dead:** next to no weight, crossed out." if dead else "")
    )

st.subheader(f"Kernel {unit}")
with st.container(horizontal=True):
    detail, said = st.container(width=520), st.container()
with detail:
    slices, names = slice_sheet(kernels, unit)
    tile_sheet(
        slices,
        names,
        None,
        lambda index: None,
        key=f"slices-{model.card.id}-{layer.name}",
        alt=f"The {len(names)} slices of kernel {unit}, one for each unit that it reads",
        hint=f"{len(names):,} slices, one for each unit that it reads.",
    )
with said:
    angle, coherence = kernels.tuning.orientation_deg[unit], kernels.tuning.coherence[unit]
    has_angle = angle == angle
    st.markdown(
        f"**Norm** {kernels.norms[unit]:.3g}"
        + (" (dead)" if kernels.dead[unit] else "")
        + f"  \n**Largest weight** ±{kernels.limits(False)[unit]:.3g}  \n"
        + (
            f"**Stripes** at {angle:.0f}°, coherence {coherence:.2f}"
            if has_angle
            else "**Stripes** none: one weight an input"
        )
    )
    unit_links("kernels", layer.name, unit)

draw_downloads(
    f"kernels-{model.card.id}-{layer.name}",
    {
        "PNG": lambda: png(sprite.picture),
        "NPZ": lambda: kernels_npz(kernels),
        "CSV": lambda: kernels_csv(kernels),
    },
)

with st.expander("How to read this, and where it misleads", icon=":material/help:"):
    st.markdown(
        "Only a first layer's kernels can be read as pictures: they look at the input itself. A "
        "deeper kernel weighs the maps of the layer before, and what it looks for depends on what "
        "those look for. The angle is that of the stripes, counter-clockwise from horizontal, by "
        "the power spectrum of the kernel; a low coherence means that there is hardly one.\n\n"
        "A. Krizhevsky, I. Sutskever and G. E. Hinton, *ImageNet classification with deep "
        "convolutional neural networks*, NIPS 2012, figure 3."
    )
