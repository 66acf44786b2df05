"""The mosaic test on a page: whether the maps of four classes point into the right quarters."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np
import pandas as pd
import streamlit as st
import torch
from numpy.typing import NDArray
from PIL import Image

from cnnvis_core.attribution import TITLES, Method, attribute, quarter_share
from cnnvis_core.errors import ModelError
from cnnvis_core.inputs.mosaic import QUARTERS, mosaic
from cnnvis_core.inputs.samples import samples
from cnnvis_core.jobs import Job, Step, run
from cnnvis_core.models import Model
from cnnvis_core.occlusion import occlude
from cnnvis_core.ui.inputs import sample_input
from cnnvis_core.ui.jobs import run_job
from cnnvis_core.ui.models import is_public

OCCLUSION = "Occlusion"


def draw_mosaic_test(model: Model, methods: Sequence[Method]) -> None:
    """Draw a mosaic of samples, and for each method the share of mass in the right quarters."""
    with st.expander(
        "Which map deserves belief? The mosaic test", icon=":material/grid_view:",
        key="mosaic", on_change="rerun",
    ) as expander:  # fmt: skip
        if not expander.open:
            return
        chosen = _four(model)
        if chosen is None:
            st.info("The samples have no four different answers from this network.")
            return
        pictures, targets = chosen
        picture = mosaic(pictures)
        table = run_job(
            (model.card.id, "mosaic", tuple(methods)),
            lambda: Job(_shares(model, picture, targets, methods)),
            "Testing on a mosaic",
            public=is_public(model),
        ).value
        left, right = st.columns([1, 2])
        left.image(picture, width="stretch", alt="Four samples in the quarters of one picture")
        if table is not None:
            right.dataframe(
                table.style.format("{:.0%}"),
                alt="Share of each map's positive mass in the quarter of its class",
            )
        right.caption(
            "Share of a map's positive mass that lies in the quarter of the class that it explains;"
            " 25 % is chance. The quarters' contents are known, so this is a ground truth, though "
            "a network may well see a class in another quarter too."
        )


def _four(model: Model) -> tuple[list[Image.Image], list[int]] | None:
    """Four samples that the network answers differently, and its answers."""
    found: dict[int, Image.Image] = {}
    for sample in samples("image"):
        picture = sample_input(sample).shown
        target = int(model.predict(model.preprocess(picture))[0].argmax())
        found.setdefault(target, picture)
        if len(found) == len(QUARTERS):
            return list(found.values()), list(found)
    return None


def _heat(model: Model, x: torch.Tensor, target: int, method: Method | None) -> NDArray[np.float32]:
    if method is None:
        return run(occlude(model, x, target, score="logit")).heatmap
    return attribute(model, x, target, method).heatmap


def _shares(
    model: Model,
    picture: Image.Image,
    targets: Sequence[int],
    methods: Sequence[Method],
) -> Generator[Step[pd.DataFrame], None, pd.DataFrame]:
    x = model.preprocess(picture)
    total = len(targets) * (len(methods) + 1)
    rows: dict[str, dict[str, float]] = {}
    done = 0
    for (row, col), target in zip(QUARTERS, targets, strict=True):
        title = model.classes[target].split(",")[0]
        for method in (None, *methods):
            name = OCCLUSION if method is None else TITLES[method]
            try:
                heat = _heat(model, x, target, method)
                rows.setdefault(name, {})[title] = quarter_share(heat, row, col)
            except ModelError:
                rows.pop(name, None)  # the page says why it does not fit the network
            done += 1
            yield Step(done, total)
    table = pd.DataFrame(rows).T
    table["mean"] = table.mean(axis=1)
    return table.sort_values("mean", ascending=False).replace(np.nan, 0.0)
