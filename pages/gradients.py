"""What carries an answer by its gradients, method beside method, and which deserves belief."""

from functools import partial

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.attribution import TITLES, compare_methods, likeness, root_mean_square
from cnnvis_core.errors import CnnvisError
from cnnvis_core.models import Reduction, ScoreKind, unit_model
from cnnvis_core.occlusion import faithfulness, occlude, occluder_for
from cnnvis_core.render.files import maps_npz
from cnnvis_core.ui.answers import choose_class, probabilities
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.heat_views import draw_heat
from cnnvis_core.ui.inputs import choose_input, excerpt
from cnnvis_core.ui.jobs import mark_of, run_job
from cnnvis_core.ui.layers import choose_layer, choose_unit, draw_diagram
from cnnvis_core.ui.links import heed_link
from cnnvis_core.ui.models import chosen_model, is_public
from cnnvis_core.ui.mosaic import draw_mosaic_test
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.text import draw_error, plain

STRONG = 4  # times a map's root mean square, the full colour of the one scale

ensure_router()

st.title("Gradients")
st.markdown(
    "How the answer would change if the input changed a little, by several methods beside each "
    "other. **Orange** speaks for the answer, **blue** against it. The methods disagree: the "
    "scores below each map say which deserves belief."
)

model = chosen_model()
results, controls = st.columns([3, 1], gap="medium")
details = st.container()

try:
    with controls:
        chosen = excerpt(model, choose_input(model.modality))
        x = model.preprocess(chosen.item)
        heed_link("explain", {kind: kind for kind in ("A class", "A unit")})
        what = st.segmented_control(
            "Explain", ["A class", "A unit"], default="A class", required=True, key="explain",
            bind="query-params",
        )  # fmt: skip
        answer = probabilities(model, x)
        question: dict[str, int | str] = {}
        if what == "A class":
            answering, target = model, choose_class(model, answer)
            question, said = {"target": target}, f"“{plain(model.classes[target])}”"
        else:
            layer = choose_layer(model, lambda layer: layer.channels > 1, "units")
            unit = choose_unit(layer)
            of_map = st.segmented_control(
                "Of its map", ["Mean", "Maximum"], default="Mean", required=True,
                key="reduction", bind="query-params",
            )  # fmt: skip
            reduction: Reduction = "mean" if of_map == "Mean" else "maximum"
            answering, target = unit_model(model, layer.name, reduction), unit
            question = {"layer": layer.name, "channel": unit, "reduction": reduction}
            said = f"unit {unit} of {layer.name}"
        labels = st.multiselect(
            "Methods",
            list(TITLES.values()),
            default=[TITLES[name] for name in ("integrated_gradients", "grad_cam", "smoothgrad")],
            key="methods",
            bind="query-params",
        )
        with_occlusion = st.toggle(
            "Occlusion beside them", value=True, key="beside", bind="query-params"
        )
        shuffled = st.toggle(
            "Shuffle the weights",
            key="shuffled",
            bind="query-params",
            help="The control: the same methods on the same network with its weights in a random "
            "order. A map that stays as it was says nothing about the network.",
        )
        one_scale = st.segmented_control(
            "Scale", ["Shared", "Own"], default="Shared", required=True,
            key="map-scale", bind="query-params",
            help="The methods' numbers have different units. Shared: each map is divided by its "
            "root mean square, so that equal colours stand out equally. Own: full colour is the "
            "map's largest value, for the control that of the map above.",
        ) == "Shared"  # fmt: skip
        opacity = st.slider(
            "Opacity of the maps", 0.0, 1.0, 0.8, 0.05, key="opacity", bind="query-params"
        )
    methods = tuple(name for name, title in TITLES.items() if title in labels)
    score: ScoreKind = "probability" if what == "A class" else "logit"
    subject = x if model.modality == "image" else chosen.item
    key = (model.card.id, chosen.key, tuple(sorted(question.items())), methods)
    public = is_public(model) and not chosen.own
except CnnvisError as error:
    draw_error(error)
    st.stop()

with results:
    st.subheader(f"What carries {said}?")
    scoring = st.container()
    try:
        true = run_job(
            (*key, "gradients"),
            lambda: compare_methods(model, x, methods, **question),
            "Following gradients",
            public=public,
        ).value
        control = (
            run_job(
                (*key, "gradients", "shuffled"),
                lambda: compare_methods(model, x, methods, shuffle_weights=True, **question),
                "Following gradients through shuffled weights",
                public=public,
            ).value
            if shuffled
            else None
        )
        beside = (
            run_job(
                (*key[:3], "beside"),
                lambda: occlude(answering, subject, target, score="logit"),
                "Covering every place",
                public=public,
            )
            if with_occlusion
            else None
        )
    except CnnvisError as error:
        draw_error(error)
        st.stop()
    if true is None:
        st.stop()

    maps = {TITLES[name]: found.heatmap for name, found in true.found.items()}
    # The scores of a cancelled map would be taken for those of the whole one.
    if beside is not None and beside.complete and beside.value is not None:
        maps["Occlusion"] = beside.value.heatmap
    gaps = {TITLES[name]: found.completeness_gap for name, found in true.found.items()}
    controls_of = {} if control is None else {TITLES[n]: a for n, a in control.found.items()}
    captions = {}
    columns = st.columns(2)
    for place, (name, heat) in enumerate(maps.items()):
        with columns[place % 2], st.container(border=True):
            st.markdown(f"**{name}**")
            limit = STRONG * root_mean_square(heat) if one_scale else float(abs(heat).max())
            draw_heat(model, chosen, heat, limit, opacity, f"the map of {name}")
            said_of = f"Full colour is ±{limit:.3g}, summed over the channels."
            if gaps.get(name) is not None:
                said_of += f" Completeness gap {gaps[name]:.2%}."
            captions[name] = st.empty(), said_of
            captions[name][0].caption(said_of)
            if name in controls_of:
                other = controls_of[name].heatmap
                limit = STRONG * root_mean_square(other) if one_scale else limit
                draw_heat(
                    model, chosen, other, limit, opacity, f"the map of {name}, weights shuffled"
                )
                st.caption(
                    "With shuffled weights; rank correlation with the map above "
                    f"{likeness(heat, other):+.2f} (0 is as it should be). "
                    f"Full colour is ±{limit:.3g}."
                )
    for name, reason in true.refused.items():
        st.info(f"{TITLES[name]}: {reason}", icon=":material/block:")

# The maps are on the screen by now; their scores follow.
occluder = occluder_for(answering, subject)
for name, heat in maps.items():
    with scoring:
        curves = run_job(
            (*key, name, mark_of(heat), "curves"),
            partial(faithfulness, answering, occluder, heat, target, score=score),
            f"Scoring {name}",
            public=public,
        ).value
    canvas, said_of = captions[name]
    if curves is not None:
        canvas.caption(
            f"{said_of} Deletion {curves.deletion_area:.3f} "
            f"(random {curves.random_deletion_area:.3f}, lower is better), "
            f"insertion {curves.insertion_area:.3f} "
            f"(random {curves.random_insertion_area:.3f}, higher is better), "
            f"in {'probability' if score == 'probability' else 'activation'}."
        )

with details:
    if model.modality == "image":
        draw_mosaic_test(model, methods)
    draw_diagram(model)
    draw_downloads(
        f"gradients-{model.card.id}-{chosen.name}",
        {name: partial(maps_npz, heat[None], name, False) for name, heat in maps.items()},
        "npz",
    )
    with st.expander("How to read this, and where it misleads", icon=":material/help:"):
        st.markdown(
            "A gradient says what a tiny change would do, which is not what the network rests on. "
            "Guided backpropagation and deconvolution draw sharp pictures that hardly depend on "
            "the class: turn on “Shuffle the weights” and compare. Integrated gradients and "
            "DeepLIFT share out the difference from an empty input (the mean colour, or silence); "
            "the gap says how much of it is missing. Grad-CAM is as coarse as the last layer's "
            "maps.\n\nJ. Adebayo et al., *Sanity checks for saliency maps*, NeurIPS 2018. "
            "M. Sundararajan, A. Taly and Q. Yan, *Axiomatic attribution for deep networks*, "
            "ICML 2017. R. R. Selvaraju et al., *Grad-CAM*, ICCV 2017. Computed with Captum."
        )
