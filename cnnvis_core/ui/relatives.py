"""Networks that a visitor can compare: the catalogue's, epochs of trainings, uploads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import streamlit as st

from cnnvis_core.limits import limits
from cnnvis_core.models import Model
from cnnvis_core.models.embedded import control_of, epochs_of, parent_of
from cnnvis_core.transfer import Checkpoint, Finetuned, Finetuning
from cnnvis_core.ui.links import heed_link
from cnnvis_core.ui.models import cards, loaded
from cnnvis_core.ui.own_networks import own_weights
from cnnvis_core.ui.uploads import upload_box


@dataclass(frozen=True)
class Relative:
    """A network that can be had, and its epochs where it was trained here.

    Attributes
    ----------
    key : str
        Tells it from all others.
    title : str
        For people.
    load : callable
        Gives the model, of an epoch if there are several.
    epochs : tuple of int
        Those that there are; empty for one network.
    control : callable or None
        Gives what the same training with another seed came to at its end, where there is one.
    """

    key: str
    title: str
    load: Callable[[int | None], Model]
    epochs: tuple[int, ...] = ()
    control: Callable[[], Model] | None = None


@dataclass(frozen=True)
class Training:
    """A training of this visitor.

    Attributes
    ----------
    number : int
        The first is 1.
    base : str
        Id of the network that it began with.
    data : str
        Hash of what it learned from.
    settings : Finetuning
        How.
    found : Finetuned
        What came of it.
    """

    number: int
    base: str
    data: str
    settings: Finetuning
    found: Finetuned

    @property
    def key(self) -> str:
        """Tells it from all others."""
        return f"training-{self.number}"

    def point(self, epoch: int | None) -> Model:
        """The network after an epoch, by default the last."""
        point = self.found.checkpoints[-1 if epoch is None else epoch - 1]
        return _of_checkpoint(f"{self.key}-{point.epoch}", point)

    def differs_in_seed(self, other: Training) -> bool:
        """Whether both are one training with two seeds."""
        whole = len(self.found.checkpoints) == len(other.found.checkpoints)
        same = replace(self.settings, seed=0) == replace(other.settings, seed=0)
        apart = self.settings.seed != other.settings.seed
        return whole and same and apart and (self.base, self.data) == (other.base, other.data)


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
    def control(self) -> Model | None:
        """The same with another seed; None where there is none, or for an early epoch."""
        last = self.epoch is None or self.epoch == self.relative.epochs[-1]
        make = self.relative.control
        return make() if make is not None and last else None

    @property
    def key(self) -> str:
        """Tells it from all others."""
        return f"{self.relative.key}:{self.epoch}"

    @property
    def title(self) -> str:
        """For people, with its epoch."""
        return self.relative.title + (f", epoch {self.epoch}" if self.epoch else "")


# Keyed by the file's own name; a visitor's trainings are seen by that visitor alone.
@st.cache_resource(scope="session", max_entries=4, show_spinner="Loading the weights")
def _of_checkpoint(key: str, _checkpoint: Checkpoint) -> Model:
    return _checkpoint.load()


def keep_training(base: Model, data: str, settings: Finetuning, found: Finetuned) -> Training:
    """Remember a visitor's training; the last few stay."""
    kept: list[Training] = st.session_state.setdefault("_trainings", [])
    for training in kept:
        if training.found is found:
            return training
    number = 1 + max((training.number for training in kept), default=0)
    kept.append(Training(number, base.card.id, data, settings, found))
    del kept[: -limits().trainings]
    return kept[-1]


def relatives(model: Model) -> dict[str, Relative]:
    """The networks that may stand beside the chosen one, by key; itself comes first."""
    mine, epochs = model.card.id, epochs_of(model.card.id)
    load = _of_catalogue(mine, epochs) if epochs else lambda _: model
    found = {mine: Relative(mine, model.card.title, load, epochs, _control(mine))}
    trainings = [t for t in st.session_state.get("_trainings", []) if t.base == mine]
    for training in reversed(trainings):
        twins = [other for other in trainings if training.differs_in_seed(other)]
        found[training.key] = Relative(
            training.key,
            f"Your training {training.number} (seed {training.settings.seed})",
            training.point,
            tuple(point.epoch for point in training.found.checkpoints),
            partial(twins[-1].point, None) if twins else None,
        )
    same = [card for card in cards() if card.modality == model.modality and card.available_offline]
    family = {mine, parent_of(mine)}
    for card in sorted(same, key=lambda card: not family & {card.id, parent_of(card.id)}):
        name, theirs = card.id, epochs_of(card.id)
        relative = Relative(name, card.title, _of_catalogue(name, theirs), theirs, _control(name))
        found.setdefault(name, relative)
    return found


def _control(name: str) -> Callable[[], Model] | None:
    control = control_of(name)
    return None if control is None else lambda: loaded(control)


def _of_catalogue(name: str, epochs: tuple[int, ...]) -> Callable[[int | None], Model]:
    def load(epoch: int | None) -> Model:
        last = epoch is None or not epochs or epoch == max(epochs)
        return loaded(name if last else f"{name}:{epoch}")

    return load


def usual_pair(model: Model, among: Mapping[str, Relative]) -> tuple[str, str | None]:
    """Ids of what to compare at first: a network and what it became; None where there is none."""
    mine, parent = model.card.id, parent_of(model.card.id)
    trained = next((key for key in among if key.startswith("training-")), None)
    if trained is not None:
        return mine, trained
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
    choice = st.session_state["_choice"]
    if choice.own.program is not None:  # of another architecture than the catalogue's
        return {}
    base = choice.card
    file: Any = upload_box(
        f"Weights to compare with, for {base.title} (.safetensors or .pth)",
        limits().weights_mb,
        key=f"compare-{base.id}",
        help="The sidebar takes one network's weights, this box the other's.",
    )
    if file is None:
        return {}
    other = own_weights(base.id, file.file_id, file)
    key = other.card.id
    return {key: Relative(key, f"{base.title} (uploaded here)", lambda _: other)}
