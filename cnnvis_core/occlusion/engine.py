"""Measuring the drop of a score at every position of the occluder."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.errors import InputError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.jobs import Job, Step
from cnnvis_core.models.model import Model, ScoreKind
from cnnvis_core.occlusion import survey as plans
from cnnvis_core.occlusion.choice import Engine, EngineChoice
from cnnvis_core.occlusion.grid import Box
from cnnvis_core.occlusion.occluder import Occluder
from cnnvis_core.occlusion.picture import PictureFill, picture_occluder
from cnnvis_core.occlusion.result import Occlusion
from cnnvis_core.occlusion.sound import Extent, SoundFill, sound_occluder
from cnnvis_core.occlusion.survey import Survey

Size = int | tuple[int, int] | Extent


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
    box: Box | None = None,
    adaptive: bool = False,
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
    engine : {"auto", "full", "incremental"}
        ``"full"`` runs the whole network for every position, in batches of bounded memory.
        ``"incremental"`` computes only what a patch changes, with the same answers but for
        rounding; where the network cannot be followed, the full engine steps in and the result's
        ``note`` says why. ``"auto"`` measures which of the two is quicker.
    box : (top, left, bottom, right), optional
        Measure only patches whose middle lies in it; in input pixels, for sound
        (low Hz, start s, high Hz, end s).
    adaptive : bool
        An approximation: positions between others that agree are estimated, not measured (see
        `survey.adaptive`). ``result.measured`` says which ones were measured.

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
    if engine not in ("auto", "full", "incremental"):
        raise InputError(f"The engine is 'auto', 'full' or 'incremental', not {engine!r}.")
    index = None if target is None else model.class_index(target)
    occluder = occluder_for(model, x, patch, stride, fill)
    inside = occluder.grid.inside(box)
    steps = occluder.grid.gapless_steps() if adaptive else None
    return Job(_measure(model, occluder, index, score, engine, inside, steps))


def _measure(
    model: Model,
    occluder: Occluder,
    target: int | None,
    score: ScoreKind,
    engine: Engine,
    inside: NDArray[np.bool_],
    steps: tuple[int, int] | None,
) -> Generator[Step[Occlusion], None, Occlusion]:
    clean = model.score(occluder.clean(), score)[0]
    index = int(clean.argmax()) if target is None else target
    baseline = float(clean[index])
    survey = Survey(occluder.grid, inside)
    choice = EngineChoice(model, occluder, engine)

    def so_far() -> Occlusion:
        return Occlusion(
            survey.filled(),
            survey.measured.copy(),
            survey.inside,
            baseline,
            index,
            model.classes[index],
            score,
            survey.grid,
            choice.used,
            choice.note,
            occluder.fill,
        )

    for cells in plans.exhaustive(survey) if steps is None else plans.adaptive(survey, steps):
        done = 0
        while done < len(cells):
            batch = cells[done : done + choice.size()]
            try:
                logits = choice.logits(batch)
            except torch.OutOfMemoryError:
                if not choice.shrink():
                    raise
                continue
            occluded = model.as_score(logits, score)[:, index]
            survey.note(batch, (baseline - occluded.double()).float().cpu().numpy())
            done += len(batch)
            yield Step(survey.settled, survey.total, so_far())
        if not cells:  # all that was left could be estimated
            yield Step(survey.settled, survey.total, so_far())
    return so_far()
