"""Units ranked by their tuning: to gratings, or to ripples of sound."""

from functools import partial

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import CnnvisError
from cnnvis_core.jobs import Progress
from cnnvis_core.render.pictures import png
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.jobs import recall, run_job
from cnnvis_core.ui.layers import choose_layer, choose_unit, draw_diagram, take_unit
from cnnvis_core.ui.links import unit_links
from cnnvis_core.ui.models import chosen_model, is_public
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.tiles import tile_sheet
from cnnvis_core.ui.tuning import measured_layers
from cnnvis_core.ui.tuning_views import Found, tuning_view

ensure_router()

model = chosen_model()
view = tuning_view(model)
st.title(view.title)
st.markdown(view.intro)
draw_diagram(model)
results, controls = st.columns([2, 1], gap="medium")

try:
    with controls:
        layer = choose_layer(model, lambda layer: layer.channels > 1, "units")
        rank = view.ask_order(layer)
        asked = view.ask(layer)
        unit = choose_unit(layer)
except CnnvisError as error:
    draw_error(error)
    st.stop()

with results:
    heading = st.empty()
    status = st.container()
    canvas = st.empty()

    def show(progress: Progress[Found]) -> None:
        """Draw the ranking as it settles."""
        if progress.preview is not None:
            now = rank(progress.preview)
            canvas.image(png(now.sheet.picture, quick=True), alt="The ranking as it settles")

    heading.subheader(f"{layer.channels:,} units of {layer.name}")
    try:
        with status:
            outcome = run_job(
                (*asked.key, layer.name), partial(asked.start, [layer.name], True), view.doing,
                show, is_public(model),
            )  # fmt: skip
    except CnnvisError as error:
        draw_error(error)
        st.stop()
    if outcome.value is None:
        st.stop()
    found = outcome.value
    ranking = rank(found)
    heading.subheader(f"{layer.channels:,} units of {layer.name}, {ranking.words}")
    with canvas.container():
        tile_sheet(
            ranking.sheet,
            ranking.names,
            int((ranking.order == unit).argmax()),
            lambda index: take_unit(int(ranking.order[index])),
            key=f"tuning-{model.card.id}-{layer.name}",
            alt=f"{layer.channels} units of {layer.name}, {ranking.words}",
        )
    st.caption(view.say(found, layer))

    st.subheader(f"Unit {unit}")
    view.draw_curves(found, layer, unit)

view.draw_details(found, layer, unit)
unit_links("orientation", layer.name, unit)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader(f"All of {layer.name}")
    view.draw_layer(found, layer)
with right:
    st.subheader("From the first layer to the last")
    depth = ("every layer", *asked.depth_key)

    def want_depth() -> None:
        """Measure every layer from now on, as long as nothing else is asked for."""
        st.session_state["wanted-depth"] = depth

    if recall(depth) or st.session_state.get("wanted-depth") == depth:
        start = partial(asked.start, measured_layers(model), False)
        every = run_job(depth, start, view.doing, public=is_public(model))
        if every.value is not None:
            view.draw_depth(every.value)
    else:
        st.button("Measure every convolution", icon=":material/stacks:", on_click=want_depth)
        st.caption("One pass of the same stimuli serves all layers; it may take a while.")

draw_downloads(
    f"tuning-{model.card.id}-{layer.name}",
    {"PNG": lambda: png(ranking.sheet.picture), **view.files(found, layer)},
)

with st.expander("How to read this, and where it misleads", icon=":material/help:"):
    st.markdown(view.reading)
