"""How a network changes as it learns a new task."""

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import CnnvisError
from cnnvis_core.render.pictures import png
from cnnvis_core.render.transfer import change_csv, change_npz, pair_sheet
from cnnvis_core.transfer import common_layers
from cnnvis_core.ui.change_views import ChangeView, choose_order
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.finetune_views import COMPARE, draw_finetuning
from cnnvis_core.ui.layers import choose_layer, choose_unit
from cnnvis_core.ui.links import unit_links
from cnnvis_core.ui.models import chosen_model
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.relatives import choose_relative, relatives, uploaded, usual_pair
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.twins import draw_both

VIEW, FINETUNE = "transfer-view", "Fine-tune"

ensure_router()

st.title("Transfer")
st.markdown(
    "What becomes of a network as it learns a new task: each unit before and after, by its "
    "weights, its responses and what it looks for, beside what chance alone makes of it. Train one "
    "here, or compare any two that share their layers."
)
model = chosen_model()
view = st.segmented_control(
    "What to do", [COMPARE, FINETUNE], default=None if VIEW in st.session_state else COMPARE,
    required=True, key=VIEW, bind="query-params", label_visibility="collapsed",
)  # fmt: skip
if view == FINETUNE:
    draw_finetuning(model, VIEW)
    st.stop()

results, controls = st.columns([2, 1], gap="medium")
try:
    with controls:
        with st.expander("Send weights", icon=":material/upload_file:"):
            sent = uploaded(model)
        among = {**relatives(model), **sent}
        first, second = usual_pair(model, among)
        before = choose_relative(among, "Before", "before", first)
        after = choose_relative(among, "After", "after", next(iter(sent), second or first))
        shared = set(common_layers(before.model, after.model))
        layer = choose_layer(
            before.model, lambda layer: layer.name in shared and layer.channels > 1,
            "as many units in both networks", depth=0.8,
        )  # fmt: skip
        by = choose_order()
    with results:
        st.subheader(f"What changed in {layer.name}?")
        if before.key == after.key:
            st.info(
                "Both are the same network, so that nothing has changed. Train it under "
                f"“{FINETUNE}”, send weights, or choose another one.",
                icon=":material/info:",
            )
        shown = ChangeView(before, after, layer, by)
        measured = shown.measure()
        if measured is None:
            st.stop()
        with controls:
            unit = choose_unit(layer, int(measured.ranked(by)["unit"][0]))
        shown.draw_ranking(measured, unit)
        units = shown.drawn_units(measured, unit)
        pairs = shown.draw_pairs(units, unit)
except CnnvisError as error:
    draw_error(error)
    st.stop()

st.subheader(f"Unit {unit}")
left, right = st.columns([2, 1], gap="medium")
with left:
    shown.draw_epochs(unit)
with right:
    shown.draw_unit(measured, pairs, unit)
draw_both(before, after, layer, unit)
unit_links("transfer", layer.name, unit)

left, right = st.columns(2, gap="medium")
with left:
    st.subheader("From the first layer to the last")
    shown.draw_depth()
with right:
    st.subheader("Which layers see alike")
    shown.draw_alignment()

whole = measured if pairs is None else measured.with_pictures(pairs)
files = {"CSV": lambda: change_csv(whole), "NPZ": lambda: change_npz(whole)}
if pairs is not None:
    sheet = pair_sheet(pairs.pictures, units, shown.sound)
    files["PNG"] = lambda: png(sheet.picture)
draw_downloads(f"change-{before.model.card.id}-{after.model.card.id}-{layer.name}", files)

with st.expander("How to read this, and where it misleads", icon=":material/help:"):
    st.markdown(
        "**Responses**: Pearson's correlation r of a unit's answers to the same inputs, at all "
        "places. **Weights**: distance of "
        "a unit's weights over the mean of their lengths; 0 the same, about 1.4 unrelated, 2 "
        "opposite. **Pictures**: what maximisation draws from the same noise; judge a change only "
        "against that between two seeds. A unit may answer otherwise though its own weights "
        "stayed, because those before it moved. **CKA** compares what whole layers tell apart and "
        "does not mind units that merely changed places.\n\n"
        "One training is one draw: another seed of it changes other units too. Where there is a "
        "second one, as for the dogs, a change is real only as far as it exceeds that noise; train "
        "twice, with two seeds, to have it for your own. Earlier epochs have no such control.\n\n"
        "S. Kornblith, M. Norouzi, H. Lee and G. Hinton, *Similarity of neural network "
        "representations revisited*, ICML 2019. J. Yosinski, J. Clune, Y. Bengio and H. Lipson, "
        "*How transferable are features in deep neural networks?*, NIPS 2014."
    )
