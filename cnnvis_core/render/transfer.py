"""What changed between two networks: pictures in pairs, charts, files."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Literal

import altair as alt
import numpy as np
import pandas as pd
import torch
from PIL import Image

from cnnvis_core.render.colour import ACCENT, SEQUENTIAL
from cnnvis_core.render.maximized import side_by_side
from cnnvis_core.render.sprites import Sprite, sheet
from cnnvis_core.transfer import Alignment, Change, Finetuned, Pair

GRAY = "#8d99a6"
PAIR_SIDE = 96  # pixels of a picture of a pair
LINE = 3  # pixels between the two pictures of a pair
NOTHING = 1e-6  # a change that is rounding
MOST_NAMED = 24  # layers whose names fit along an axis

Layered = alt.LayerChart | alt.FacetChart


def unit_picture(images: torch.Tensor, sound: bool, side: int) -> Image.Image:
    """A picture (C, H, W), or a spectrogram, in a square of ``side`` pixels."""
    drawn = side_by_side(images.numpy(), sound).convert("RGB")
    return drawn.resize((side, side), Image.Resampling.BICUBIC)


def pair_sheet(pairs: Mapping[int, Pair], order: Sequence[int], sound: bool) -> Sprite:
    """Pictures in both networks, the one before above the one after, a tile a unit."""
    tiles = []
    for unit in order:
        parts = [
            np.asarray(unit_picture(picture, sound, PAIR_SIDE))
            for picture in (pairs[unit].before, pairs[unit].after)
        ]
        line = np.full((LINE, PAIR_SIDE, 3), 255, np.uint8)
        tiles.append(np.concatenate([parts[0], line, parts[1]]))
    drawn = sheet(np.stack(tiles), columns=min(len(tiles), 8))
    return drawn.crossed([n for n, unit in enumerate(order) if pairs[unit].failed])


def changes(table: pd.DataFrame, column: str, noise: str, chosen: int, title: str) -> Layered:
    """Change of each unit of a layer, most changed first, beside its noise."""
    shown = table.dropna(subset=[column]).reset_index(drop=True).reset_index(names="place")
    shown["place"] += 1
    base = alt.Chart(shown).encode(x=alt.X("place:Q", title="units, most changed first"))
    tips = [
        alt.Tooltip("unit:Q"),
        alt.Tooltip(f"{column}:Q", format=".3g", title="change"),
        alt.Tooltip(f"{noise}:Q", format=".3g", title="noise"),
    ]
    y = alt.Y(f"{column}:Q", title=title, scale=_from_zero(shown[column]))
    return alt.layer(
        base.mark_area(color=GRAY, opacity=0.35).encode(y=alt.Y(f"{noise}:Q", title=title)),
        base.mark_circle(color=ACCENT, size=28, opacity=0.9).encode(y=y, tooltip=tips),
        base.transform_filter(alt.datum.unit == chosen)
        .mark_point(color="#c0392b", size=140, strokeWidth=2.5)
        .encode(y=y, tooltip=tips),
    ).properties(height=220)


def by_layer(table: pd.DataFrame, chosen: str) -> Layered:
    """How far the weights of each layer's units moved: the middle half of them, and all."""
    names = list(dict.fromkeys(table["layer"]))
    named = len(names) <= MOST_NAMED
    base = alt.Chart(table).encode(
        x=alt.X(
            "layer:N", sort=names, title=None if named else "layers from the first to the last",
            axis=alt.Axis(labelAngle=-45, labels=named, ticks=named, labelLimit=110),
        )
    )  # fmt: skip
    tips = [
        alt.Tooltip("layer:N"),
        *(
            alt.Tooltip(f"{part}:Q", format=".3g", title=words)
            for part, words in (
                ("low", "least"), ("q1", "quarter"), ("median", "half"),
                ("q3", "three quarters"), ("high", "most"),
            )
        ),
    ]  # fmt: skip
    y = "weight change of its units"
    colour = alt.condition(alt.datum.layer == chosen, alt.value("#c0392b"), alt.value(ACCENT))
    return alt.layer(
        base.mark_rule(opacity=0.6).encode(
            y=alt.Y("low:Q", title=y, scale=_from_zero(table["high"])),
            y2="high:Q",
            color=colour,
            tooltip=tips,
        ),
        base.mark_bar(opacity=0.5).encode(y="q1:Q", y2="q3:Q", color=colour, tooltip=tips),
        base.mark_tick(thickness=2.5).encode(y="median:Q", color=colour, tooltip=tips),
    ).properties(height=300)


def _from_zero(values: pd.Series[float]) -> alt.Scale:
    """A scale from zero that is not blown up where nothing changed."""
    if values.max() < NOTHING:
        return alt.Scale(domain=[0, 1])
    return alt.Scale(zero=True)


def alignment_map(found: Alignment) -> alt.Chart:
    """Alignment of every layer with every other as a chart of squares."""
    rows, cols = np.indices(found.values.shape)
    table = pd.DataFrame(
        {
            "before": np.asarray(found.layers_a)[rows.ravel()],
            "after": np.asarray(found.layers_b)[cols.ravel()],
            "alignment": found.values.ravel(),
        }
    )
    named = max(found.values.shape) <= MOST_NAMED
    axis = {"labels": named, "ticks": named, "labelLimit": 110}
    return (
        alt.Chart(table)
        .mark_rect()
        .encode(
            x=alt.X(
                "after:N", sort=list(found.layers_b), title="after",
                axis=alt.Axis(labelAngle=-45, **axis),
            ),
            y=alt.Y("before:N", sort=list(found.layers_a), title="before", axis=alt.Axis(**axis)),
            color=alt.Color(
                "alignment:Q", title="CKA",
                scale=alt.Scale(domain=[0, 1], range=list(SEQUENTIAL), clamp=True),
            ),
            tooltip=[
                alt.Tooltip("before:N"), alt.Tooltip("after:N"),
                alt.Tooltip("alignment:Q", format=".3f", title="CKA"),
            ],
        )
        .properties(height=380)
    )  # fmt: skip


def learning_curve(found: Finetuned, measure: Literal["loss", "accuracy"]) -> alt.Chart:
    """Loss or accuracy of training and of held-back items over the epochs."""
    names = {"train": "training", "test": "held back"}
    parts = [
        pd.DataFrame(
            {"epoch": found.log["epoch"], "value": found.log[f"{part}_{measure}"], "items": words}
        )
        for part, words in names.items()
    ]
    percent = measure == "accuracy"
    return (
        alt.Chart(pd.concat(parts))
        .mark_line(point=True)
        .encode(
            x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, format="d")),
            y=alt.Y(
                "value:Q", title=measure, scale=alt.Scale(zero=not percent),
                axis=alt.Axis(format=".0%" if percent else ".2~g"),
            ),
            color=alt.Color(
                "items:N", title=None, legend=alt.Legend(orient="bottom"),
                scale=alt.Scale(domain=list(names.values()), range=[GRAY, ACCENT]),
            ),
            tooltip=["epoch:Q", "items:N", alt.Tooltip("value:Q", format=".3g")],
        )
        .properties(height=240)
    )  # fmt: skip


def batch_losses(losses: Sequence[float]) -> alt.Chart:
    """Loss of each batch of the running epoch."""
    table = pd.DataFrame({"batch": np.arange(1, len(losses) + 1), "loss": losses})
    return (
        alt.Chart(table)
        .mark_line(color=GRAY)
        .encode(
            x=alt.X("batch:Q", title="batches of this epoch"),
            y=alt.Y("loss:Q", scale=alt.Scale(zero=False)),
        )
        .properties(height=160)
    )


def change_csv(found: Change) -> bytes:
    """The table as CSV."""
    return bytes(found.table.to_csv(index=False).encode())


def change_npz(found: Change) -> bytes:
    """All numbers and pictures as NPZ."""
    buffer = io.BytesIO()
    arrays = {name: np.asarray(found.table[name]) for name in found.table}
    arrays["failed"] = arrays["failed"].astype(str)
    pictures = {
        f"{when}_{unit}": getattr(pair, when).numpy()
        for unit, pair in found.pictures.items()
        for when in ("before", "after")
    }
    np.savez_compressed(buffer, allow_pickle=False, **arrays, **pictures)
    return buffer.getvalue()
