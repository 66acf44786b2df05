"""Showing gratings to a network, and what each unit answers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.models.model import Model
from cnnvis_core.models.probe import Probe
from cnnvis_core.orientation.gratings import Colour, Gratings

BATCH_BYTES = 128 * 2**20
MOST_AT_ONCE = 64


@dataclass(frozen=True, eq=False)
class Responses:
    """What the units of a layer answer to gratings.

    Attributes
    ----------
    middle, mean : ndarray (units, orientations, frequencies, phases)
        In the middle of each unit's map, and the mean of the map; NaN for what was not shown yet.
    blank_middle, blank_mean : ndarray (units,)
        The same for even gray.
    """

    middle: NDArray[np.float32]
    mean: NDArray[np.float32]
    blank_middle: NDArray[np.float32]
    blank_mean: NDArray[np.float32]


def coarse_to_fine(count: int) -> list[int]:
    """Indices 0 to count - 1 in such an order that any first few are spread over all."""
    order: dict[int, None] = {}
    step = 1 << max(count - 1, 1).bit_length()
    while step >= 1:
        order.update(dict.fromkeys(range(0, count, step)))
        step //= 2
    return list(order)


def show(
    model: Model,
    probes: Sequence[Probe],
    gratings: Gratings,
    extent: tuple[int, int],
    colour: Colour = "luminance",
) -> Generator[tuple[int, list[dict[str, Responses]]], None, None]:
    """Show gratings in batches; after each, yield how many were shown and all responses so far.

    Parameters
    ----------
    model : Model
        Not changed.
    probes : sequence of Probe
        What listens; each picture is drawn once for all.
    gratings : Gratings
        What is shown.
    extent : tuple of int
        Height and width of the pictures.
    colour : {"luminance", "red-green", "blue-yellow"}
        Of the stripes.

    Yields
    ------
    tuple
        The number of gratings, and for each probe layer -> `Responses`, the same at every time.
    """
    channels = model.input_shape[0]
    normalise = model.frontend.normalise  # type: ignore[attr-defined]

    def listen(probe: Probe, x: torch.Tensor) -> dict[str, tuple[NDArray[np.float32], ...]]:
        found: dict[str, tuple[NDArray[np.float32], ...]] = {}
        for name, maps in probe.maps(x).items():
            middle = maps[:, :, maps.shape[2] // 2, maps.shape[3] // 2]
            found[name] = middle.cpu().numpy(), maps.mean((2, 3)).cpu().numpy()
        return found

    kinds = (len(gratings.orientations_deg), len(gratings.frequencies), gratings.phases)
    everything: list[dict[str, Responses]] = []
    with torch.inference_mode():
        gray = normalise(torch.full((1, channels, *extent), 0.5)).to(model.device)
        for probe in probes:
            everything.append(
                {
                    name: Responses(
                        np.full((middle.shape[1], *kinds), np.nan, np.float32),
                        np.full((middle.shape[1], *kinds), np.nan, np.float32),
                        middle[0],
                        mean[0],
                    )
                    for name, (middle, mean) in listen(probe, gray).items()
                }
            )
    # Values are kept for no gradient, so that half of what is counted will do.
    kept = max(probe.bytes_kept((channels, *extent)) for probe in probes) // 2
    at_once = max(1, min(MOST_AT_ONCE, BATCH_BYTES // max(kept, 1)))
    order = coarse_to_fine(kinds[0])
    cells = [(o, f, p) for o in order for f in range(kinds[1]) for p in range(kinds[2])]
    for first in range(0, len(cells), at_once):
        batch = cells[first : first + at_once]
        where = tuple(np.array(batch).T)
        with torch.inference_mode():
            x = normalise(gratings.draw(extent, channels, batch, colour)).to(model.device)
            for probe, found in zip(probes, everything, strict=True):
                for name, (middle, mean) in listen(probe, x).items():
                    found[name].middle[:, where[0], where[1], where[2]] = middle.T
                    found[name].mean[:, where[0], where[1], where[2]] = mean.T
        yield first + len(batch), everything
