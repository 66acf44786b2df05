"""The input that drives a unit, a layer or a class, as it forms."""

from functools import partial

import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.errors import CnnvisError
from cnnvis_core.jobs import Progress
from cnnvis_core.maximization import Maximization, maximize
from cnnvis_core.render.files import wav
from cnnvis_core.render.maximized import animation, gallery, maximization_npz, side_by_side
from cnnvis_core.render.pictures import enlarged, png
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.jobs import run_job
from cnnvis_core.ui.layers import draw_diagram
from cnnvis_core.ui.links import unit_links
from cnnvis_core.ui.maximization_controls import ask
from cnnvis_core.ui.maximization_views import draw_matrix, drawn_view, heard
from cnnvis_core.ui.models import chosen_model, is_public
from cnnvis_core.ui.navigation import ensure_router
from cnnvis_core.ui.text import draw_error
from cnnvis_core.ui.tiles import tile_sheet

PREVIEW_PIXELS = 500_000  # of a sheet while it fills

ensure_router()

st.title("Maximisation")
st.markdown(
    "What a unit looks for: starting from noise, the input is changed step by step so that the "
    "unit answers more. What forms is the network's idea and no picture of anything; watch how "
    "edges become textures, and textures parts, from the first layer to the last."
)

model = chosen_model()
draw_diagram(model)
results, controls = st.columns([2, 1], gap="medium")

try:
    with controls:
        asked = ask(model)
except CnnvisError as error:
    draw_error(error)
    st.stop()

view = drawn_view(model)
name = f"maximized-{model.card.id}-{abs(hash(asked.key)) % 10**6:06d}"


def take(number: int) -> None:
    """Look at one of several pictures."""
    st.session_state["picture"] = number


with results:
    st.subheader(asked.title)
    status = st.container()
    canvas = st.empty()

    def show(progress: Progress[Maximization]) -> None:
        """Draw what has formed so far."""
        found = progress.preview
        if found is None:
            return
        if asked.several:
            canvas.image(
                png(gallery(found, view.sound, PREVIEW_PIXELS).picture, quick=True),
                alt=f"{int(found.done.sum())} of {len(found.words)} pictures are finished",
            )
        else:
            view.draw_forming(canvas, found.images[0].numpy(), "The picture as it forms")

    try:
        with status:
            outcome = run_job(
                asked.key, partial(maximize, model, **asked.call), "Climbing", show,
                public=is_public(model) and not asked.own,
            )  # fmt: skip
    except CnnvisError as error:
        draw_error(error)
        st.stop()
    if outcome.value is None:
        st.stop()
    found: Maximization = outcome.value
    picture = min(st.session_state.get("picture", 0), len(found.words) - 1) if asked.several else 0

    if asked.several:
        with canvas.container():
            sheet = gallery(found, view.sound)
            tile_sheet(
                sheet,
                [
                    f"{words[:1].upper()}{words[1:]}: from {start:.3g} to {end:.3g} {note}"
                    for words, start, end, note in zip(
                        found.words, found.start_activation, found.end_activation, found.notes,
                        strict=True,
                    )
                ],
                picture,
                take,
                key=name,
                alt=f"{len(found.words)} maximised pictures",
            )  # fmt: skip
            st.caption(
                f"{int(found.done.sum()):,} of {len(found.words):,} pictures are finished, "
                f"{int(found.blank.sum()):,} stayed blank."
            )
        st.subheader(found.words[picture].split(" + ")[0].capitalize())
        canvas = st.empty()

    step = None
    if len(found.frame_steps) > 1:
        # A cancelled ascent has frames up to where it came.
        reached = int((found.activation[:, picture] == found.activation[:, picture]).sum())
        taken = [number for number in found.frame_steps if number <= reached] or [0]
        if len(taken) > 1:
            step = st.select_slider(
                "Step", taken, taken[-1], key=f"frame-{name}-{picture}",
                help="The ascent in the frames that were kept.",
            )  # fmt: skip
    if step is None or step == found.frame_steps[-1]:
        shown = found.images[picture].numpy()
    else:
        shown = found.frames[found.frame_steps.index(step), picture]
    view.draw_forming(canvas, shown, f"The input that drives {found.words[picture]}")
    if found.notes[picture]:
        warn = st.warning if found.blank[picture] else st.info
        warn(found.notes[picture][:1].upper() + found.notes[picture][1:] + ".")
    if outcome.complete:
        view.draw_extras(found, picture, name)
    draw_matrix(view, found, picture, step)
    layer, units = asked.subject.layer, asked.subject.units
    if layer is not None and units:
        unit_links("maximize", layer.name, units[min(picture, len(units) - 1)])

downloads = {
    "PNG": lambda: png(
        gallery(found, view.sound).picture
        if asked.several
        else enlarged(side_by_side(found.images[0].numpy(), view.sound), 1024)
    ),
    "NPZ": lambda: maximization_npz(found),
    "CSV": lambda: found.table().to_csv(index=False, float_format="%.7g").encode(),
}
if len(found.frame_steps) > 1 and outcome.complete:
    downloads["WebP"] = lambda: animation(found, picture, view.sound, "WebP")
    downloads["GIF"] = lambda: animation(found, picture, view.sound, "GIF")
if view.sound and outcome.complete:
    clip = heard(model, found, picture, name)
    downloads["WAV"] = lambda: wav(clip.samples, clip.sample_rate)
draw_downloads(name, downloads)

with st.expander("How to read this, and where it misleads", icon=":material/help:"):
    st.markdown(
        "The picture is one of many that drive the unit, shaped by how it was drawn as much as by "
        "the unit: compare manners and seeds, and several pictures of one unit. A unit may answer "
        "to quite different things; here one of them wins. High activation is no proof of meaning: "
        "look at real pictures beside it. Deep units answer to parts at any place, hence the "
        "repetition.\n\n"
        "D. Erhan et al., *Visualizing higher-layer features of a deep network*, 2009. C. Olah, "
        "A. Mordvintsev and L. Schubert, *Feature visualization*, Distill 2017. T. Fel et al., "
        "*Unlocking feature visualization with magnitude constrained optimization*, NeurIPS 2023. "
        "D. Griffin and J. Lim, *Signal estimation from modified short-time Fourier transform*, "
        "1984."
    )
