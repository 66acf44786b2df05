"""Fine-tuning on the page: what to learn from, how, and what came of it."""

from __future__ import annotations

import streamlit as st

from cnnvis_core.datasets import MemoryDataset
from cnnvis_core.errors import CnnvisError, InputError
from cnnvis_core.jobs import Progress
from cnnvis_core.limits import limits
from cnnvis_core.models import Model
from cnnvis_core.render import transfer as drawn
from cnnvis_core.transfer import Finetuned, Finetuning, finetune, stages_of
from cnnvis_core.transfer.settings import Augmentation, Schedule
from cnnvis_core.ui.collections import SAMPLES, choose_collection
from cnnvis_core.ui.downloads import draw_downloads
from cnnvis_core.ui.jobs import recall, run_job
from cnnvis_core.ui.relatives import Training, keep_training
from cnnvis_core.ui.text import draw_error, plain

RATES = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
BATCHES = (8, 16, 32, 64, 128)
AUGMENTATIONS: dict[Augmentation, str] = {
    "none": "Nothing", "light": "Mirrored, or shifted in time", "strong": "Shifts and gaps as well",
}  # fmt: skip
SCHEDULES: dict[Schedule, str] = {
    "cosine": "Falls as a cosine",
    "constant": "Stays",
    "steps": "A tenth at the end",
}
COMPARE = "Compare"
OVERLAP = (
    " Tiles of one sample overlap, so that what is held back was seen in part: this shows how a "
    "network changes, not how well it learns."
)


def draw_finetuning(model: Model, view_key: str) -> None:
    """Draw the part of the page that trains a network further.

    Parameters
    ----------
    model : Model
        What is trained further; not changed.
    view_key : str
        Of the widget that turns to the comparison.
    """
    results, controls = st.columns([2, 1], gap="medium")
    try:
        with controls:
            dataset = choose_collection(model.modality)
            settings = _ask(model)
        with results:
            _draw(model, dataset, settings, view_key)
    except CnnvisError as error:
        draw_error(error)


def _ask(model: Model) -> Finetuning:
    """Draw the settings."""
    stages = stages_of(model)
    counts = {len(stages): "Everything", 1: "The last layer alone"}
    counts |= {n: f"The last {n} of {len(stages)} stages" for n in range(2, len(stages))}
    train = st.selectbox(
        "What learns", sorted(counts, reverse=True), format_func=counts.__getitem__,
        key=f"train-{model.card.id}",
        help=f"Stages from the input to the answer: {', '.join(stages)}. What does not learn stays "
        "as it is, its normalisation too.",
    )  # fmt: skip
    most = limits().epochs
    epochs = st.number_input("Epochs", 1, most, min(3, most), key="epochs", bind="query-params")
    rate = st.select_slider(
        "Learning rate", RATES, 3e-4, format_func="{:g}".format, key="rate",
        help="Of AdamW. Smaller rates change the network less.",
    )  # fmt: skip
    with st.expander("More settings", icon=":material/tune:"):
        augmentation = st.selectbox(
            "Changed at random", list(AUGMENTATIONS), 1, format_func=AUGMENTATIONS.__getitem__,
            key="augmentation", help="Training inputs alone; what is held back never is.",
        )  # fmt: skip
        schedule = st.selectbox(
            "The rate", list(SCHEDULES), format_func=SCHEDULES.__getitem__, key="schedule"
        )
        batch = st.select_slider("Batch", BATCHES, 32, key="batch")
        held = st.slider("Held back for testing (%)", 5, 50, 20, 5, key="held")
        seed = st.number_input("Seed", 0, 2**31 - 1, 0, key="seed")
        scratch = st.toggle(
            "Forget all weights first", key="scratch",
            help="For comparison: what the data alone can teach in these steps.",
        )  # fmt: skip
    chosen = "all" if train == len(stages) else int(train)
    return Finetuning(
        chosen, int(epochs), batch, rate, schedule, augmentation=augmentation,
        validation=held / 100, seed=int(seed), scratch=scratch,
    )  # fmt: skip


def _draw(model: Model, dataset: MemoryDataset, settings: Finetuning, view_key: str) -> None:
    count, classes = len(dataset.names), len(dataset.classes)
    st.subheader(f"Teach {model.card.title} {classes} classes")
    st.caption(
        f"{count:,} {'pictures' if model.modality == 'image' else 'sounds'} of "
        f"{', '.join(map(plain, dataset.classes[:8]))}{' and others' if classes > 8 else ''}."
        + (OVERLAP if st.session_state.get("collection") == SAMPLES else "")
    )
    key = ("finetune", model.card.id, dataset.fingerprint, settings)

    most = int(limits().training_mb * 2**20 // (4 * (model.card.parameters or 1)))
    if settings.epochs > most:
        raise InputError(
            f"{settings.epochs} epochs of {model.card.title} do not fit into a visit's memory; "
            f"choose up to {most}, or use the command line."
        )

    def want() -> None:
        st.session_state["wanted-training"] = key

    kept, place = recall(key), st.empty()
    if kept is None and st.session_state.get("wanted-training") != key:
        place.button("Train", type="primary", icon=":material/model_training:", on_click=want)
        return
    place.empty()
    curves, batches = st.empty(), st.empty()

    def show(progress: Progress[Finetuned]) -> None:
        """Draw the curves as they grow."""
        found = progress.preview
        if found is None:
            return
        if len(found.log):
            _draw_curves(found, curves)
        if found.losses:
            batches.altair_chart(
                drawn.batch_losses(found.losses), width="stretch",
                alt=f"Loss of each batch, now {found.losses[-1]:.3g}",
            )  # fmt: skip

    begun = st.session_state.setdefault("_begun", {})
    outcome = run_job(
        key, lambda: finetune(model, dataset, None, settings, begun.get(key)), "Training", show
    )
    batches.empty()
    found = outcome.value
    if found is None or not found.checkpoints:
        st.info("No epoch was finished, so nothing was kept.")
        return
    begun.clear()
    if not outcome.complete:
        begun[key] = found
        st.caption("“Run again” goes on from the last finished epoch.")
    training = keep_training(model, dataset.fingerprint, settings, found)
    _draw_curves(found, curves)
    _draw_result(model, training, view_key)


def _draw_curves(found: Finetuned, canvas: st.delta_generator.DeltaGenerator) -> None:
    with canvas.container():
        left, right = st.columns(2)
        left.altair_chart(
            drawn.learning_curve(found, "loss"), width="stretch", alt="Loss over the epochs"
        )
        right.altair_chart(
            drawn.learning_curve(found, "accuracy"), width="stretch", alt="Accuracy over the epochs"
        )


def _draw_result(model: Model, training: Training, view_key: str) -> None:
    found, best = training.found, training.found.best
    st.markdown(
        f"Best after epoch {best.epoch}: **{best.accuracy:.1%}** of what was held back is named "
        f"rightly; guessing would name {1 / len(found.classes):.0%} of it."
    )
    if found.broken:
        with st.expander(f"{len(found.broken):,} files that could not be read"):
            st.dataframe(
                [{"file": name, "reason": why} for name, why in found.broken.items()],
                hide_index=True,
            )

    def turn() -> None:
        st.session_state[view_key] = COMPARE
        st.session_state["before"], st.session_state["after"] = model.card.id, training.key

    st.button("See what changed", type="primary", icon=":material/compare:", on_click=turn)
    draw_downloads(
        f"{model.card.id}-epoch-{best.epoch}",
        {"Safetensors": best.read, "CSV": lambda: found.log.to_csv(index=False).encode()},
    )
    st.caption(
        "Train once more with another seed to see which changes are more than chance. "
        f"The weights are those of epoch {best.epoch}, with the names of the classes; send them "
        "under “Your own weights” to look at them on every page."
    )
