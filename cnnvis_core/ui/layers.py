"""Choosing a layer and a unit, by name or in the diagram of the network; one choice everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from cnnvis_core.models import Layer, Model, has_activation
from cnnvis_core.network import Plan, family, map_size, plan
from cnnvis_core.render import diagram
from cnnvis_core.ui.links import carry_over, heed_link, keep


def choose_layer(
    model: Model, suitable: Callable[[Layer], bool], what: str, depth: float = 0.0
) -> Layer:
    """Draw the box of suitable layers and the diagram; return the chosen layer.

    Stops the script, with a sentence, where no layer is suitable.

    Parameters
    ----------
    model : Model
        The network.
    suitable : callable
        Tells whether the page can show a layer.
    what : str
        What suitable layers have, for the sentence.
    depth : float
        Where to begin, if no layer was chosen anywhere yet: 0 for the first suitable convolution,
        1 for the last.
    """
    offered = {layer.name: layer for layer in model.layers if suitable(layer)}
    if not offered:
        st.info(f"{model.card.title} has no layer with {what}; choose another model.")
        st.stop()
    heed_link("layer", {name: name for name in offered})
    wanted = st.session_state.get("layer", st.session_state.get("kept-layer"))
    if wanted is None and depth and "layer" not in st.query_params:
        kinds = [name for name, layer in offered.items() if family(layer) == "convolution"]
        names = kinds or list(offered)
        wanted = names[round(depth * (len(names) - 1))]
        st.session_state["layer"] = wanted
    if wanted is not None and wanted not in offered:
        st.session_state["layer"] = _nearest(model, wanted, list(offered))
    carry_over("layer", offered, next(iter(offered)))
    name = st.selectbox(
        "Layer",
        list(offered),
        key="layer",
        bind="query-params",
        help="In the order of the forward pass; type to search. The diagram below the page's title "
        "shows where a layer stands.",
    )
    keep("layer")
    layer = offered[name]
    st.caption(facts(layer))
    return layer


def _nearest(model: Model, wanted: str, offered: list[str]) -> str:
    """The last suitable layer up to the one that was chosen elsewhere, else the first."""
    names = [layer.name for layer in model.layers]
    if wanted not in names:
        return offered[0]
    before = [name for name in names[: names.index(wanted) + 1] if name in offered]
    return before[-1] if before else offered[0]


def facts(layer: Layer) -> str:
    """A layer in a line."""
    height, width = map_size(layer)
    field = layer.receptive_field
    sees = f"sees {field.size[0]} × {field.size[1]} input px" if field else "sees the whole input"
    size = f"maps of {height} × {width}, " if (height, width) != (1, 1) else ""
    return f"{layer.kind}: {layer.channels:,} units, {size}each {sees}."


def choose_unit(layer: Layer, first: int = 0) -> int:
    """Draw the number of the unit and return it; ``first`` where none was chosen anywhere yet."""
    numbers = range(layer.channels)
    heed_link("unit", {str(number): number for number in numbers})
    carry_over("unit", numbers, 0)
    if first and "unit" not in st.session_state and "unit" not in st.query_params:
        st.session_state["unit"] = first
    unit = st.number_input(
        "Unit",
        min_value=0,
        max_value=layer.channels - 1,
        key="unit",
        bind="query-params",
        help="Or choose its tile.",
    )
    keep("unit")
    return int(unit)


def choose_behind(model: Model, layer: Layer, further: str = "") -> bool:
    """Draw the choice between values before and behind a layer's non-linearity, if one follows.

    Parameters
    ----------
    model : Model
        The network.
    layer : Layer
        One of its layers.
    further : str
        What else the help should say.

    Returns
    -------
    bool
        Whether values behind it are meant.
    """
    if not has_activation(model, layer.name):
        return False
    chosen = st.segmented_control(
        "Non-linearity", ["Before", "Behind"], default="Behind", required=True,
        key="non-linearity", bind="query-params",
        help="Behind: with the normalisation and the shortcut that come in between." + further,
    )  # fmt: skip
    return bool(chosen == "Behind")


def take_unit(unit: int) -> None:
    """Choose a unit; for callbacks."""
    st.session_state["unit"] = unit


# Scoped to the visitor, for own networks are theirs alone.
@st.cache_data(
    scope="session", max_entries=8, show_spinner=False,
    hash_funcs={Model: lambda model: model.card.id},
)  # fmt: skip
def _plan(model: Model, every_layer: bool) -> Plan:
    return plan(model, every_layer)


def draw_diagram(model: Model, open_: bool = False) -> None:
    """Draw the network; a click on a layer chooses it on every page."""
    with st.expander(
        "The network as a diagram", expanded=open_, icon=":material/account_tree:",
        key="diagram", on_change="rerun",
    ) as expander:  # fmt: skip
        if not expander.open:
            return
        every = st.toggle(
            "Every layer",
            key="every-layer",
            help="Also normalisation, activations and all others.",
        )
        key = f"network-{model.card.id}-{every}"

        def picked() -> None:
            points: list[dict[str, Any]] = st.session_state[key].selection.get(diagram.LAYER, [])
            if points:
                st.session_state["layer"] = points[0]["layer"]
                st.session_state["kept-layer"] = points[0]["layer"]

        drawn = _plan(model, every)
        st.altair_chart(
            diagram.network(drawn, st.session_state.get("kept-layer")),
            width="stretch",
            key=key,
            on_select=picked,
            selection_mode=diagram.LAYER,
            alt=f"{model.card.title}: {len(drawn.boxes)} layers in {len(drawn.stages)} stages",
        )
        st.caption(
            "Each line is a stage: the size of its maps, its most units, its weights. Read from "
            "left to right; branches stand below each other. A box tells the size of its kernel; "
            "choose one to look into it."
        )
