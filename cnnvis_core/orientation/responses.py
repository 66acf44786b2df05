"""Showing stimuli to a network, and what each unit answers."""

from __future__ import annotations

from collections.abc import Collection, Generator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.errors import InputError
from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Compared, Probe, has_activation

BATCH_BYTES = 320 * 2**20
MOST_AT_ONCE = 64

Place = Literal["middle", "mean"]
PLACES: tuple[Place, ...] = ("middle", "mean")
CONTROL_UNITS = 39  # so that just the second strongest of them stands for 5 %

Cell = tuple[int, int, int]


class Stimuli(Protocol):
    """Sinusoids of two parameters, such as orientation and frequency, each in several phases."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """Values of the first parameter, values of the second, phases a cycle."""

    def inputs(self, cells: Sequence[Cell]) -> torch.Tensor:
        """What the network takes (N, C, H, W), by the indices of first, second and phase."""

    def blank(self) -> torch.Tensor:
        """The stimulus (1, C, H, W) without any contrast."""


@dataclass(frozen=True, eq=False)
class Harmonics:
    """Responses parted by how they follow the phase.

    Attributes
    ----------
    f0 : ndarray (units, first, second)
        Mean over the phases, in the network's own unit.
    f1 : ndarray of complex (units, first, second)
        First harmonic ``2 / P sum R e^(-i phase)``; its size is the amplitude.
    blank : ndarray (units,)
        Response to no contrast.
    """

    f0: NDArray[np.float32]
    f1: NDArray[np.complex64]
    blank: NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Responses:
    """What the units of a layer answer: in the middle of each map, and as the mean of it."""

    middle: Harmonics
    mean: Harmonics


@dataclass(frozen=True, eq=False)
class Heard:
    """What was heard so far.

    Attributes
    ----------
    done : int
        Stimuli that were shown.
    units, drive, control : dict
        Layer -> `Responses`, of the layers' units, and before the non-linearity of these and of
        control units; the same objects at every time, zero where nothing was shown.
    """

    done: int
    units: dict[str, Responses]
    drive: dict[str, Responses]
    control: dict[str, Responses]


def listener(
    model: Model,
    layer: str | Sequence[str],
    place: Place,
    rectified: bool,
    control: bool,
    seed: int,
) -> Probe:
    """A probe of some layers, behind their non-linearities if asked for, with control units.

    Raises
    ------
    InputError
        If no layer is named, or the place is another one.
    ModelError
        If there is no such layer.
    """
    names = [layer] if isinstance(layer, str) else list(layer)
    if not names:
        raise InputError("Name at least one layer.")
    if place not in PLACES:
        raise InputError(f"The place is 'middle' or 'mean', not {place!r}.")
    for name in names:
        model.layer(name)
    behind = {name for name in names if rectified and has_activation(model, name)}
    shape = tuple(model.input_shape)
    return Probe(model, names, shape, behind, True, (CONTROL_UNITS, seed) if control else None)


def rounds(count: int, fewest: int = 4) -> list[list[int]]:
    """Indices 0 to count - 1 in rounds after each of which those so far are equally spaced.

    The first round has at least ``fewest`` of them.
    """
    step, steps = 1, [1]
    while True:
        factors = (3, 2, *range(5, count + 1))
        factor = next((f for f in factors if count % (step * f) == 0), None)
        if factor is None or count // (step * factor) < fewest:
            break
        step *= factor
        steps.append(step)
    found: list[list[int]] = []
    for step in reversed(steps):
        seen = {index for earlier in found for index in earlier}
        found.append([index for index in range(0, count, step) if index not in seen])
    return found


def show(
    model: Model, probe: Probe, stimuli: Stimuli, order: Sequence[int], controlled: Collection[int]
) -> Generator[Heard, None, None]:
    """Show stimuli in batches, and yield after each what was heard so far.

    Parameters
    ----------
    model : Model
        Not changed.
    probe : Probe
        What listens.
    stimuli : Stimuli
        What is shown, in all phases.
    order : sequence of int
        Values of the first parameter, by index, in the order in which they are shown.
    controlled : collection of int
        Those at which the control units are listened to as well.
    """
    first, second, phases = stimuli.shape
    cells = [(a, b, p) for a in order for b in range(second) for p in range(phases)]
    blank = stimuli.blank().to(model.device)
    with torch.inference_mode():
        gray = probe.compared(blank)
    kinds = tuple(
        {name: _silent(maps, (first, second)) for name, maps in part.items()}
        for part in (gray.maps, gray.drive, gray.control)
    )
    # Values are kept for no gradient, so that half of what is counted will do.
    kept = probe.bytes_kept(tuple(blank.shape[1:])) // 2
    at_once = max(1, min(MOST_AT_ONCE, BATCH_BYTES // max(kept, 1)))
    for start in range(0, len(cells), at_once):
        batch = cells[start : start + at_once]
        with torch.inference_mode():
            x = stimuli.inputs(batch).to(model.device)
            with_control = any(a in controlled for a, _, _ in batch)
            found = probe.compared(x) if with_control else Compared(probe.maps(x), {}, {})
            share, where = _shares(batch, phases)
            share = share.to(model.device)
            for kind, maps in zip(kinds, (found.maps, found.drive, found.control), strict=True):
                for name, values in maps.items():
                    _add(kind[name], values, share, where)
        yield Heard(start + len(batch), *kinds)


def _middle(maps: torch.Tensor) -> torch.Tensor:
    return maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]


def _silent(blank: torch.Tensor, kinds: tuple[int, int]) -> Responses:
    shape = (blank.shape[1], *kinds)
    return Responses(
        *(
            Harmonics(np.zeros(shape, np.float32), np.zeros(shape, np.complex64), gray)
            for gray in (_middle(blank)[0].cpu().numpy(), blank.mean((2, 3))[0].cpu().numpy())
        )
    )


def _shares(
    batch: Sequence[Cell], phases: int
) -> tuple[torch.Tensor, tuple[NDArray[np.intp], ...]]:
    """What each stimulus adds (3, N, cells) to mean and first harmonic of which cells."""
    pairs = list(dict.fromkeys((first, second) for first, second, _ in batch))
    column = {pair: place for place, pair in enumerate(pairs)}
    shares = torch.zeros(3, len(batch), len(pairs))
    for row, (first, second, phase) in enumerate(batch):
        turn = 2 * np.pi * phase / phases
        parts = torch.tensor([0.5, np.cos(turn), -np.sin(turn)]) * (2 / phases)
        shares[:, row, column[first, second]] = parts
    return shares, tuple(np.array(pairs).T)


def _add(
    responses: Responses,
    maps: torch.Tensor,
    shares: torch.Tensor,
    where: tuple[NDArray[np.intp], ...],
) -> None:
    """Add what a batch contributes to mean and first harmonic."""
    both = torch.stack([_middle(maps), maps.mean((2, 3))])
    found = (both.mT[:, None] @ shares).cpu().numpy()
    first, second = where
    for part, (mean, even, odd) in zip((responses.middle, responses.mean), found, strict=True):
        part.f0[:, first, second] += mean
        part.f1[:, first, second] += even + 1j * odd
