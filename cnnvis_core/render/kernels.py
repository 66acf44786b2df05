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
        return sheet(colour_tiles(weight, limits))
    return sheet(signed_tiles(weight[:, int(view.split()[-1])], limits))


def slice_sheet(kernels: Kernels, unit: int) -> Sprite:
    """All slices of one kernel, on one scale."""
    slices = kernels.weight[unit].numpy()
    return sheet(signed_tiles(slices, np.full(len(slices), kernels.limits(False)[unit])))


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
