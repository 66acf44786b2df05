"""Results as Altair charts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cnnvis_core.occlusion.faithfulness import Faithfulness
from cnnvis_core.occlusion.grid import Axis
from cnnvis_core.occlusion.result import Occlusion
from cnnvis_core.render.colour import ACCENT, DIVERGING, symmetric_limit
from cnnvis_core.render.pictures import heat_layer, png
from cnnvis_core.render.spectrogram import plain_spectrogram

CELL = "cell"  # name of the selection that a click on a map makes
BOX = "box"  # name of the selection that dragging over a map makes
_TICKS_HZ = (62.5, 125, 250, 500, 1000, 2000, 4000, 8000, 16000)


def top_classes(
    names: Sequence[str], probabilities: Sequence[float], chosen: str | None = None
) -> alt.LayerChart:
    """Horizontal bars of the strongest answers, the explained class in the accent colour."""
    frame = pd.DataFrame({"class": names, "probability": probabilities})
    frame["label"] = [f"{100 * p:.1f} %" for p in probabilities]
    frame["explained"] = frame["class"] == chosen
    y = alt.Y(
        "class:N",
        sort=list(names),
        title=None,
        axis=alt.Axis(labelLimit=170, ticks=False, domain=False),
    )
    x = alt.X(
        "probability:Q",
        scale=alt.Scale(domain=[0, 1]),
        axis=alt.Axis(format="%", title="probability", tickCount=5, grid=False),
    )
    bars = (
        alt.Chart(frame)
        .mark_bar(cornerRadiusEnd=3, height=16)
        .encode(
            y=y,
            x=x,
            color=alt.condition("datum.explained", alt.value(ACCENT), alt.value("#8d99a6")),
            tooltip=[
                alt.Tooltip("class:N"),
                alt.Tooltip("probability:Q", format=".4f"),
            ],
        )
    )
    text = bars.mark_text(align="left", dx=4).encode(text="label:N", color=alt.value("#8d99a6"))
    return (bars + text).properties(height=30 * len(frame) + 40)


def _tiles(axis: Axis) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges of tiles that part the axis without overlap, each around the middle of its patch."""
    middle = (np.array(axis.starts) + np.array(axis.ends)) / 2
    between = (middle[1:] + middle[:-1]) / 2
    edges = np.concatenate([[axis.starts[0]], between, [axis.ends[-1]]])
    return edges[:-1], edges[1:]


def _cells(occlusion: Occlusion) -> pd.DataFrame:
    frame = occlusion.table()
    for name, axis, index in (
        ("y", occlusion.grid.rows, frame["row"]),
        ("x", occlusion.grid.cols, frame["col"]),
    ):
        low, high = _tiles(axis)
        frame[name], frame[name + "2"] = low[index], high[index]
    return frame


def _colour(limit: float, title: str) -> alt.Color:
    stops = [limit * s for s in (-1, -0.5, 0, 0.5, 1)]
    return alt.Color(
        "drop:Q",
        scale=alt.Scale(domain=stops, range=list(DIVERGING), interpolate="rgb"),
        legend=alt.Legend(title=title, format=".2~g", gradientLength=160, orient="bottom"),
    )


def _selection(occlusion: Occlusion) -> alt.Parameter:
    return alt.selection_point(name=CELL, fields=["row", "col"], toggle=False)


def _box() -> alt.Parameter:
    return alt.selection_interval(name=BOX, encodings=["x", "y"])


def _title(occlusion: Occlusion) -> str:
    return f"drop of {occlusion.score}"


def picture_grid(occlusion: Occlusion, limit: float | None = None) -> alt.Chart:
    """Every position as a tile that tells its numbers and can be chosen."""
    limit = limit or symmetric_limit(occlusion.drop)
    height, width = occlusion.grid.rows.extent, occlusion.grid.cols.extent
    chosen = _selection(occlusion)
    return (
        alt.Chart(_cells(occlusion))
        .mark_rect(cursor="pointer")
        .encode(
            x=alt.X(
                "x:Q",
                axis=alt.Axis(title="column (input px)", grid=False),
                scale=alt.Scale(domain=[0, width], nice=False),
            ),
            x2="x2:Q",
            y=alt.Y(
                "y:Q",
                axis=alt.Axis(title="row (input px)", grid=False),
                scale=alt.Scale(domain=[height, 0], nice=False),
            ),
            y2="y2:Q",
            color=_colour(limit, _title(occlusion)),
            stroke=alt.condition(chosen, alt.value("#111111"), alt.value(None), empty=False),
            strokeWidth=alt.value(2),
            tooltip=[
                alt.Tooltip("drop:Q", format="+.4f", title=_title(occlusion)),
                alt.Tooltip("score:Q", format=".4f", title=f"{occlusion.score} when covered"),
                alt.Tooltip("top_px:Q", title="patch top (px)"),
                alt.Tooltip("left_px:Q", title="patch left (px)"),
            ],
        )
        .add_params(chosen, _box())
        # Tiles do not end at whole pixels: what shines through the seams is the colour of zero.
        .properties(height=520, view=alt.ViewBackground(fill=DIVERGING[2]))
    )


def _image(picture: Image.Image, x: tuple[float, float], y: tuple[float, float]) -> alt.Chart:
    """A picture that fills the plot, whatever its size on the screen."""
    url = "data:image/png;base64," + base64.b64encode(png(picture)).decode()
    frame = pd.DataFrame({"url": [url], "x": [sum(x) / 2], "y": [sum(y) / 2]})
    return (
        alt.Chart(frame)
        .mark_image(width=alt.expr("width"), height=alt.expr("height"), aspect=False)
        .encode(x="x:Q", y="y:Q", url="url:N")
    )


def _hz_axis(centres: NDArray[np.float64]) -> alt.Axis:
    """Round frequencies at their places among mel bands."""
    ticks = [hz for hz in _TICKS_HZ if centres[0] <= hz <= centres[-1]]
    places = [round(float(_row(np.array([hz]), centres)[0]), 3) for hz in ticks]
    label = "''"
    for hz, place in zip(ticks, places, strict=True):
        text = f"{hz / 1000:g}k" if hz >= 1000 else f"{hz:g}"
        label = f"abs(datum.value - {place}) < 0.01 ? '{text}' : {label}"
    return alt.Axis(values=places, labelExpr=label, title="frequency (Hz)", grid=False)


def _row(hz: NDArray[np.float64], centres: NDArray[np.float64]) -> NDArray[np.float64]:
    """Where frequencies lie on an axis of mel bands, 0 to their number."""
    where = np.interp(hz, centres, np.arange(len(centres)) + 0.5)
    where[hz < centres[0]] = 0
    where[hz > centres[-1]] = len(centres)
    return where


@dataclass(frozen=True)
class _Plot:
    """A spectrogram with its axes, to lay marks over."""

    layers: tuple[alt.Chart, ...]
    x: alt.X
    y: alt.Y


def _plot(
    levels: NDArray[np.float32],
    seconds: NDArray[np.float64],
    centres: NDArray[np.float64],
    heat: NDArray[np.float32] | None,
    limit: float,
    opacity: float,
) -> _Plot:
    bands, frames = levels.shape
    step = float(seconds[1] - seconds[0]) if frames > 1 else 1.0
    time = max(0.0, float(seconds[0]) - step / 2), float(seconds[-1]) + step / 2
    plain = plain_spectrogram(levels)
    x_scale = alt.Scale(domain=list(time), nice=False)
    x = alt.X("x:Q", scale=x_scale, axis=alt.Axis(title="time (s)", grid=False))
    y = alt.Y("y:Q", scale=alt.Scale(domain=[0, bands], nice=False), axis=_hz_axis(centres))
    pictures = [plain]
    if heat is not None:
        pictures.append(heat_layer(heat[::-1], limit, opacity, plain.size))
    layers = (_image(picture, time, (0, bands)).encode(x=x, y=y) for picture in pictures)
    return _Plot(tuple(layers), x, y)


def spectrogram(
    levels: NDArray[np.float32],
    seconds: NDArray[np.float64],
    centres: NDArray[np.float64],
    heat: NDArray[np.float32] | None = None,
    opacity: float = 0.75,
    limit: float | None = None,
    frame: tuple[int, int, int, int] | None = None,
) -> alt.LayerChart | alt.FacetChart:
    """A log-mel spectrogram with time and frequency.

    Parameters
    ----------
    levels : ndarray (mel bands, frames)
        What the network is given.
    seconds : ndarray (frames,)
        Middle of each frame.
    centres : ndarray (mel bands,)
        Centre of each band in Hz.
    heat : ndarray (mel bands, frames), optional
        Signed values to lay over it.
    opacity : float
        Of the heat, 0 to 1.
    limit : float, optional
        Value of the strongest colour; by default the largest absolute one.
    frame : (low band, first frame, high band, last frame), optional
        Framed, with the ends not in it; may lie outside.
    """
    limit = limit or (1.0 if heat is None else symmetric_limit(heat))
    plot = _plot(levels, seconds, centres, heat, limit, opacity)
    marks = [] if frame is None else _frame(frame, plot, levels.shape, seconds)
    return alt.layer(*plot.layers, *marks).properties(height=400)


def _frame(
    frame: tuple[int, int, int, int],
    plot: _Plot,
    shape: tuple[int, int],
    seconds: NDArray[np.float64],
) -> list[alt.Chart]:
    """A rectangle on a spectrogram, dark within light."""
    step = float(seconds[1] - seconds[0]) if len(seconds) > 1 else 1.0
    low, high = (min(max(edge, 0), shape[0]) for edge in (frame[0], frame[2]))
    first, last = (min(max(edge, 0), shape[1]) for edge in (frame[1], frame[3]))
    left, right = (max(0.0, float(seconds[0]) + (edge - 0.5) * step) for edge in (first, last))
    table = pd.DataFrame({"x": [left], "x2": [right], "y": [low], "y2": [high]})
    return [
        alt.Chart(table)
        .mark_rect(fillOpacity=0, stroke=colour, strokeWidth=thick)
        .encode(x=plot.x, x2="x2:Q", y=plot.y, y2="y2:Q")
        for colour, thick in (("#ffffff", 4), ("#141414", 1.5))
    ]


def occluded_spectrogram(
    levels: NDArray[np.float32],
    seconds: NDArray[np.float64],
    centres: NDArray[np.float64],
    occlusion: Occlusion,
    opacity: float = 0.75,
) -> alt.LayerChart | alt.FacetChart:
    """A spectrogram under an occlusion map whose places can be clicked; see `spectrogram`."""
    limit = symmetric_limit(occlusion.drop)
    plot = _plot(levels, seconds, centres, occlusion.heatmap, limit, opacity)
    cells = _cells(occlusion)
    for edge in ("y", "y2"):
        cells[edge] = _row(cells[edge].to_numpy(float), centres)
    chosen = _selection(occlusion)
    tiles = (
        alt.Chart(cells)
        .mark_rect(cursor="pointer", fillOpacity=0)
        .encode(
            x=plot.x,
            x2="x2:Q",
            y=plot.y,
            y2="y2:Q",
            color=_colour(limit, _title(occlusion)),
            stroke=alt.condition(chosen, alt.value("#ffffff"), alt.value(None), empty=False),
            strokeWidth=alt.value(2),
            tooltip=[
                alt.Tooltip("drop:Q", format="+.4f", title=_title(occlusion)),
                alt.Tooltip("score:Q", format=".4f", title=f"{occlusion.score} when covered"),
                alt.Tooltip("start_s:Q", format=".2f", title="from (s)"),
                alt.Tooltip("end_s:Q", format=".2f", title="to (s)"),
                alt.Tooltip("low_Hz:Q", format=".0f", title="from (Hz)"),
                alt.Tooltip("high_Hz:Q", format=".0f", title="to (Hz)"),
            ],
        )
        .add_params(chosen, _box())
    )
    return alt.layer(*plot.layers, tiles).properties(height=400)


def histogram(values: NDArray[np.floating], title: str) -> alt.Chart:
    """How often values occur, in 40 bins."""
    counts, edges = np.histogram(np.asarray(values, float).ravel(), 40)
    frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "count": counts})
    return (
        alt.Chart(frame)
        .mark_bar(color=ACCENT)
        .encode(
            x=alt.X("low:Q", bin="binned", title=title),
            x2="high:Q",
            y=alt.Y("count:Q", title="positions"),
            tooltip=[
                alt.Tooltip("low:Q", format=".3g", title="from"),
                alt.Tooltip("high:Q", format=".3g", title="to"),
                alt.Tooltip("count:Q", title="positions"),
            ],
        )
        .properties(height=180)
    )


def faithfulness_curves(curves: Faithfulness, covered: bool) -> alt.Chart:
    """The deletion (``covered``) or insertion curve beside that of a random order."""
    ours, random = (
        (curves.deletion, curves.random_deletion)
        if covered
        else (curves.insertion, curves.random_insertion)
    )
    frame = pd.concat(
        pd.DataFrame({"share": curves.share, "probability": values, "order": order})
        for values, order in ((ours, "by this map"), (random, "at random"))
    )
    return (
        alt.Chart(frame)
        .mark_line(interpolate="monotone")
        .encode(
            x=alt.X(
                "share:Q",
                title="share covered" if covered else "share shown",
                axis=alt.Axis(format="%", tickCount=5),
            ),
            y=alt.Y("probability:Q", scale=alt.Scale(domain=[0, 1]), title="probability"),
            color=alt.Color(
                "order:N",
                scale=alt.Scale(domain=["by this map", "at random"], range=[ACCENT, "#8d99a6"]),
                legend=alt.Legend(orient="bottom", title=None),
            ),
            strokeDash=alt.StrokeDash(
                "order:N",
                scale=alt.Scale(domain=["by this map", "at random"], range=[[1, 0], [5, 4]]),
                legend=None,
            ),
            tooltip=[
                alt.Tooltip("share:Q", format=".0%"),
                alt.Tooltip("probability:Q", format=".3f"),
                alt.Tooltip("order:N"),
            ],
        )
        .properties(height=280)
    )
