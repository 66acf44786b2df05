"""How any signed map over the input is drawn, for pictures and for sound."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st
from numpy.typing import NDArray

from cnnvis_core.models import Model
from cnnvis_core.render import charts
from cnnvis_core.render.pictures import overlay
from cnnvis_core.ui.inputs import Chosen

SIDE = 480  # pixels


def draw_heat(
    model: Model,
    chosen: Chosen,
    heat: NDArray[np.float32],
    limit: float,
    opacity: float,
    what: str,
) -> None:
    """Draw a map (H, W) over the input.

    Parameters
    ----------
    model : Model
        The network.
    chosen : Chosen
        The input.
    heat : ndarray (H, W)
        Signed values over the network's input.
    limit : float
        Value of the strongest colour.
    opacity : float
        0 to 1.
    what : str
        The map in words, for those who cannot see it.
    """
    frontend: Any = model.frontend
    if model.modality == "image":
        st.image(
            overlay(
                chosen.shown,
                heat,
                frontend.crop_box(chosen.shown.size),
                limit,
                opacity,
                SIDE,
            ),
            width="stretch",
            output_format="PNG",
            alt=f"The picture under {what}",
        )
        return
    levels = model.preprocess(chosen.item)[0, 0].cpu().numpy()
    seconds = frontend.frame_seconds(levels.shape[1])
    st.altair_chart(
        charts.spectrogram(
            levels, seconds, frontend.mel_centres_hz(), heat, opacity, limit
        ).properties(height=240),
        width="stretch",
        alt=f"The spectrogram under {what}",
    )
