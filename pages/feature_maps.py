"""What the units of a layer answer to a picture or a sound."""

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.activations import ORDERS, feature_maps, statistics
from cnnvis_core.errors import CnnvisError
from cnnvis_core.network import map_size
from cnnvis_core.render.charts import histogram
from cnnvis_core.render.files import maps_npz, units_csv
from cnnvis_core.render.maps import map_names, map_sheet
from cnnvis_core.render.pictures import png
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.inputs import choose_input, excerpt
from cnnvis_core.ui.kernel_views import draw_kernel
from cnnvis_core.ui.layers import (
    choose_behind,
    choose_layer,
    choose_unit,
    draw_diagram,
    take_unit,
)
from cnnvis_core.ui.links import unit_links
from cnnvis_core.ui.map_views import draw_strip, map_view_for
from cnnvis_core.ui.models import chosen_model
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.tiles import tile_sheet

ensure_router()

st.title("Feature maps")
st.markdown(
    "What each unit of a layer answers to your input, place by place: the real activations of the "
    "real network. **Orange** is an answer above zero, **blue** one below; where nothing can be "
    "below, as behind a ReLU, **light** is a strong answer and **dark** none."
)

model = chosen_model()
draw_diagram(model)
results, controls = st.columns([2, 1], gap="medium")

try:
    with controls:
        chosen = excerpt(model, choose_input(model.modality))
        x = model.preprocess(chosen.item)
        layer = choose_layer(model, lambda layer: max(map_size(layer)) > 1, "maps")
        rectified = choose_behind(model, layer)
        by = st.selectbox(
            "Order", ORDERS, format_func=str.capitalize, key="map-order", bind="query-params",
        )  # fmt: skip
        common = st.segmented_control(
            "Scale", ["Each its own", "All the same"], default="Each its own", required=True,
            key="scale", bind="query-params",
        ) == "All the same"  # fmt: skip
        unit = choose_unit(layer)
    maps = feature_maps(model, x, layer.name, rectified)[layer.name]
except CnnvisError as error:
    draw_error(error)
    st.stop()

found = statistics(maps)
values = maps.cpu().numpy()
order = found.order(by)
sprite = map_sheet(values[order], common, upwards=model.modality == "audio")

view = map_view_for(model, chosen, layer)
with results:
    st.subheader(f"{len(values):,} maps of {layer.name}")
    tile_sheet(
        sprite,
        map_names(found, order),
        int((order == unit).argmax()),
        lambda index: take_unit(int(order[index])),
        key=f"maps-{model.card.id}-{layer.name}-{by}",
        alt=f"{len(values)} feature maps of {layer.name}, in order of {by}",
    )
    height, width = values.shape[1:]
    limit = float(abs(values).max())
    silent = int((found.active_share == 0).sum())
    st.caption(
        f"Activations, {height} × {width} positions a unit, "
        f"{'behind' if rectified else 'before'} the non-linearity; "
        + (f"full scale is {limit:.3g} for all." if common else "each on its own scale.")
        + (f" {silent:,} units answer nowhere above zero." if silent else "")
        + view.axes()
    )

st.subheader(f"Unit {unit}")
with st.container(horizontal=True):
    picture, said = st.container(width=view.width), st.container()
with picture:
    view.draw(values[unit], found.peak[unit])
with said:
    st.altair_chart(
        histogram(values[unit], "activation"), width="stretch",
        alt=f"Histogram of the activations of unit {unit}",
    )  # fmt: skip
    row, col = found.peak[unit]
    st.markdown(
        f"**Maximum** {found.maximum[unit]:.4g} at row {row}, column {col}  \n"
        f"**Mean** {found.mean[unit]:.4g}  \n"
        f"**Active** at {found.active_share[unit]:.0%} of the positions"
    )
    unit_links("feature_maps", layer.name, unit)
    draw_kernel(model, layer, unit)
with picture:
    view.draw_extras(values[unit])

draw_strip(model, x)

draw_downloads(
    f"maps-{model.card.id}-{layer.name}-{chosen.name}",
    {
        "PNG": lambda: png(sprite.picture),
        "NPZ": lambda: maps_npz(values, layer.name, rectified),
        "CSV": lambda: units_csv(found),
    },
)

with st.expander("How to read this, and where it misleads", icon=":material/help:"):
    st.markdown(
        "A map shows where a unit answers, not what it looks for: two units may answer at one "
        "place for different reasons. The frame is the whole of what the unit could see at its "
        "strongest place; most of the answer usually rests on the middle of it. On a scale of its "
        "own a weak map looks as strong as any.\n\n"
        "M. D. Zeiler and R. Fergus, *Visualizing and understanding convolutional networks*, "
        "ECCV 2014."
    )
