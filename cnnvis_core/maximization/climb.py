"""The steps of an ascent."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import torch

from cnnvis_core.maximization.board import Board
from cnnvis_core.maximization.objectives import Objective
from cnnvis_core.maximization.parameterisation import (
    Parameterisation,
    Pixels,
    Start,
    blurred,
    parameterise,
    total_variation,
)
from cnnvis_core.maximization.rescue import NAMES, through_all_relus, through_dead_relus
from cnnvis_core.maximization.settings import Settings
from cnnvis_core.maximization.transforms import View, look
from cnnvis_core.models.graph import UntraceableError, compute
from cnnvis_core.models.levels import Levels
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe
from cnnvis_core.models.replay import Computation


@dataclass(frozen=True, eq=False)
class Run:
    """What all pictures of a run have in common; see `maximize`."""

    model: Model
    objective: Objective
    settings: Settings
    shape: tuple[int, int, int]
    levels: Levels
    start: Start | torch.Tensor
    steps: int
    seed: int
    rectified: bool


@dataclass(frozen=True)
class Attempt:
    """How pictures are drawn when they came out blank before.

    Attributes
    ----------
    note : str
        What to say of them.
    seed : int
        Added to the run's.
    awake : bool
        Whether silent places are pushed up in the first half, whatever passes elsewhere.
    """

    note: str = ""
    seed: int = 0
    awake: bool = False


@dataclass(frozen=True, eq=False)
class Eye:
    """How the network looks at pictures.

    Attributes
    ----------
    probe : Probe
        What it makes of them.
    extent : tuple of int
        Height and width of what it is shown.
    pad : int
        Pixels that it sees around them.
    """

    probe: Probe
    extent: tuple[int, int]
    pad: int

    @property
    def bytes_kept(self) -> int:
        """Bytes that a gradient keeps a picture."""
        channels = self.probe.model.input_shape[0]
        return self.probe.bytes_kept((channels, *self.extent))


def eye_of(run: Run, pad: int) -> Eye:
    """The network's eye on padded pictures, or on what it takes if they are too large or small."""
    channels, height, width = run.shape
    extent = height + 2 * pad, width + 2 * pad
    try:
        run.model.recording((channels, *extent))
    except UntraceableError:
        if not _takes(run.model, (channels, *extent)):
            extent = run.model.input_shape[1], run.model.input_shape[2]
    layers = sorted(run.objective.layers)
    probe = Probe(run.model, layers, (channels, *extent), run.rectified, folded=True)
    return Eye(probe, extent, pad)


def _takes(model: Model, shape: tuple[int, ...]) -> bool:
    try:
        with torch.inference_mode():
            model.module(torch.zeros(1, *shape, device=model.device))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # a network of one's own may raise anything
        return False
    return True


def climb(
    run: Run, board: Board, shaken: Eye, plain: Eye, numbers: Sequence[int], attempt: Attempt
) -> Generator[None, None, None]:
    """Draw some pictures, step by step.

    Parameters
    ----------
    run : Run
        What is drawn, and how.
    board : Board
        Where it is noted.
    shaken, plain : Eye
        By which the pictures are changed, and by which they are judged.
    numbers : sequence of int
        Which pictures.
    attempt : Attempt
        What is done otherwise than usual.
    """
    settings, objective = run.settings, run.objective
    seed, apart = run.seed + attempt.seed, objective.together
    canvas = parameterise(
        settings.parameterisation,
        run.shape,
        [seed + number if apart else seed for number in numbers],
        run.model.device,
        settings.decorrelate,
        settings.decay,
        settings.norm,
        run.start,
        apart,
    )
    generator = torch.Generator().manual_seed(seed)
    pictures = torch.tensor(numbers)
    beyond = torch.tensor(run.levels.empty, device=run.model.device)
    empty = beyond if settings.transforms.border == "empty" else None
    adam = torch.optim.Adam(canvas.parameters, lr=settings.rate)
    probes = {
        eye: eye.probe if objective.reads is None else eye.probe.of_units(objective.reads(numbers))
        for eye in (shaken, plain)
    }

    def seen(
        eye: Eye, images: torch.Tensor, view: View, computation: Computation = compute
    ) -> dict[str, torch.Tensor]:
        shown = look(images, view, eye.extent, eye.pad, empty)
        return probes[eye].maps(run.levels.to_input(shown), computation)

    waking = bool(shaken.probe.operations & NAMES)
    stuck: set[int] = set()  # pictures that had no gradient at some step

    def computation(number: int) -> Computation:
        if not waking:
            return compute
        if attempt.awake and number < run.steps // 2:
            return through_all_relus
        return through_dead_relus if stuck else compute

    def judge() -> None:
        with torch.inference_mode(False), torch.no_grad():
            images = canvas.images()
            maps = seen(plain, images, View())
            shown = None if objective.map_of is None else objective.map_of(maps, pictures)
            board.note(numbers, images, objective.score(maps, pictures), shown)

    def step(number: int) -> None:
        with torch.inference_mode(False), torch.enable_grad():
            images = canvas.images()
            maps = seen(shaken, images, settings.transforms.draw(generator), computation(number))
            score = objective.score(maps, pictures)
            loss = score.sum() if board.minimized else -score.sum()
            if objective.penalty is not None:
                loss = loss - objective.penalty(maps, pictures).sum()
            if settings.total_variation:
                loss = loss + settings.total_variation * total_variation(images).sum()
            if settings.l2:
                loss = loss + settings.l2 * (images - 0.5).flatten(1).square().mean(1).sum()
            gradients = torch.autograd.grad(loss, canvas.parameters)
        moving = torch.stack([part.flatten(1).abs().amax(1) for part in gradients]).amax(0)
        still = torch.nonzero(moving == 0).flatten().tolist()
        stuck.update(numbers[place] for place in still)
        share = pace(number, run.steps) if settings.anneal else 1.0
        _move(canvas, gradients, adam, settings, share)
        if settings.blur and isinstance(canvas, Pixels) and not number % settings.blur_every:
            with torch.no_grad():
                canvas.values.copy_(blurred(canvas.values, settings.blur))
        canvas.constrain()
        board.record(numbers, number, images.detach(), score.detach())

    judge()
    # Behind a ReLU most units are silent at first, as a rule and not by misfortune.
    if waking and not run.rectified:
        board.woken = stuck
    for number in range(run.steps):
        step(number)
        if number == run.steps - 1:
            judge()
        yield


@torch.no_grad()
def _move(
    canvas: Parameterisation,
    gradients: Sequence[torch.Tensor],
    adam: torch.optim.Adam,
    settings: Settings,
    share: float,
) -> None:
    """One step of the optimiser, at a share of its rate."""
    if settings.optimizer == "adam":
        adam.param_groups[0]["lr"] = settings.rate * share
        for parameter, gradient in zip(canvas.parameters, gradients, strict=True):
            parameter.grad = gradient
        adam.step()
        adam.zero_grad()
        return
    for parameter, gradient in zip(canvas.parameters, gradients, strict=True):
        length = gradient.flatten(1).norm(dim=1).clamp_min(1e-12)
        parameter.sub_(
            settings.rate * share * gradient / length.view(-1, *[1] * (gradient.ndim - 1))
        )


def pace(number: int, steps: int) -> float:
    """Share of the full step: 1 in the first half, then along a cosine to nothing."""
    half = steps / 2
    return 1.0 if number < half else 0.5 * (1 + math.cos(math.pi * (number - half) / half))
