"""Kernels as sheets of tiles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.filters import Kernels
from cnnvis_core.render.sprites import Sprite, colour_tiles, sheet, signed_tiles

COLOUR = "Red, green and blue"


def kernel_sheet(kernels: Kernels, order: NDArray[np.int64], view: str, common: bool) -> Sprite:
    """All kernels in an order.

    Parameters
    ----------
    kernels : Kernels
        Of one layer.
    order : ndarray (out,)
        Which kernel comes where.
    view : str
        `COLOUR`, or ``"Input 7"`` for the slice of that number.
    common : bool
        Whether all share one scale.
    """
    weight, limits = kernels.weight.numpy()[order], kernels.limits(common)[order]
    if view == COLOUR:
        drawn = sheet(colour_tiles(weight, limits))
    else:
        drawn = sheet(signed_tiles(weight[:, int(view.split()[-1])], limits))
    return drawn.crossed(np.flatnonzero(kernels.dead[order]))


def slice_sheet(kernels: Kernels, unit: int, most: int | None = None) -> tuple[Sprite, list[str]]:
    """The slices of one kernel, on one scale, and what to say of each.

    Parameters
    ----------
    kernels : Kernels
        Of one layer.
    unit : int
        The kernel.
    most : int, optional
        Only so many, those of the largest norm, strongest first.
    """
    slices, reads = kernels.weight[unit].numpy(), kernels.reads(unit)
    shown = np.arange(len(slices))
    if most is not None and most < len(slices):
        shown = np.argsort(-np.linalg.norm(slices, axis=(1, 2)), kind="stable")[:most]
    limits = np.full(len(shown), kernels.limits(False)[unit])
    names = [f"Weights on input {reads[index]}" for index in shown]
    return sheet(signed_tiles(slices[shown], limits)), names


def colour_kernel(kernels: Kernels, unit: int) -> Sprite:
    """One kernel of a first layer in colour."""
    return sheet(
        colour_tiles(kernels.weight[[unit]].numpy(), kernels.limits(False)[[unit]]),
    )


def kernel_names(kernels: Kernels, order: Sequence[int] | NDArray[np.int64]) -> list[str]:
    """What to say of each kernel."""
    tuning = kernels.tuning
    names = []
    for unit in order:
        angle = tuning.orientation_deg[unit]
        stripes = "" if np.isnan(angle) else f", stripes at {angle:.0f}°"
        dead = ", dead" if kernels.dead[unit] else ""
        names.append(f"Unit {unit}: norm {kernels.norms[unit]:.3g}{stripes}{dead}")
    return names
