"""What the page about tuning asks of a kind of input."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cnnvis_core.jobs import Job
from cnnvis_core.models import Layer, Model, has_activation
from cnnvis_core.network import family
from cnnvis_core.orientation import PLACES, Place
from cnnvis_core.render.sprites import Sprite
from cnnvis_core.ui.layers import choose_behind

Found = TypeVar("Found")

PLACE_NAMES = {"middle": "Middle", "mean": "Mean"}


@dataclass(frozen=True)
class Request(Generic[Found]):
    """What a visitor asks for.

    Attributes
    ----------
    key : tuple
        All that a layer's result depends on, but the layer.
    depth_key : tuple
        All that the result of every layer depends on.
    start : callable
        Makes the job for some layers, with control units or without.
    """

    key: tuple[Hashable, ...]
    depth_key: tuple[Hashable, ...]
    start: Callable[[Sequence[str], bool], Job[Found, Found]]


@dataclass(frozen=True, eq=False)
class Ranked:
    """Units in an order.

    Attributes
    ----------
    order : ndarray (units,)
        Which unit comes where.
    sheet : Sprite
        Their tiles.
    names : list of str
        What to say of each.
    words : str
        The order in words.
    """

    order: NDArray[np.int64]
    sheet: Sprite
    names: list[str]
    words: str


class TuningView(Protocol[Found]):
    """Gratings for networks that see, ripples for those that hear."""

    title: str
    intro: str
    reading: str
    doing: str

    def ask(self, layer: Layer) -> Request[Found]:
        """Draw the widgets about what is shown."""

    def ask_order(self, layer: Layer) -> Callable[[Found], Ranked]:
        """Draw the widgets about the order, and return what puts units in it."""

    def say(self, found: Found, layer: Layer) -> str:
        """What was measured, and how to read the sheet."""

    def draw_curves(self, found: Found, layer: Layer, unit: int) -> None:
        """Draw what drives a unit and how much."""

    def draw_details(self, found: Found, layer: Layer, unit: int) -> None:
        """Draw a unit's indices, its best stimulus and its kernel."""

    def draw_layer(self, found: Found, layer: Layer) -> None:
        """Draw what the layer's units have in common."""

    def draw_depth(self, found: Found) -> None:
        """Draw how tuning changes from the first layer to the last."""

    def files(self, found: Found, layer: Layer) -> dict[str, Callable[[], bytes]]:
        """Files to download beside the sheet."""


def choose_place() -> Place:
    """Draw the choice of where a unit is listened to."""
    return st.segmented_control(
        "Listen to the map's", PLACES, format_func=PLACE_NAMES.__getitem__, default="middle",
        required=True, key="place", bind="query-params",
        help="A unit answers at every place of its map. The middle one is farthest from the "
        "borders.",
    ) or "middle"  # fmt: skip


def choose_rectified(model: Model, layer: Layer) -> bool:
    """Draw the choice of the value before or behind the non-linearity; behind, where none follows.

    A layer that none follows is taken as it is, whatever this says.
    """
    return choose_behind(model, layer) or not has_activation(model, layer.name)


def measured_layers(model: Model) -> list[str]:
    """The layers that stand for the network's depth: its convolutions, else all."""
    kinds = [layer.name for layer in model.layers if family(layer) == "convolution"]
    return kinds or [layer.name for layer in model.layers]
