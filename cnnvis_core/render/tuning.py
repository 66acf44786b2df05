"""What units are tuned to: tiles tinted by angle, curves, gratings, files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cnnvis_core.orientation import Gratings, LayerTuning, OrientationTuning
from cnnvis_core.render.colour import ACCENT, SEQUENTIAL
from cnnvis_core.render.sprites import Sprite, sheet

POLAR_SIDE = 48  # pixels of a small polar plot
DARK, EVEN = 0.16, 0.62  # gray of the ground and of an unselective shape, 0 to 1
CHROMA = 0.16  # of the tints, in OKLab
LIGHTNESS = 0.75
FULL_TINT = 0.5  # selectivity from which a tint is full
GRAY = "#8d99a6"
BIN_DEG = 10.0

Values = NDArray[np.float64]


def tint(angle_deg: Values, strength: Values) -> NDArray[np.float64]:
    """Colours (..., 3) in [0, 1] of angles, one round of hues in 180 degrees.

    All are of one lightness in OKLab (B. Ottosson 2020), so that none looks stronger; gray where
    the strength, 0 to 1, or the angle is nothing.
    """
    turn = 2 * np.radians(np.nan_to_num(angle_deg))
    chroma = CHROMA * np.clip(np.nan_to_num(strength), 0, 1) * np.isfinite(angle_deg)
    a, b = chroma * np.cos(turn), chroma * np.sin(turn)
    cubes = np.stack(
        [
            LIGHTNESS + 0.3963377774 * a + 0.2158037573 * b,
            LIGHTNESS - 0.1055613458 * a - 0.0638541728 * b,
            LIGHTNESS - 0.0894841775 * a - 1.2914855480 * b,
        ],
        -1,
    )
    mix = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    light = np.clip(cubes**3 @ mix.T, 0, 1)
    return np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)


def tint_hex(angle_deg: float) -> str:
    """The full tint of an angle, for a page."""
    red, green, blue = (tint(np.array(angle_deg), np.array(1.0)) * 255).round().astype(int)
    return f"#{red:02x}{green:02x}{blue:02x}"


def tinted_kernels(
    weight: NDArray[np.float32], table: pd.DataFrame, order: NDArray[np.int64]
) -> Sprite:
    """Kernels (units, h, w) from dark to light, each on its own scale, tinted by preferred angle.

    The tint is the stronger the more selective the unit, and full from a selectivity of a half.
    """
    limits = np.maximum(np.abs(weight).max((1, 2)), 1e-12)[:, None, None]
    values = (weight / limits / 2 + 0.5)[order]
    colours = _tints(table)[order][:, None, None]
    return sheet((255 * values[..., None] * colours).round().astype(np.uint8))


def polar_tiles(found: LayerTuning, order: NDArray[np.int64]) -> Sprite:
    """Tuning curves as polar shapes, each on its own scale, tinted as kernels are."""
    middle = (POLAR_SIDE - 1) / 2
    rows, cols = np.mgrid[:POLAR_SIDE, :POLAR_SIDE] - middle
    radius = np.hypot(rows, cols) / (middle - 1)
    angle = np.degrees(np.arctan2(-rows, cols)) % 180
    step = 180 / found.curves.shape[1]
    place = angle / step
    low = np.floor(place).astype(int) % found.curves.shape[1]
    high, share = (low + 1) % found.curves.shape[1], place - np.floor(place)
    curves = found.curves / np.maximum(found.curves.max(1, keepdims=True), 1e-30)
    tints = _tints(found.table)
    tiles = np.empty((len(order), POLAR_SIDE, POLAR_SIDE, 3), np.uint8)
    for tile, unit in enumerate(order):
        edge = curves[unit][low] * (1 - share) + curves[unit][high] * share
        inside = np.clip((edge - radius) * middle + 0.5, 0, 1)[..., None]
        tiles[tile] = (255 * (DARK + inside * (tints[unit] - DARK))).round()
    return sheet(tiles)


def _tints(table: pd.DataFrame) -> NDArray[np.float64]:
    responds = table["responds"].to_numpy(bool)
    found = tint(table["preferred_deg"].to_numpy(), table["selectivity"].to_numpy() / FULL_TINT)
    return np.where(responds[:, None], found, EVEN * 0.6)


def tuned_names(table: pd.DataFrame, order: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """What to say of each unit."""
    names = []
    for unit in order:
        row = table.iloc[unit]
        if not row["responds"]:
            names.append(f"Unit {unit}: responds to no grating")
            continue
        beyond = "" if row["selective"] is pd.NA or row["selective"] else ", no more than chance"
        names.append(
            f"Unit {unit}: {row['preferred_deg']:.0f}°, selectivity {row['selectivity']:.2f}"
            f"{beyond}, {row['preferred_frequency']:.3f} cycles a pixel"
        )
    return names


def grating_picture(
    gratings: Gratings, extent: tuple[int, int], channels: int, at: Sequence[int]
) -> Image.Image:
    """A grating by the indices of its orientation and its frequency, with a bar in the middle."""
    values = gratings.draw(extent, 3 if channels == 3 else 1, [(int(at[0]), int(at[1]), 0)])[0]
    pixels = (values.numpy() * 255).round().astype(np.uint8).transpose(1, 2, 0)
    return Image.fromarray(pixels if channels == 3 else pixels[..., 0])


def tuning_curve(found: LayerTuning, unit: int) -> alt.LayerChart | alt.FacetChart:
    """Responses over the orientation, with the preferred one and the half width."""
    row = found.table.iloc[unit]
    # The circle is closed: 180 degrees are 0 again.
    angles = [*found.orientations_deg, found.orientations_deg[0] + 180]
    values = [*found.curves[unit], found.curves[unit][0]]
    frame = pd.DataFrame({"angle": angles, "response": values})
    x = alt.X(
        "angle:Q",
        title="angle of the stripes (degrees)",
        scale=alt.Scale(domain=[0, 180], nice=False),
        axis=alt.Axis(values=list(range(0, 181, 30))),
    )
    base = alt.Chart(frame)
    line = base.mark_line(color=ACCENT, point=alt.OverlayMarkDef(color=ACCENT, size=18)).encode(
        x=x,
        y=alt.Y("response:Q", title="response", scale=alt.Scale(domainMin=0)),
        tooltip=[alt.Tooltip("angle:Q"), alt.Tooltip("response:Q", format=".4g")],
    )
    layers: list[alt.Chart] = [line]
    if np.isfinite(row["preferred_deg"]):
        mark = alt.Chart(pd.DataFrame({"angle": [row["preferred_deg"]]}))
        layers.append(mark.mark_rule(color=SEQUENTIAL[3], strokeDash=[4, 3]).encode(x="angle:Q"))
    return alt.layer(*layers).properties(height=240)


def polar_plot(found: LayerTuning, unit: int) -> alt.LayerChart | alt.FacetChart:
    """The tuning curve around a circle, each orientation at both of its ends."""
    angles = np.radians([*found.orientations_deg, *(np.array(found.orientations_deg) + 180)])
    angles = np.append(angles, angles[0])
    curve = found.curves[unit]
    radius = np.append(np.tile(curve, 2), curve[0]) / max(float(curve.max()), 1e-30)
    frame = pd.DataFrame(
        {"x": radius * np.cos(angles), "y": radius * np.sin(angles), "order": range(len(angles))}
    )
    scale = alt.Scale(domain=[-1.1, 1.1], nice=False)
    x, y = (alt.X("x:Q", axis=None, scale=scale), alt.Y("y:Q", axis=None, scale=scale))
    around = np.linspace(0, 2 * np.pi, 73)
    rings = pd.DataFrame(
        {
            "x": np.concatenate([part * np.cos(around) for part in (0.5, 1)]),
            "y": np.concatenate([part * np.sin(around) for part in (0.5, 1)]),
            "order": np.tile(np.arange(73), 2),
            "ring": np.repeat([0, 1], 73),
        }
    )
    grid = (
        alt.Chart(rings)
        .mark_line(color=GRAY, strokeWidth=0.7, opacity=0.7)
        .encode(x=x, y=y, order="order:Q", detail="ring:N")
    )
    ends = np.array([0, 45, 90, 135])
    labels = pd.DataFrame(
        {
            "x": np.cos(np.radians(ends)) * 1.0,
            "y": np.sin(np.radians(ends)) * 1.0,
            "text": [f"{end}°" for end in ends],
        }
    )
    shape = (
        alt.Chart(frame)
        .mark_line(color=ACCENT, strokeWidth=2, fill=ACCENT, fillOpacity=0.2)
        .encode(x=x, y=y, order="order:Q")
    )
    text = (
        alt.Chart(labels)
        .mark_text(color=GRAY, dx=-4, dy=-6, fontSize=11)
        .encode(x=x, y=y, text="text:N")
    )
    return (
        alt.layer(grid, shape, text)
        .properties(width=190, height=190, autosize=alt.AutoSizeParams(type="pad"))
        .configure_view(strokeOpacity=0)
    )


def frequency_curve(
    found: LayerTuning, gratings: Gratings, unit: int
) -> alt.LayerChart | alt.FacetChart:
    """Responses over the spatial frequency at the best orientation, with the preferred one."""
    frame = pd.DataFrame(
        {"frequency": gratings.frequencies, "response": found.frequency_curves[unit]}
    )
    line = (
        alt.Chart(frame)
        .mark_line(color=ACCENT, point=alt.OverlayMarkDef(color=ACCENT, size=18))
        .encode(
            x=alt.X(
                "frequency:Q",
                title="spatial frequency (cycles a pixel)",
                scale=alt.Scale(type="log", nice=False),
                axis=alt.Axis(format=".2~g", tickCount=5),
            ),
            y=alt.Y("response:Q", title="response", scale=alt.Scale(domainMin=0)),
            tooltip=[
                alt.Tooltip("frequency:Q", format=".3f"),
                alt.Tooltip("response:Q", format=".4g"),
            ],
        )
    )
    best = found.table["preferred_frequency"].iloc[unit]
    mark = (
        alt.Chart(pd.DataFrame({"frequency": [best] if np.isfinite(best) else []}))
        .mark_rule(color=SEQUENTIAL[3], strokeDash=[4, 3])
        .encode(x="frequency:Q")
    )
    return alt.layer(line, mark).properties(height=240)


def angle_histogram(table: pd.DataFrame) -> alt.Chart:
    """How many units prefer each angle, those beyond chance apart."""
    frame = table.dropna(subset=["preferred_deg"])
    low = np.floor(frame["preferred_deg"] % 180 / BIN_DEG) * BIN_DEG
    kinds = ["beyond chance", "no more than chance"]
    kind = np.where(frame["selective"].fillna(False), *kinds)
    if frame["selective"].isna().all():
        kinds, kind = ["all units"], np.full(len(frame), "all units")
    counts = pd.DataFrame({"low": low, "kind": kind}).value_counts().reset_index(name="units")
    counts["high"] = counts["low"] + BIN_DEG
    return (
        alt.Chart(counts)
        .mark_bar()
        .encode(
            x=alt.X(
                "low:Q",
                bin="binned",
                title="preferred angle (degrees)",
                scale=alt.Scale(domain=[0, 180], nice=False),
                axis=alt.Axis(values=list(range(0, 181, 30))),
            ),
            x2="high:Q",
            y=alt.Y("units:Q", title="units", axis=alt.Axis(tickMinStep=1)),
            color=alt.Color(
                "kind:N",
                scale=alt.Scale(domain=kinds, range=[ACCENT, GRAY][: len(kinds)]),
                legend=alt.Legend(orient="bottom", title=None),
            ),
            order=alt.Order("kind:N"),
            tooltip=[
                alt.Tooltip("low:Q", title="from"),
                alt.Tooltip("high:Q", title="to"),
                alt.Tooltip("kind:N"),
                alt.Tooltip("units:Q"),
            ],
        )
        .properties(height=280)
    )


def through_the_layers(
    tables: dict[str, pd.DataFrame], column: str, title: str
) -> alt.LayerChart | alt.FacetChart:
    """Median and quartiles of a column, from the first layer to the last."""
    rows = [
        (place, name, *values.quantile([0.25, 0.5, 0.75]), int(values.notna().sum()), len(values))
        for place, (name, values) in enumerate((n, t[column].abs()) for n, t in tables.items())
    ]
    frame = pd.DataFrame(rows, columns=["place", "layer", "low", "median", "high", "n", "units"])
    frame = frame.dropna()
    x = alt.X(
        "layer:N",
        sort=[row[1] for row in rows],
        title=None,
        axis=alt.Axis(labelAngle=-60, labelLimit=120, labelOverlap=True),
    )
    base = alt.Chart(frame)
    tooltip = [
        alt.Tooltip("layer:N"),
        alt.Tooltip("median:Q", format=".2f"),
        alt.Tooltip("low:Q", format=".2f", title="lower quartile"),
        alt.Tooltip("high:Q", format=".2f", title="upper quartile"),
        alt.Tooltip("n:Q", title="units that respond"),
        alt.Tooltip("units:Q"),
    ]
    y = alt.Y("low:Q", title=title, scale=alt.Scale(domain=[0, 1]))
    span = base.mark_bar(color=GRAY, opacity=0.5, width=8).encode(x=x, y=y, y2="high:Q")
    points = base.mark_circle(color=ACCENT, size=70, opacity=1).encode(
        x=x, y="median:Q", tooltip=tooltip
    )
    return alt.layer(span, points).properties(height=300)


def orientation_npz(found: OrientationTuning, layer: str, table: pd.DataFrame) -> bytes:
    """The table of a layer, with any further columns, its curves, and what was shown."""
    one, buffer = found.layers[layer], io.BytesIO()
    np.savez_compressed(
        buffer,
        **columns(table),  # type: ignore[arg-type]  # no column is called allow_pickle
        layer=layer,
        curves=one.curves,
        frequency_curves=one.frequency_curves,
        orientations_deg=np.array(one.orientations_deg),
        frequencies=np.array(found.gratings.frequencies),
        phases=found.gratings.phases,
        contrast=found.gratings.contrast,
        diameter=found.gratings.diameter or np.inf,
    )
    return buffer.getvalue()


def columns(table: pd.DataFrame) -> dict[str, NDArray[np.float64]]:
    """The columns of numbers of a table; what is missing is NaN."""
    return {
        str(name): values.astype(float).to_numpy()
        for name, values in table.items()
        if pd.api.types.is_numeric_dtype(values)
    }


def tuning_csv(table: pd.DataFrame) -> bytes:
    """One row a unit."""
    return table.to_csv(index=False, float_format="%.7g").encode()
