"""Climbing an objective: the steps, the pictures on the way, and the rescue of blank ones."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from torch.nn import functional as F

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.jobs import Job, Step
from cnnvis_core.maximization import objectives
from cnnvis_core.maximization.board import Board
from cnnvis_core.maximization.levels import Levels, levels_of
from cnnvis_core.maximization.objectives import Objective
from cnnvis_core.maximization.parameterisation import (
    Pixels,
    Start,
    blurred,
    parameterise,
    total_variation,
)
from cnnvis_core.maximization.rescue import through_all_relus, through_dead_relus
from cnnvis_core.maximization.result import Maximization
from cnnvis_core.maximization.settings import LARGEST, MOST_STEPS, SMALLEST, Settings
from cnnvis_core.maximization.transforms import Transforms, View, look
from cnnvis_core.models.graph import UntraceableError, compute
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import ANSWER, Probe, has_activation
from cnnvis_core.models.replay import Computation

BATCH_BYTES = 256 * 2**20  # of the values that are kept for a gradient
MOST_AT_ONCE = 16  # pictures; a step must stay short
SEED_APART = 7919  # between the seeds of attempts
NOTES = (
    "",
    "rescued: the gradient was let through dead ReLUs",
    "rescued: from another seed, with the gradient let through dead ReLUs",
)


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
        Where to begin; a tensor as `Model.preprocess` makes it.
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
    for name, value, low, high in (
        ("steps", steps, 1, MOST_STEPS),
        ("size", size, SMALLEST, LARGEST),
        ("seed", seed, 0, 2**31),
    ):
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InputError(f"{name} must be a whole number from {low:,} to {high:,}.")
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
    board = Board(objective, shape, steps, settings.frame_every, minimize)
    ascent = _Ascent(model, objective, settings, shape, levels, start, steps, seed, rectified)
    return Job(_draw(ascent, board))


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


@dataclass(frozen=True, eq=False)
class _Ascent:
    """What all pictures of a run have in common."""

    model: Model
    objective: Objective
    settings: Settings
    shape: tuple[int, int, int]
    levels: Levels
    start: Start | torch.Tensor
    steps: int
    seed: int
    rectified: bool

    def extent(self) -> tuple[int, int]:
        """Height and width of what the network is shown: the padded picture, if it takes it."""
        margin = 2 * self.settings.transforms.pad
        extent = self.shape[1] + margin, self.shape[2] + margin
        try:
            self.model.recording((self.shape[0], *extent))
        except UntraceableError:
            own = self.model.input_shape[1], self.model.input_shape[2]
            return extent if self._takes(extent) else own
        return extent

    def _takes(self, extent: tuple[int, int]) -> bool:
        try:
            with torch.inference_mode():
                self.model.module(torch.zeros(1, self.shape[0], *extent, device=self.model.device))
        except (RuntimeError, ValueError, TypeError, IndexError):
            return False
        return True


def _draw(ascent: _Ascent, board: Board) -> Generator[Step[Maximization], None, Maximization]:
    extent = ascent.extent()
    shape = (ascent.shape[0], *extent)
    layers = sorted(ascent.objective.layers)
    probe = Probe(ascent.model, layers, shape, ascent.rectified, folded=True)
    at_once = MOST_AT_ONCE
    if not ascent.objective.together:
        at_once = max(1, min(MOST_AT_ONCE, BATCH_BYTES // max(probe.bytes_kept(shape), 1)))
    count = len(ascent.objective)
    done, total = 0, count * ascent.steps
    if ascent.objective.together:
        at_once = count
    for first in range(0, count, at_once):
        numbers = list(range(first, min(first + at_once, count)))
        for attempt, note in enumerate(NOTES):
            for _ in _climb(ascent, board, probe, extent, numbers, attempt):
                done += len(numbers)
                yield Step(done, total, board.snapshot())
            blank = board.judge(numbers, note)
            if not blank or ascent.objective.together:
                break
            numbers = blank
            if attempt + 1 < len(NOTES):
                total += len(numbers) * ascent.steps
        board.finish(range(first, min(first + at_once, count)))
    return board.snapshot()


def _climb(
    ascent: _Ascent,
    board: Board,
    probe: Probe,
    extent: tuple[int, int],
    numbers: Sequence[int],
    attempt: int,
) -> Generator[None, None, None]:
    """Draw some pictures, step by step."""
    settings, objective, device = ascent.settings, ascent.objective, ascent.model.device
    seed = ascent.seed + (SEED_APART if attempt == 2 else 0)
    seeds = [seed + number for number in numbers] if objective.together else [seed] * len(numbers)
    canvas = parameterise(
        settings.parameterisation, ascent.shape, seeds, device, settings.decorrelate,
        settings.decay, settings.norm, ascent.start,
    )  # fmt: skip
    if objective.reads is not None:
        probe = probe.of_units(objective.reads(numbers))
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.tensor(numbers)
    sign = -1.0 if board.minimized else 1.0
    beyond = torch.tensor(ascent.levels.empty, device=device)
    empty = beyond if settings.transforms.border == "empty" else None
    adam = torch.optim.Adam(canvas.parameters, lr=settings.rate)

    def scores(
        images: torch.Tensor, view: View, computation: Computation = compute
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        seen = look(images, view, extent, settings.transforms.pad, empty)
        maps = probe.maps(ascent.levels.to_input(seen), computation)
        shown = None if objective.map_of is None else objective.map_of(maps, pictures)
        return objective.score(maps, pictures), shown

    def computation(number: int) -> Computation:
        if not probe.followed or not (attempt or ascent.rectified):
            return compute
        # Behind a ReLU most units are silent at first, as a rule and not by misfortune.
        rescue = attempt and number < ascent.steps // 2
        return through_all_relus if rescue else through_dead_relus

    def judged() -> None:
        with torch.inference_mode(False), torch.no_grad():
            images = canvas.images()
            board.note(numbers, images, *scores(images, View()))

    def step(number: int) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            images = canvas.images()
            score, _ = scores(images, settings.transforms.draw(generator), computation(number))
            loss = -sign * score.sum()
            if settings.total_variation:
                loss = loss + settings.total_variation * total_variation(images).sum()
            if settings.l2:
                loss = loss + settings.l2 * (images - 0.5).flatten(1).square().mean(1).sum()
            gradients = torch.autograd.grad(loss, canvas.parameters)
        with torch.no_grad():
            share = _pace(number, ascent.steps) if settings.anneal else 1.0
            if settings.optimizer == "adam":
                adam.param_groups[0]["lr"] = settings.rate * share
                for parameter, gradient in zip(canvas.parameters, gradients, strict=True):
                    parameter.grad = gradient
                adam.step()
                adam.zero_grad()
            else:
                for parameter, gradient in zip(canvas.parameters, gradients, strict=True):
                    length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
                    ways = length.view(-1, *[1] * (gradient.ndim - 1))
                    parameter.sub_(settings.rate * share * gradient / ways)
            if settings.blur and isinstance(canvas, Pixels) and not number % settings.blur_every:
                canvas.values.copy_(blurred(canvas.values, settings.blur))
            canvas.constrain()
        board.record(numbers, number, images.detach(), score.detach())

    judged()
    for number in range(ascent.steps):
        step(number)
        if number == ascent.steps - 1:
            judged()
        yield


def _pace(number: int, steps: int) -> float:
    """Share of the full step: 1 in the first half, then along a cosine to nothing."""
    half = steps / 2
    return 1.0 if number < half else 0.5 * (1 + math.cos(math.pi * (number - half) / half))
