"""Cover places of a picture or a sound, and see what the network's answer loses."""

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import CnnvisError
from cnnvis_core.jobs import Job, Progress
from cnnvis_core.occlusion import Occlusion, faithfulness, occlude, occluder_for
from cnnvis_core.render.charts import faithfulness_curves
from cnnvis_core.render.files import occlusion_csv, occlusion_npz
from cnnvis_core.ui.answers import choose_class, draw_top, probabilities
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.inputs import choose_input
from cnnvis_core.ui.jobs import mark_of, run_job
from cnnvis_core.ui.models import chosen_model, is_public
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.occluder_controls import box_control, draw_count, occluder_settings
from cnnvis_core.ui.occlusion_views import view_for
from cnnvis_core.ui.text import draw_error, plain

ensure_router()

st.title("Occlusion")
st.markdown(
    "Each place is covered in turn, and the network is asked again. **Orange** places supported "
    "the answer: covering them lowered its score. **Blue** places spoke against it."
)

model = chosen_model()
# On a phone columns stack: the map comes first, then the controls, then the details.
results, controls = st.columns([2, 1], gap="medium")
details = st.container()

try:
    with controls:
        chosen = choose_input(model.modality)
        x = model.preprocess(chosen.item)
        answer = probabilities(model, x)
        target = choose_class(model, answer)
        part = box_control(model, chosen.item)
        settings = occluder_settings(model, chosen.item, part)
        subject = x if model.modality == "image" else chosen.item
        occluder = occluder_for(model, subject, **settings.arguments())
        draw_count(occluder.grid, settings.box)
except CnnvisError as error:
    draw_error(error)
    st.stop()

key = (model.card.id, chosen.key, target, settings)
public = is_public(model) and not chosen.own
view = view_for(model, chosen, occluder)


def start() -> Job[Occlusion, Occlusion]:
    """The job that the settings ask for."""
    return occlude(model, subject, target, **settings.arguments(), **settings.measuring())


with results:
    st.subheader(f"What carries “{plain(model.classes[target])}”?")
    status = st.container()
    # In a row where there is room for both.
    with st.container(horizontal=True):
        picture = st.container(width=view.width)
        bars = st.container()
    with picture:
        canvas = st.empty()
        opacity = st.slider(
            "Opacity of the map", 0.0, 1.0, 0.8, 0.05, key="opacity", bind="query-params"
        )
    with bars:
        draw_top(model, answer, target, key="answers")
    view.draw_plain(canvas)

    def show(progress: Progress[Occlusion]) -> None:
        """Draw what is known so far."""
        if progress.preview is not None:
            view.draw_map(canvas, progress.preview, opacity)

    try:
        with status:
            outcome = run_job(key, start, "Covering every place", show, public)
    except CnnvisError as error:
        draw_error(error)
        st.stop()
    if outcome.value is None:
        st.stop()
    found: Occlusion = outcome.value
    drawn = view.draw_result(canvas, found, opacity, key=f"map-{hash(key)}")
    view.draw_caption(picture, found)

# A place that was chosen on the map is heard right below it; a grid of its own needs room.
with results if model.modality == "audio" else details:
    drawn = view.draw_positions(found, drawn, key=f"grid-{hash(key)}")
    if drawn.box is not None:
        st.button(
            "Measure only inside this box", icon=":material/crop_free:", on_click=part.take,
            args=(drawn.box,),
        )  # fmt: skip

with details:
    view.draw_extras(found)

    faithful = st.expander(
        "How faithful is this map?", icon=":material/fact_check:", key="faithful",
        on_change="rerun",
    )  # fmt: skip
    with faithful:
        st.markdown(
            "**Deletion** takes the strongest places away first: a faithful map makes the "
            "probability fall at once. **Insertion** shows only the strongest places first: it "
            "should rise at once. The gray line takes places in a random order; a map that is no "
            "better explains nothing (Petsiuk, Das and Saenko 2018)."
        )
        curves_key = (*key, mark_of(found.heatmap), "faithfulness")
        if faithful.open:
            curves = run_job(
                curves_key,
                lambda: faithfulness(model, occluder, found.heatmap, target),
                "Measuring",
                public=public and outcome.complete,
            ).value
            if curves is not None:
                areas = {
                    "Deletion": (curves.deletion_area, curves.random_deletion_area, "lower"),
                    "Insertion": (curves.insertion_area, curves.random_insertion_area, "higher"),
                }
                for column, (name, (area, chance, better)) in zip(
                    st.columns(2), areas.items(), strict=True
                ):
                    column.altair_chart(
                        faithfulness_curves(curves, covered=name == "Deletion"),
                        alt=f"{name} curve, area {area:.2f}",
                    )
                    column.caption(
                        f"{name} area {area:.3f}, at random {chance:.3f} ({better} is better)"
                    )

    draw_downloads(
        f"occlusion-{model.card.id}-{chosen.name}",
        {
            "PNG": lambda: view.png(found, opacity),
            "NPZ": lambda: occlusion_npz(found),
            "CSV": lambda: occlusion_csv(found),
        },
    )

    with st.expander("How to read this, and where it misleads", icon=":material/help:"):
        st.markdown(
            "A drop of 0.3 means that the score was 0.3 lower with that place covered. Where "
            "patches overlap, the map shows their mean. A covered place is itself something the "
            "network has hardly ever seen: compare two fills before you believe a detail. Two "
            "places that each suffice for the answer both look unimportant, since the other one "
            "still carries it. Patches much smaller than what the network looks at show little.\n\n"
            "M. D. Zeiler and R. Fergus, *Visualizing and understanding convolutional networks*, "
            "ECCV 2014."
        )
