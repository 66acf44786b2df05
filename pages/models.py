"""Every network at hand, and the layers of the chosen one."""

import pandas as pd
import streamlit as st

import cnnvis_core  # noqa: F401  # First and whole: two visitors at once must not import halves.
from cnnvis_core.ui.models import cards, chosen_model
from cnnvis_core.ui.navigation import ensure_router

ensure_router()

st.title("Models")
st.markdown(
    "Networks marked offline are part of cnnvis or already on this machine; the others are "
    "fetched once, when you first choose them. Each is loaded once and shared by all visitors."
)

model = chosen_model()
card = model.card

st.subheader(card.title)
st.markdown(
    f"{card.details}\n\n**Source** {card.source}  \n**Licence** {card.licence}  \n"
    f"**Accuracy** {card.accuracy or 'not stated by its publisher'}"
)
st.subheader("Layers")
st.dataframe(
    pd.DataFrame(
        {
            "layer": layer.name,
            "kind": layer.kind,
            "units": layer.channels,
            "output": " × ".join(map(str, layer.output_shape)),
            "receptive field (px)": (
                " × ".join(map(str, layer.receptive_field.size))
                if layer.receptive_field
                else "whole input"
            ),
        }
        for layer in model.layers
    ),
    hide_index=True,
    alt=f"The {len(model.layers)} layers of {card.title}",
)

st.subheader("Catalogue")
st.dataframe(
    pd.DataFrame(
        {
            "title": entry.title,
            "offline": entry.available_offline,
            "MB": entry.bytes / 2**20 or None,  # unknown until it is loaded
            "for": entry.modality,
            "classes": entry.classes or None,
            "accuracy": entry.accuracy,
            "licence": entry.licence,
            "id": entry.id,
        }
        for entry in cards()
    ),
    hide_index=True,
    column_config={"MB": st.column_config.NumberColumn(format="%.1f")},
    alt="All models of the catalogue",
)
