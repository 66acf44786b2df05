"""A unit's tuning and exemplars in two networks beside each other."""

from __future__ import annotations

from typing import Any

import streamlit as st

from cnnvis_core.exemplars import Exemplars, build_exemplars
from cnnvis_core.jobs import Job
from cnnvis_core.models import Layer, Model
from cnnvis_core.orientation import rank_modulation, rank_orientation
from cnnvis_core.ui.collections import tiles_of
from cnnvis_core.ui.exemplar_views import exemplar_view
from cnnvis_core.ui.jobs import run_job
from cnnvis_core.ui.models import is_public
from cnnvis_core.ui.relatives import Chosen

K = 4
TUNED = {
    "preferred_deg": "Prefers stripes of {:.0f}°",
    "selectivity": "selectivity {:.2f}",
    "preferred_frequency": "{:.3f} cycles a pixel",
}
HEARD = {
    "preferred_rate_hz": "Prefers ripples of {:.1f} Hz",
    "preferred_scale": "{:.2f} cycles an octave",
    "direction": "direction {:.2f}",
}


def draw_both(before: Chosen, after: Chosen, layer: Layer, unit: int) -> None:
    """Draw what a unit is tuned to and what drives it most, before and after, if asked for."""
    with st.expander(
        "Its tuning and its exemplars, before and after", icon=":material/compare:",
        key="both", on_change="rerun",
    ) as expander:  # fmt: skip
        if not expander.open:
            return
        for column, chosen in zip(st.columns(2, gap="medium"), (before, after), strict=True):
            with column:
                st.markdown(f"**{chosen.title}**")
                _draw(chosen.model, layer.name, unit)


def _draw(model: Model, layer: str, unit: int) -> None:
    sees = model.modality == "image"
    words = TUNED if sees else HEARD

    def measure() -> Job[Any, Any]:
        return rank_orientation(model, layer) if sees else rank_modulation(model, layer)

    tuning = run_job(
        ("both-tuning", model.card.id, layer),
        measure,
        "Measuring its tuning",
        public=is_public(model),
    )
    if tuning.value is not None:
        row = tuning.value.layers[layer].table.set_index("unit").loc[unit]
        said = [text.format(row[name]) for name, text in words.items()]
        st.caption(f"{', '.join(said)}." if row["responds"] else "It responds to no such stimulus.")
    dataset = tiles_of(model.modality)
    found = run_job(
        ("both-exemplars", model.card.id, layer),
        lambda: build_exemplars(model, dataset, layer, K, None),
        "Looking through the samples",
        public=is_public(model),
    )
    if found.value is not None:
        index: Exemplars = found.value
        view = exemplar_view(model, dataset, model.layer(layer))
        view.draw_top(index.top(layer, unit), unit, ask=False)
