"""Drawing what drives units: what may be asked for, batches, and the rescue of blank pictures."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import replace

import torch
from torch.nn import functional as F

from cnnvis_core.checks import whole_number
from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.maximization import objectives
from cnnvis_core.maximization.board import Board
from cnnvis_core.maximization.climb import Attempt, Run, climb, eye_of
from cnnvis_core.maximization.objectives import Objective
from cnnvis_core.maximization.parameterisation import Start
from cnnvis_core.maximization.rescue import NAMES
from cnnvis_core.maximization.result import LEAST_CONTRAST, Maximization
from cnnvis_core.maximization.settings import LARGEST, MOST_STEPS, SMALLEST, Settings
from cnnvis_core.maximization.transforms import Transforms
from cnnvis_core.models.levels import Levels, levels_of
from cnnvis_core.models.memory import forget_spare
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import ANSWER, has_activation

BATCH_BYTES = 256 * 2**20  # of the values that are kept for a gradient
MOST_AT_ONCE = 16  # pictures; a step must stay short
MOST_TOGETHER = 4 * BATCH_BYTES  # of pictures that must share a batch
SEED_APART = 7919  # between the seeds of attempts
PUSHED = "rescued: all silent places were pushed up at first"
OTHER_SEED = "rescued: from another seed"


def maximize(
    model: Model,
    layer: str | None = None,
    channels: int | Sequence[int] | None = None,
    steps: int = 256,
    size: int = 128,
    seed: int = 0,
    *,
    objective: Objective | None = None,
    settings: Settings | None = None,
    start: Start | torch.Tensor = "noise",
    minimize: bool = False,
    rectified: bool = False,
) -> Job[Maximization, Maximization]:
    """Draw the inputs that drive units most, by gradient ascent.

    After Erhan et al. (2009), with the parameterisation and the transforms of Olah, Mordvintsev and
    Schubert (2017) by default. The network is run up to the layer and no further, no weight takes a
    gradient, and pictures share batches. A picture that comes out blank is drawn again, see
    `Maximization.notes`.

    Parameters
    ----------
    model : Model
        Left as it was found.
    layer : str, optional
        The layer of the units; needed without ``objective``.
    channels : int or sequence of int, optional
        The units, a picture each; by default all of the layer.
    steps : int
        1 to 10,000.
    size : int
        Pixels a side, 8 to 1024; a network for sound has a size of its own.
    seed : int
        Of the first noise and of the transforms; the same seed gives the same pictures.
    objective : Objective, optional
        What to climb instead of the units' means, see `objectives`.
    settings : Settings, optional
        How; of sounds only shifts are drawn at random, along time and by at most one band.
    start : {"noise", "gray"} or Tensor (1, C, H, W)
        Where to begin; a tensor as `Model.preprocess` makes it. MaCo keeps its own magnitudes and
        takes the phases of a picture.
    minimize : bool
        Draw what drives the score down instead.
    rectified : bool
        Mean the activations behind the non-linearity that follows each layer, as `feature_maps`
        does, and not the layers' own: what lies below zero then counts for nothing.

    Returns
    -------
    Job
        Its previews and its result are `Maximization`; previews share their memory with the run.

    Raises
    ------
    InputError
        If a value cannot be used.
    ModelError
        If there is no such layer or unit.
    """
    steps = whole_number("steps", steps, 1, MOST_STEPS)
    size = whole_number("size", size, SMALLEST, LARGEST)
    seed = whole_number("seed", seed, 0, 2**31)
    if objective is None:
        if layer is None:
            raise InputError("Name a layer, or give an objective.")
        objective = objectives.units(model, layer, channels)
    for name in objective.layers - {ANSWER}:
        model.layer(name)
        if rectified and not has_activation(model, name):
            raise ModelError(f"No non-linearity follows {name} directly; leave out rectified.")
    settings = settings or Settings()
    if model.modality == "audio":
        settings = replace(settings, transforms=_sound(settings.transforms))
    shape = _shape(model, size)
    levels = levels_of(model)
    if isinstance(start, torch.Tensor):
        start = _first(start, shape, levels)
    elif start not in ("noise", "gray"):
        raise InputError(f"The start is 'noise', 'gray' or an input, not {start!r}.")
    least = LEAST_CONTRAST
    if settings.norm is not None:  # a small limit over many pixels is no flat picture
        least = min(least, settings.norm / (4 * math.sqrt(math.prod(shape))))
    board = Board(objective, shape, steps, settings.frame_every, minimize, least)
    run = Run(model, objective, settings, shape, levels, start, steps, seed, rectified)
    return Job(_draw(run, board))


def _sound(transforms: Transforms) -> Transforms:
    return Transforms(transforms.jitter, 0.0, 0.0, 0, "empty", min(1, transforms.jitter))


def _shape(model: Model, size: int) -> tuple[int, int, int]:
    """(C, H, W) of a picture."""
    channels, height, width = model.input_shape
    return (channels, height, width) if model.modality == "audio" else (channels, size, size)


def _first(x: torch.Tensor, shape: tuple[int, int, int], levels: Levels) -> torch.Tensor:
    """A network's input as the first picture (C, H, W)."""
    if x.ndim != 4 or len(x) != 1 or x.shape[1] != shape[0] or not bool(x.isfinite().all()):
        raise InputError(
            f"The start is one input (1, {shape[0]}, H, W) of finite numbers, not {tuple(x.shape)}."
        )
    picture = levels.from_input(x.detach().float().to(levels.low.device))
    return F.interpolate(picture, shape[1:], mode="bilinear", antialias=True)[0]


def _draw(run: Run, board: Board) -> Generator[Step[Maximization], None, Maximization]:
    # A place of the picture is a place of its map only where nothing is seen around it.
    shaken = eye_of(run, 0 if run.objective.placed else run.settings.transforms.pad)
    plain = shaken if not shaken.pad else eye_of(run, 0)
    count, together = len(run.objective), run.objective.together
    at_once = _at_once(shaken.bytes_kept, count, together)
    done, total = 0, count * run.steps
    first = 0
    while first < count:
        batch = range(first, min(first + at_once, count))
        numbers = list(batch)
        attempts = _attempts(bool(shaken.probe.operations & NAMES))
        before = done, total
        try:
            for place, attempt in enumerate(attempts):
                for _ in climb(run, board, shaken, plain, numbers, attempt):
                    done += len(numbers)
                    yield Step(done, total, board.snapshot())
                blank = board.judge(numbers, attempt.note)
                if not blank:
                    break
                # Pictures that are scored against each other are drawn again together.
                numbers = numbers if together else blank
                if place + 1 < len(attempts):
                    total += len(numbers) * run.steps
        except torch.OutOfMemoryError:
            if together or len(batch) < 2:
                raise
            at_once, (done, total) = len(batch) // 2, before
            board.forget(batch)
            forget_spare(run.model.device)
            continue
        board.finish(batch)
        first = batch.stop
    return board.snapshot()


def _at_once(each: int, count: int, together: bool) -> int:
    """Pictures a batch, of so many bytes each."""
    if not together:
        return max(1, min(MOST_AT_ONCE, BATCH_BYTES // max(each, 1)))
    if each * count > MOST_TOGETHER:
        raise InputError(
            f"{count} pictures that depend on each other do not fit into memory at once; draw "
            "fewer or smaller ones."
        )
    return count


def _attempts(waking: bool) -> list[Attempt]:
    """The first attempt, and what follows where it came to nothing."""
    if not waking:
        return [Attempt(), Attempt(OTHER_SEED, SEED_APART)]
    return [Attempt(), Attempt(PUSHED, 0, True), Attempt(OTHER_SEED, SEED_APART)]
