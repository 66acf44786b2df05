"""The part of an original picture, or of a sound, that an activation came from."""

from __future__ import annotations

from dataclasses import dataclass

from cnnvis_core.datasets.decoding import window_starts
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import Layer, Model
from cnnvis_core.models.preprocessing import ImageFrontend


@dataclass(frozen=True)
class Patch:
    """What one place of a map sees of the network's input, within it.

    Attributes
    ----------
    top, left, bottom, right : int
        Rows and columns of the input, the last ones not in it.
    """

    top: int
    left: int
    bottom: int
    right: int


def input_patch(model: Model, layer: Layer, row: int, col: int) -> Patch:
    """What a place of a layer's map sees; the whole input where its field is not known.

    Nothing of it, at the nearest edge, where the place sees only what the network puts around.
    """
    _, height, width = model.input_shape
    field = layer.receptive_field
    top, left, bottom, right = (0, 0, height, width) if field is None else field.box(row, col)
    top, bottom = (min(max(edge, 0), height) for edge in (top, bottom))
    left, right = (min(max(edge, 0), width) for edge in (left, right))
    return Patch(top, left, bottom, right)


def picture_crop(
    model: Model, layer: Layer, row: int, col: int, size: tuple[int, int]
) -> tuple[float, float, float, float]:
    """The part of an original picture that a place of a map sees, clipped to the picture.

    Parameters
    ----------
    model : Model
        For pictures.
    layer : Layer
        One of its layers.
    row, col : int
        The place.
    size : tuple of int
        (width, height) of the original.

    Returns
    -------
    tuple of float
        (left, top, right, bottom) in its pixels; resizing lets a little of what lies around shine
        in.
    """
    patch = input_patch(model, layer, row, col)
    _, height, width = model.input_shape
    frontend = model.frontend
    seen = (
        frontend.crop_box(size)
        if isinstance(frontend, ImageFrontend)
        else (0.0, 0.0, float(size[0]), float(size[1]))
    )
    across, down = (seen[2] - seen[0]) / width, (seen[3] - seen[1]) / height
    return (
        max(seen[0] + patch.left * across, 0.0),
        max(seen[1] + patch.top * down, 0.0),
        min(seen[0] + patch.right * across, float(size[0])),
        min(seen[1] + patch.bottom * down, float(size[1])),
    )


@dataclass(frozen=True)
class SoundPatch:
    """The part of a sound that an activation came from.

    Attributes
    ----------
    start, end : float
        Seconds of the clip.
    low_hz, high_hz : float
        Edges of the mel bands.
    """

    start: float
    end: float
    low_hz: float
    high_hz: float


def sound_patch(
    model: Model, layer: Layer, row: int, col: int, window: int, seconds: float
) -> SoundPatch:
    """The part of a clip that a place of a map sees, clipped to the clip.

    It is empty where that place sees nothing but the silence that a short clip is filled up with.

    Parameters
    ----------
    model : Model
        For sound.
    layer : Layer
        One of its layers.
    row, col, window : int
        The place, and the window of the clip that it lies in.
    seconds : float
        Length of the clip.
    """
    frontend = model.frontend
    if not isinstance(frontend, LogMel):
        return SoundPatch(0.0, seconds, 0.0, 0.0)
    patch = input_patch(model, layer, row, col)
    frames = model.input_shape[2]
    if patch.left == patch.right or patch.top == patch.bottom:
        return SoundPatch(seconds, seconds, 0.0, 0.0)
    length = max(frontend.frames(round(seconds * frontend.sample_rate)), frames)
    first = window_starts(length, frames)[window]
    middle = frontend.frame_seconds(first + patch.right)
    half = frontend.window / 2 / frontend.sample_rate
    edges = frontend.mel_edges_hz()
    return SoundPatch(
        min(max(float(middle[first + patch.left]) - half, 0.0), seconds),
        min(float(middle[first + patch.right - 1]) + half, seconds),
        float(edges[patch.top]),
        float(edges[patch.bottom]),
    )
