"""Networks that a visitor can compare: the catalogue's, epochs of trainings, uploads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import streamlit as st

from cnnvis_core.models import Model
from cnnvis_core.models.embedded import epochs_of, parent_of
from cnnvis_core.transfer import Checkpoint, Finetuned
from cnnvis_core.ui.links import heed_link
from cnnvis_core.ui.models import cards, loaded, own_weights
from cnnvis_core.ui.uploads import WEIGHTS_MB, upload_box


@dataclass(frozen=True)
class Relative:
    """A network that can be had, and its epochs where it was trained here.

    Attributes
    ----------
    title : str
        For people.
    load : callable
        Gives the model, of an epoch if there are several.
    epochs : tuple of int
        Those that there are; empty for one network.
    """

    title: str
    load: Callable[[int | None], Model]
    epochs: tuple[int, ...] = ()


@dataclass(frozen=True)
class Chosen:
    """A network that was chosen.

    Attributes
    ----------
    relative : Relative
        What it is.
    epoch : int or None
        Of which epoch; None for networks that have none.
    """

    relative: Relative
    epoch: int | None

    @property
    def model(self) -> Model:
        """The network, loaded."""
        return self.relative.load(self.epoch)

    @property
    def title(self) -> str:
        """For people, with its epoch."""
        return self.relative.title + (f", epoch {self.epoch}" if self.epoch else "")


# Keyed by the file's own name; a visitor's trainings are seen by that visitor alone.
@st.cache_resource(scope="session", max_entries=4, show_spinner="Loading the weights")
def _of_checkpoint(key: str, _checkpoint: Checkpoint) -> Model:
    return _checkpoint.load()


def keep_training(base: Model, found: Finetuned) -> None:
    """Remember a visitor's last training of a network."""
    number = st.session_state.get("_training", (0,))[0] + 1
    st.session_state["_training"] = (number, base.card.id, found)


def kept_training(base: Model) -> Finetuned | None:
    """The visitor's last training, if it was of this network and an epoch of it is finished."""
    _, name, found = st.session_state.get("_training", (0, "", None))
    return found if name == base.card.id and found is not None and found.checkpoints else None


def relatives(model: Model) -> dict[str, Relative]:
    """The networks that may stand beside the chosen one, by id; itself comes first."""
    mine, epochs = model.card.id, epochs_of(model.card.id)
    load = _of_catalogue(mine, epochs) if epochs else lambda _: model
    found = {mine: Relative(model.card.title, load, epochs)}
    training = kept_training(model)
    if training is not None:
        number = st.session_state["_training"][0]
        by_epoch = {point.epoch: point for point in training.checkpoints}

        def of_epoch(epoch: int | None) -> Model:
            point = by_epoch[epoch or max(by_epoch)]
            return _of_checkpoint(f"{number}-{point.epoch}", point)

        found["training"] = Relative("Your training", of_epoch, tuple(by_epoch))
    same = [card for card in cards() if card.modality == model.modality and card.available_offline]
    family = {mine, parent_of(mine)}
    for card in sorted(same, key=lambda card: not family & {card.id, parent_of(card.id)}):
        theirs = epochs_of(card.id)
        found.setdefault(card.id, Relative(card.title, _of_catalogue(card.id, theirs), theirs))
    return found


def _of_catalogue(name: str, epochs: tuple[int, ...]) -> Callable[[int | None], Model]:
    def load(epoch: int | None) -> Model:
        last = epoch is None or not epochs or epoch == max(epochs)
        return loaded(name if last else f"{name}:{epoch}")

    return load


def usual_pair(model: Model, among: Mapping[str, Relative]) -> tuple[str, str | None]:
    """Ids of what to compare at first: a network and what it became; None where there is none."""
    mine, parent = model.card.id, parent_of(model.card.id)
    if "training" in among:
        return mine, "training"
    if parent is not None and parent in among:
        return parent, mine
    return mine, next((name for name in among if parent_of(name) == mine), None)


def choose_relative(among: Mapping[str, Relative], label: str, key: str, first: str) -> Chosen:
    """Draw the choice of a network and, where there are several, of its epoch.

    Parameters
    ----------
    among : mapping
        The networks by id.
    label : str
        Above the box.
    key : str
        Of the widget, and in the address; the epoch's is the same and ``-epoch``.
    first : str
        What is chosen at first.
    """
    heed_link(key, {relative.title: name for name, relative in among.items()})
    if st.session_state.get(key) not in among:
        st.session_state[key] = first
    name = st.selectbox(
        label, list(among), format_func=lambda name: among[name].title, key=key,
        bind="query-params",
    )  # fmt: skip
    relative = among[name]
    if len(relative.epochs) < 2:
        return Chosen(relative, None)
    slider = f"{key}-epoch"
    if st.session_state.get(slider) not in relative.epochs and slider not in st.query_params:
        st.session_state[slider] = relative.epochs[-1]
    epoch = st.select_slider(
        f"{label}: epoch", relative.epochs, key=slider, bind="query-params",
        help="After how many epochs of training.",
    )  # fmt: skip
    return Chosen(relative, epoch)


def uploaded(model: Model) -> dict[str, Relative]:
    """Draw a box for further weights of the chosen network; what was sent, by id."""
    base = st.session_state["_choice"].card
    file: Any = upload_box(
        f"Weights to compare with, for {base.title} (.safetensors or .pth)",
        WEIGHTS_MB,
        key=f"compare-{base.id}",
        help="The sidebar takes one network's weights, this box the other's.",
    )
    if file is None:
        return {}
    other = own_weights(base.id, file.file_id, file)
    return {other.card.id: Relative(f"{base.title} (uploaded here)", lambda _: other)}
