"""Measuring the drop of a score at every position of the occluder."""

from __future__ import annotations

from collections.abc import Generator
from typing import Literal

import numpy as np
import torch

from cnnvis_core.errors import InputError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Model, ScoreKind
from cnnvis_core.occlusion.occluder import Occluder
from cnnvis_core.occlusion.picture import PictureFill, picture_occluder
from cnnvis_core.occlusion.result import Occlusion
from cnnvis_core.occlusion.sound import Extent, SoundFill, sound_occluder

Engine = Literal["auto", "full"]
Size = int | tuple[int, int] | Extent

_BATCH_BYTES = {"cpu": 256 * 2**20, "cuda": 4 * 2**30}
_LARGEST_BATCH = {"cpu": 32, "cuda": 256}


def occluder_for(
    model: Model,
    x: torch.Tensor | Clip,
    patch: Size | None = None,
    stride: Size | None = None,
    fill: PictureFill | SoundFill = None,
) -> Occluder:
    """The occluder that `occlude` uses, for a picture or a sound; same parameters."""
    if model.modality == "audio":
        return sound_occluder(model, x, patch, stride, fill)  # type: ignore[arg-type]
    return picture_occluder(model, x, patch, stride, fill)  # type: ignore[arg-type]


def occlude(
    model: Model,
    x: torch.Tensor | Clip,
    target: int | str | None = None,
    patch: Size | None = None,
    stride: Size | None = None,
    fill: PictureFill | SoundFill = None,
    score: ScoreKind = "probability",
    engine: Engine = "auto",
) -> Job[Occlusion, Occlusion]:
    """Cover one place of the input after the other and measure what the answer loses.

    Occlusion sensitivity after Zeiler and Fergus (2014), "Visualizing and understanding
    convolutional networks". Positions are visited from coarse to fine, so that every preview
    covers the whole input.

    Parameters
    ----------
    model : Model
        The network.
    x : Tensor (1, C, H, W) or Clip
        ``model.preprocess(image)``, or the clip itself.
    target : int or str, optional
        Index or name of a class; by default the network's own answer.
    patch, stride : int or pair, optional
        In input pixels, a number or (height, width); for sound (Hz, seconds), None standing for a
        whole extent. The grid starts at 0; the last patch is cut at the border. By default 32 and
        16 for an input of 224 pixels (see `default_patch`), and 0.5 s and 0.25 s for sound.
    fill : str, tuple or float, optional
        For pictures the mean colour of the picture (default, also ``"mean"``), ``"black"``,
        ``"white"``, ``"gray"``, ``"blur"``, ``"noise"`` or (red, green, blue) from 0 to 1. For
        sound ``"silence"`` (default), ``"mean"`` (noise with the clip's mean spectrum),
        ``"noise"`` (white, as loud as the clip) or a level of white noise in dB full scale.
    score : {"probability", "logit"}
        What is measured.
    engine : {"auto", "full"}
        ``"full"`` runs the whole network for every position, in batches of bounded memory.

    Returns
    -------
    Job
        Previews and result are `Occlusion`.

    Raises
    ------
    InputError
        If the input, a size, the fill or a setting cannot be used.
    ModelError
        If the model has no such class or cannot take the input.
    """
    if score not in ("probability", "logit"):
        raise InputError(f"The score is 'probability' or 'logit', not {score!r}.")
    if engine not in ("auto", "full"):
        raise InputError(f"The engine is 'auto' or 'full', not {engine!r}.")
    index = None if target is None else model.class_index(target)
    occluder = occluder_for(model, x, patch, stride, fill)
    return Job(_measure(model, occluder, index, score))


def _measure(
    model: Model, occluder: Occluder, target: int | None, score: ScoreKind
) -> Generator[Step[Occlusion], None, Occlusion]:
    grid = occluder.grid
    clean = occluder.clean()
    scores = model.score(clean, score)[0]
    index = int(scores.argmax()) if target is None else target
    baseline = float(scores[index])
    drop = np.zeros(grid.shape, np.float32)
    measured = np.zeros(grid.shape, np.bool_)

    def so_far() -> Occlusion:
        return Occlusion(
            grid.fill_gaps(drop, measured),
            measured.copy(),
            baseline,
            index,
            model.classes[index],
            score,
            grid,
            "full",
            occluder.fill,
        )

    order = grid.coarse_first()
    size = batch_size(model, clean.shape)
    done = 0
    while done < len(order):
        cells = order[done : done + size]
        try:
            occluded = model.score(occluder.covered(cells), score)[:, index]
        except torch.OutOfMemoryError:
            if size == 1:
                raise
            size //= 2
            continue
        rows, cols = np.array(cells).T
        drop[rows, cols] = (baseline - occluded.double()).float().cpu().numpy()
        measured[rows, cols] = True
        done += len(cells)
        yield Step(done, len(order), so_far())
    return so_far()


def batch_size(model: Model, shape: torch.Size | tuple[int, ...]) -> int:
    """How many inputs of a shape fit in a batch of bounded memory.

    A forward pass holds about the input and the output of the widest layer and a working copy.
    Small batches are quicker on a CPU, whose caches they fit.
    """
    kind = "cuda" if model.device.type == "cuda" else "cpu"
    values = max([int(np.prod(layer.output_shape)) for layer in model.layers], default=0)
    usual = int(np.prod(model.input_shape))
    scale = int(np.prod(shape[1:])) / usual if usual else 1.0
    bytes_each = 3 * 4 * max(values, 4 * usual) * max(1.0, scale)
    return int(max(1, min(_LARGEST_BATCH[kind], _BATCH_BYTES[kind] // bytes_each)))
