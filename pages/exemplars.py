"""Which pictures or sounds of a collection drive each unit most."""

import json

import streamlit as st

import cnnvis_core as cv  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import CnnvisError
from cnnvis_core.exemplars.export import as_json
from cnnvis_core.render.exemplars import crop_sheet
from cnnvis_core.render.pictures import png
from cnnvis_core.render.tuning import tuning_csv
from cnnvis_core.ui.collections import choose_collection, tiles_of
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.exemplar_views import (
    A_PAGE,
    STRENGTHS,
    best_of,
    choose_page,
    choose_strength,
    draw_maximized,
    exemplar_view,
    remembered,
    typical,
    unit_names,
)
from cnnvis_core.ui.jobs import run_job
from cnnvis_core.ui.layers import choose_layer, choose_unit, draw_diagram, take_unit
from cnnvis_core.ui.links import unit_links
from cnnvis_core.ui.models import chosen_model, is_public
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.tiles import tile_sheet
from cnnvis_core.ui.tuning import measured_layers

K = 9

ensure_router()

st.title("Exemplars")
st.markdown(
    "Which real inputs drive a unit most: a whole collection is shown to the network, and of each "
    "unit the strongest are kept, with the part of them that did it. A maximised picture is made "
    "up by the network; this is what the unit meets in the world."
)

model = chosen_model()
draw_diagram(model)
results, controls = st.columns([2, 1], gap="medium")

try:
    with controls:
        dataset = choose_collection(model.modality)
        names = measured_layers(model)
        layer = choose_layer(model, lambda layer: layer.name in names, "kernels", depth=0.4)
        by = choose_strength()
        unit = choose_unit(layer)
    with results:
        heading = st.empty()
        heading.subheader(f"What drives the {layer.channels:,} units of {layer.name}?")
        outcome = run_job(
            ("exemplars", model.card.id, dataset.fingerprint),
            lambda: cv.build_exemplars(model, dataset, names, K, None),
            "Looking through the collection",
            public=is_public(model) and dataset is tiles_of(model.modality),
        )
        if outcome.value is None:
            st.stop()
        found: cv.Exemplars = outcome.value
        table = found.top_of_layer(layer.name)
except CnnvisError as error:
    draw_error(error)
    st.stop()

view = exemplar_view(model, dataset, layer)
strongest = best_of(table, by)
shown = range(layer.channels)

with results:
    if layer.channels > A_PAGE:
        shown = choose_page(layer.channels, unit)
    crops = remembered(
        ("crops", model.card.id, dataset.fingerprint, layer.name, by, str(shown)),
        lambda: crop_sheet(view.crops(strongest, shown)),
    )
    tile_sheet(
        crops,
        unit_names(strongest, shown),
        shown.index(unit) if unit in shown else None,
        lambda index: take_unit(shown[index]),
        key=f"exemplars-{model.card.id}-{layer.name}",
        alt=f"The strongest exemplar of units {shown[0]} to {shown[-1]} of {layer.name}",
    )
    broken = f" {len(found.broken):,} files could not be read." if found.broken else ""
    st.caption(
        f"The strongest of {found.manifest['items']:,} items for each unit, by the "
        f"{STRENGTHS[by].lower()} of its map; of a maximum the part that its place sees.{broken}"
    )

st.subheader(f"Unit {unit}")
view.draw_top(found.top(layer.name, unit, by), unit)
draw_maximized(model, layer, unit)
left, right = st.columns(2, gap="medium")
with left:
    typical(found, layer, unit, by)
with right:
    near = found.neighbours(layer.name, unit)
    if len(near):
        st.markdown("**Driven by the same items**")
        with st.container(horizontal=True):
            for other, likeness in zip(near["unit"], near["likeness"], strict=True):
                st.button(
                    f"Unit {other} ({likeness:.0%})", on_click=take_unit, args=(int(other),),
                    key=f"near-{other}",
                )  # fmt: skip
    if found.classes:
        liked = st.selectbox("Units that like", found.classes, key="liked")
        with st.container(horizontal=True):
            for other in found.units_for(layer.name, liked)["unit"].head(8):
                st.button(
                    f"Unit {other}", on_click=take_unit, args=(int(other),), key=f"likes-{other}",
                )  # fmt: skip
    unit_links("exemplars", layer.name, unit)

if found.broken:
    with st.expander(f"{len(found.broken):,} files that could not be read"):
        st.dataframe(found.broken, hide_index=True)

draw_downloads(
    f"exemplars-{model.card.id}-{layer.name}",
    {
        "PNG": lambda: png(crops.picture),
        "CSV": lambda: tuning_csv(table),
        "JSON": lambda: json.dumps(as_json(found, model)).encode(),
    },
)

with st.expander("How to read this, and where it misleads", icon=":material/help:"):
    st.markdown(
        "A unit's strongest exemplars are the top of a long tail: look at the quantiles to see how "
        "far they stand out, and at several of them before naming what they share. A collection "
        "shows only what it holds; a unit for wheels finds none among flowers, and ranks the "
        "nearest thing. The crop is all that the place could see; most of the answer usually rests "
        "on its middle, which the guided gradient shows.\n\n"
        "J. Yosinski et al., *Understanding neural networks through deep visualization*, 2015. "
        "M. D. Zeiler and R. Fergus, *Visualizing and understanding convolutional networks*, "
        "ECCV 2014."
    )
