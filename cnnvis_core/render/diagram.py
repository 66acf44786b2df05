"""A network as a diagram: one line of boxes for each stage, branches below each other."""

from __future__ import annotations

import altair as alt
import pandas as pd

from cnnvis_core.network import Box, Plan

LAYER = "layer"  # name of the chart's selection
COLUMNS = 24  # boxes a line
LEAST_COLUMNS = 12  # so that the boxes of a small network stay boxes
LINE = 30  # pixels
HEAD = 0.85  # of a line, above each stage
_COLOURS = {
    "convolution": "#0072b2",
    "linear": "#cc79a7",
    "pooling": "#d55e00",
    "normalisation": "#7f8c8d",
    "activation": "#009e73",
    "other": "#b59b00",
}


def network(plan: Plan, chosen: str | None = None) -> alt.LayerChart | alt.FacetChart:
    """Draw a network; a click chooses a layer.

    Parameters
    ----------
    plan : Plan
        The layers in their places.
    chosen : str, optional
        The layer that is framed.
    """
    boxes, heads, height = _tables(plan, chosen)
    lines = _lines(boxes, plan)
    used = max((box.column for box in plan.boxes), default=0) + 1
    columns = min(COLUMNS, max(used, LEAST_COLUMNS))
    across = alt.Scale(domain=[0, columns], nice=False)
    down = alt.Scale(domain=[height, 0], nice=False)
    x = alt.X("x:Q", scale=across, axis=None)
    y = alt.Y("y:Q", scale=down, axis=None)
    pick = alt.selection_point(name=LAYER, fields=["layer"], on="click", clear=False)
    wide = alt.expr("width > 620 ? 1 : 0")
    links = (
        alt.Chart(lines)
        .mark_line(interpolate="monotone", color="#8d99a6", strokeWidth=1.2, opacity=0.8)
        .encode(x=x, y=y, detail="link:N", order="step:Q")
    )
    tiles = (
        alt.Chart(boxes)
        .mark_rect(cornerRadius=3, cursor="pointer", strokeWidth=3)
        .encode(
            x=alt.X("x0:Q", scale=across, axis=None),
            x2="x1:Q",
            y=alt.Y("y0:Q", scale=down, axis=None),
            y2="y1:Q",
            color=alt.Color(
                "family:N",
                scale=alt.Scale(domain=list(_COLOURS), range=list(_COLOURS.values())),
                legend=alt.Legend(
                    orient="bottom",
                    title=None,
                    values=sorted({box.family for box in plan.boxes}),
                ),
            ),
            stroke=alt.condition("datum.chosen", alt.value("#e69f00"), alt.value(None)),
            tooltip=[
                alt.Tooltip("layer:N"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("units:Q", format=","),
                alt.Tooltip("map:N", title="map"),
                alt.Tooltip("kernel:N"),
                alt.Tooltip("parameters:Q", format=","),
                alt.Tooltip("sees:N", title="receptive field"),
            ],
        )
        .add_params(pick)
    )
    marks = (
        alt.Chart(boxes)
        .mark_text(color="#ffffff", fontSize=10, opacity=wide, tooltip=None)
        .encode(x=x, y=y, text="label:N")
    )
    titles = (
        alt.Chart(heads)
        .mark_text(align="left", baseline="middle", fontSize=12, color="#7d8b97")
        .encode(x=x, y=y, text="text:N")
    )
    return alt.layer(links, tiles, marks, titles).properties(height=round(LINE * height) + 30)


def _tables(plan: Plan, chosen: str | None) -> tuple[pd.DataFrame, pd.DataFrame, float]:
    """Tables of boxes and of headings, and the number of lines."""
    rows, heads, top = [], [], 0.0
    for number in range(len(plan.stages)):
        heads.append({"x": 0, "y": top + HEAD / 2, "text": _head(plan, number)})
        top += HEAD
        mine = [box for box in plan.boxes if box.stage == number]
        lanes: dict[int, int] = {}
        for box in mine:
            band = box.column // COLUMNS
            lanes[band] = max(lanes.get(band, 0), box.lane + 1)
        starts = {band: sum(lanes[b] for b in lanes if b < band) for band in lanes}
        for box in mine:
            x0 = box.column % COLUMNS
            y0 = top + starts[box.column // COLUMNS] + box.lane
            rows.append(
                {
                    **{"x0": x0 + 0.08, "x1": x0 + 0.92, "x": x0 + 0.5},
                    **{"y0": y0 + 0.1, "y1": y0 + 0.8, "y": y0 + 0.45},
                    **_facts(box),
                    "chosen": box.layer.name == chosen,
                }
            )
        top += sum(lanes.values()) + 0.15
    return pd.DataFrame(rows), pd.DataFrame(heads), top


def _facts(box: Box) -> dict[str, str | int]:
    kernel = " × ".join(map(str, box.kernel))
    field = box.layer.receptive_field
    return {
        "layer": box.layer.name,
        "kind": box.layer.kind,
        "family": box.family,
        "units": box.layer.channels,
        "map": f"{box.size[0]} × {box.size[1]}",
        "kernel": kernel or "none",
        "parameters": box.parameters,
        "sees": f"{field.size[0]} × {field.size[1]} px" if field else "the whole input",
        "label": kernel.replace(" ", "") or ("fc" if box.family == "linear" else ""),
    }


def _head(plan: Plan, number: int) -> str:
    stage = plan.stages[number]
    weights = sum(box.parameters for box in plan.boxes if box.stage == number)
    units = max(layer.channels for layer in stage.layers)
    size = "{} × {}".format(*stage.size) if stage.size != (1, 1) else "no maps"
    return f"{number + 1} · {size} · {units:,} units · {_short(weights)} weights"


def _short(count: int) -> str:
    if count >= 1e6:
        return f"{count / 1e6:.1f} M"
    return f"{count / 1e3:.0f} k" if count >= 1e4 else f"{count:,}"


def _lines(boxes: pd.DataFrame, plan: Plan) -> pd.DataFrame:
    """Points of the lines between boxes; one that passes others by goes below them."""
    at = {row["layer"]: row for row in boxes.to_dict("records")}
    stage = {box.layer.name: box.stage for box in plan.boxes}
    points = []
    for source, name in plan.links:
        a, b = at[source], at[name]
        if stage[source] != stage[name] or b["x"] <= a["x"]:
            continue  # on another line: the order says it
        path = [(a["x"], a["y"]), (b["x"], b["y"])]
        if a["y"] == b["y"] and b["x"] - a["x"] > 1.5:
            low = a["y"] + 0.44
            path[1:1] = [(a["x"] + 0.6, low), (b["x"] - 0.6, low)]
        points += [
            {"x": x, "y": y, "link": f"{source} {name}", "step": step}
            for step, (x, y) in enumerate(path)
        ]
    return pd.DataFrame(points, columns=["x", "y", "link", "step"])
