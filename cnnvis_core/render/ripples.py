"""What units that hear are tuned to: transfer functions, receptive fields, files."""

from __future__ import annotations

import io
from collections.abc import Sequence

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cnnvis_core.orientation import LayerModulation, ModulationTuning, Ripples
from cnnvis_core.render.colour import DIVERGING, SEQUENTIAL, symmetric_limit
from cnnvis_core.render.sprites import Sprite, largest, sheet, unsigned_tiles
from cnnvis_core.render.tuning import columns

Values = NDArray[np.float64]
NEITHER = 0.1  # size of a direction index that is none
ENLARGED = 3  # pixels of a tile a rate and a scale


def transfer_tiles(found: LayerModulation, order: NDArray[np.int64]) -> Sprite:
    """Transfer functions, each on its own scale: rates across, scales upwards."""
    values = np.nan_to_num(found.transfer[order]).transpose(0, 2, 1)[:, ::-1]
    tiles = unsigned_tiles(values, largest(values))
    return sheet(tiles.repeat(ENLARGED, 1).repeat(ENLARGED, 2))


def ripple_names(table: pd.DataFrame, order: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """What to say of each unit."""
    names = []
    for unit in order:
        row = table.iloc[unit]
        if not row["responds"]:
            names.append(f"Unit {unit}: responds to no ripple")
            continue
        names.append(
            f"Unit {unit}: {row['preferred_rate_hz']:.3g} Hz "
            f"{way(row['direction'])}, {row['preferred_scale']:.2g} cycles an "
            f"octave, direction {row['direction']:+.2f}"
        )
    return names


def way(direction: float) -> str:
    """A direction index in words."""
    if abs(direction) < NEITHER:
        return "either way"
    return "down" if direction > 0 else "up"


def transfer_chart(found: LayerModulation, ripples: Ripples, unit: int) -> alt.Chart:
    """Responses over rate and scale."""
    rates, scales = ripples.signed_rates, np.array(ripples.scales)
    frame = pd.DataFrame(
        {
            "rate": np.repeat([f"{rate:.3g}" for rate in rates], len(scales)),
            "scale": np.tile([f"{scale:.2g}" for scale in scales], len(rates)),
            "response": found.transfer[unit].ravel(),
        }
    ).dropna()
    most = max(float(frame["response"].max()), 1e-30)
    stops = [most * part for part in np.linspace(0, 1, len(SEQUENTIAL))]
    return (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X(
                "rate:O",
                sort=[f"{rate:.3g}" for rate in rates],
                title="rate (Hz), upward below 0",
                axis=alt.Axis(labelOverlap=True, labelAngle=0),
            ),
            y=alt.Y(
                "scale:O",
                sort=[f"{scale:.2g}" for scale in scales[::-1]],
                title="scale (cycles an octave)",
                axis=alt.Axis(labelOverlap=True),
            ),
            color=alt.Color(
                "response:Q",
                scale=alt.Scale(domain=stops, range=list(SEQUENTIAL), interpolate="rgb"),
                legend=alt.Legend(orient="bottom", format=".2~g", gradientLength=140),
            ),
            tooltip=[
                alt.Tooltip("rate:O", title="rate (Hz)"),
                alt.Tooltip("scale:O", title="scale"),
                alt.Tooltip("response:Q", format=".4g"),
            ],
        )
        .properties(height=340, view=alt.ViewBackground(fill=SEQUENTIAL[0]))
    )


def field_chart(values: Values, seconds: Values, octaves: Values) -> alt.Chart:
    """A receptive field (octaves, seconds), signed about zero."""
    limit, plain, bare = symmetric_limit(values), alt.Scale(nice=False), alt.Axis(grid=False)
    wide, high = seconds[1] - seconds[0], octaves[1] - octaves[0]
    frame = pd.DataFrame(
        {
            "x": np.tile(1000 * (seconds - wide / 2), len(octaves)),
            "x2": np.tile(1000 * (seconds + wide / 2), len(octaves)),
            "y": np.repeat(octaves - high / 2, len(seconds)),
            "y2": np.repeat(octaves + high / 2, len(seconds)),
            "value": values.ravel() / limit,
        }
    )
    return (
        alt.Chart(frame)
        .mark_rect()
        .encode(
            x=alt.X("x:Q", title="time (ms)", scale=plain, axis=bare),
            x2="x2:Q",
            y=alt.Y("y:Q", title="octaves", scale=plain, axis=bare),
            y2="y2:Q",
            color=alt.Color(
                "value:Q",
                scale=alt.Scale(domain=[-1, -0.5, 0, 0.5, 1], range=list(DIVERGING)),
                legend=alt.Legend(
                    orient="bottom", title="of its strongest", gradientLength=140, format=".1f"
                ),
            ),
        )
        .properties(height=340, view=alt.ViewBackground(fill=DIVERGING[2]))
    )


def preference_chart(table: pd.DataFrame) -> alt.Chart:
    """Preferred rate against preferred scale, coloured by direction."""
    frame = table[table["responds"]].drop(columns=["selective"])
    return (
        alt.Chart(frame)
        .mark_circle(size=70, opacity=0.9, stroke="#8d99a6", strokeWidth=0.7)
        .encode(
            x=alt.X(
                "preferred_rate_hz:Q",
                title="rate (Hz)",
                scale=alt.Scale(type="log", nice=False, padding=12),
            ),
            y=alt.Y(
                "preferred_scale:Q",
                title="scale (cycles an octave)",
                scale=alt.Scale(type="symlog", constant=0.3),
            ),
            color=alt.Color(
                "direction:Q",
                scale=alt.Scale(domain=[-1, -0.5, 0, 0.5, 1], range=list(DIVERGING)),
                legend=alt.Legend(
                    orient="bottom", title="direction, up to down", gradientLength=140
                ),
            ),
            tooltip=[
                alt.Tooltip("unit:Q"),
                alt.Tooltip("preferred_rate_hz:Q", format=".3g", title="rate (Hz)"),
                alt.Tooltip("preferred_scale:Q", format=".2g", title="scale"),
                alt.Tooltip("direction:Q", format="+.2f"),
            ],
        )
        .properties(height=340)
    )


def modulation_npz(found: ModulationTuning, layer: str) -> bytes:
    """The table of a layer, its transfer functions and harmonics, and what was played."""
    one, buffer = found.layers[layer], io.BytesIO()
    np.savez_compressed(
        buffer,
        **columns(one.table),  # type: ignore[arg-type]  # no column is called allow_pickle
        layer=layer,
        transfer=one.transfer,
        harmonic=one.harmonic,
        signed_rates_hz=found.ripples.signed_rates,
        scales=np.array(found.ripples.scales),
        phases=found.ripples.phases,
        depth_db=found.ripples.depth_db,
    )
    return buffer.getvalue()
