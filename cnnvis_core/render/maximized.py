"""Pictures that drive units, on their own, on a sheet and moving."""

from __future__ import annotations

import io
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from cnnvis_core.maximization import Maximization
from cnnvis_core.render.colour import ACCENT, SEQUENTIAL, diverging, sequential
from cnnvis_core.render.pictures import enlarged
from cnnvis_core.render.sprites import Sprite, largest, sheet

Pixels = NDArray[np.uint8]
Values = NDArray[Any]  # in [0, 1], or bytes
FEW = 5  # pictures that stand in one row
PENDING = 0.6  # share of gray over pictures that are not begun
FRAME_MS = 120
LAST_FRAME_MS = 1200


def parts(values: Values) -> list[tuple[str, Image.Image]]:
    """The parts of a picture (C, H, W), each with its name.

    Three channels are red, green and blue, of four the last is depth; any other number is drawn
    channel by channel. Values lie in [0, 1], or are bytes.
    """
    pixels = values if values.dtype == np.uint8 else _bytes(values)
    if len(pixels) in (3, 4):
        colours = ("", Image.fromarray(pixels[:3].transpose(1, 2, 0)))
        return [colours] + [("depth", Image.fromarray(band)) for band in pixels[3:]]
    if len(pixels) == 1:
        return [("", Image.fromarray(pixels[0]))]
    return [(f"channel {n}", Image.fromarray(band)) for n, band in enumerate(pixels)]


def _bytes(values: Values) -> Pixels:
    return (np.clip(values, 0, 1) * 255).round().astype(np.uint8)


def spectrogram_colours(values: Values) -> Image.Image:
    """A spectrogram (1, bands, frames) in [0, 1], or of bytes, low frequencies at the bottom."""
    unit = values[0] / 255.0 if values.dtype == np.uint8 else values[0]
    return Image.fromarray(sequential(unit[::-1], 0.0, 1.0))


def side_by_side(values: Values, sound: bool) -> Image.Image:
    """All parts of a picture in a row."""
    if sound:
        return spectrogram_colours(values)
    pictures = [picture.convert("RGB") for _, picture in parts(values)]
    width, height = pictures[0].size
    row = Image.new("RGB", (width * len(pictures), height))
    for place, picture in enumerate(pictures):
        row.paste(picture, (place * width, 0))
    return row


def map_picture(values: NDArray[np.float32], side: int, upwards: bool) -> Image.Image:
    """A unit's map (h, w): signed about zero, or from dark to light where nothing is below it."""
    if upwards:
        values = values[::-1]
    limit = float(largest(values[None])[0])
    colours = sequential(values, 0.0, limit) if values.min() >= 0 else diverging(values, limit)
    return enlarged(Image.fromarray(colours), side)


def gallery(found: Maximization, sound: bool, pixels: int | None = None) -> Sprite:
    """All pictures on one sheet; those that are not begun are blank.

    Parameters
    ----------
    found : Maximization
        Finished or not.
    sound : bool
        Whether they are spectrograms.
    pixels : int, optional
        About how many the sheet may have; rows and columns of pictures are left out for that.
    """
    begun = ~np.isnan(found.start_activation)
    images = found.images.numpy()
    if pixels is not None:
        step = max(1, round((images.size / images.shape[1] / pixels) ** 0.5))
        images = images[..., ::step, ::step]
    tiles = []
    for number, values in enumerate(images):
        tile = np.asarray(side_by_side(values, sound))
        tiles.append(tile if begun[number] else np.full_like(tile, round(255 * PENDING)))
    return sheet(np.stack(tiles), len(tiles) if len(tiles) <= FEW else None)


def animation(
    found: Maximization, number: int, sound: bool, kind: Literal["WebP", "GIF"], side: int = 320
) -> bytes:
    """The ascent of a picture as a moving one that starts again; the last frame stays longer."""
    frames = [
        enlarged(side_by_side(frame[number], sound), side).convert("RGB") for frame in found.frames
    ]
    buffer = io.BytesIO()
    frames[0].save(
        buffer,
        kind,
        save_all=True,
        append_images=frames[1:],
        duration=[FRAME_MS] * (len(frames) - 1) + [LAST_FRAME_MS],
        loop=0,
        **({"quality": 90} if kind == "WebP" else {}),
    )
    return buffer.getvalue()


def activation_curve(
    found: Maximization, number: int, step: int | None = None
) -> alt.LayerChart | alt.FacetChart:
    """The activation at each step, as it was seen; a line stands at the step that is shown."""
    values = found.activation[:, number]
    frame = pd.DataFrame({"step": np.arange(len(values)), "activation": values}).dropna()
    line = (
        alt.Chart(frame)
        .mark_line(color=ACCENT)
        .encode(
            x=alt.X("step:Q", scale=alt.Scale(domain=[0, len(values)])),
            y=alt.Y("activation:Q", scale=alt.Scale(zero=False)),
            tooltip=[alt.Tooltip("step:Q"), alt.Tooltip("activation:Q", format=".4g")],
        )
    )
    mark = (
        alt.Chart(pd.DataFrame({"step": [] if step is None else [step]}))
        .mark_rule(color=SEQUENTIAL[3], strokeDash=[4, 3])
        .encode(x="step:Q")
    )
    return alt.layer(line, mark).properties(height=220)


def maximization_npz(found: Maximization) -> bytes:
    """The pictures and all that was measured."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        images=found.images.numpy(),
        starts=found.starts.numpy(),
        activation=found.activation,
        start_activation=found.start_activation,
        end_activation=found.end_activation,
        shows=np.array(found.words),
        notes=np.array(found.notes),
        finished=found.done,
        blank=found.blank,
        frames=found.frames,
        frame_steps=np.array(found.frame_steps),
        # Empty where no unit's map is meant.
        start_maps=np.empty(0) if found.start_maps is None else found.start_maps,
        end_maps=np.empty(0) if found.end_maps is None else found.end_maps,
    )
    return buffer.getvalue()
