"""How a picture is drawn, and settings that repeat what others did."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from cnnvis_core.errors import InputError
from cnnvis_core.maximization.parameterisation import KINDS, Kind
from cnnvis_core.maximization.transforms import Transforms

Optimizer = Literal["adam", "gradient"]
MOST_STEPS = 10_000
SMALLEST, LARGEST = 8, 1024  # pixels a side
MOST_FRAMES = 256


@dataclass(frozen=True)
class Settings:
    """How the ascent goes.

    Attributes
    ----------
    parameterisation : {"fourier", "pixels", "maco"}
        What is changed: a spectrum, pixels, or the phases of a spectrum of natural magnitudes.
    decorrelate : bool
        Mix red, green and blue as natural pictures do; not for pixels.
    decay : float
        Of the Fourier parameterisation: power by which high frequencies move less.
    optimizer : {"adam", "gradient"}
        Adam, or steps along the gradient at its own length of 1.
    rate : float
        Size of a step.
    anneal : bool
        Let the steps shrink to nothing along half a cosine over the last half of the ascent.
    total_variation, l2 : float
        Weight of the penalty on differences between neighbours, and on distance from middle gray
        (mean square).
    blur : float
        Of pixels: standard deviation of the Gaussian that smooths them every ``blur_every`` steps,
        in pixels; 0 for none.
    blur_every : int
        Steps between blurs.
    norm : float or None
        Of pixels: largest Euclidean distance of the whole picture from middle gray.
    transforms : Transforms
        How each look is shaken.
    frame_every : int
        Keep a picture of the ascent every so many steps; 0 for none.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    parameterisation: Kind = "fourier"
    decorrelate: bool = True
    decay: float = 1.0
    optimizer: Optimizer = "adam"
    rate: float = 0.05
    anneal: bool = True
    total_variation: float = 0.0
    l2: float = 0.0
    blur: float = 0.0
    blur_every: int = 4
    norm: float | None = None
    transforms: Transforms = field(default_factory=Transforms)
    frame_every: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be computed."""
        if self.parameterisation not in KINDS:
            raise InputError(
                f"There is no parameterisation {self.parameterisation!r}; "
                f"use one of {', '.join(KINDS)}."
            )
        if self.optimizer not in ("adam", "gradient"):
            raise InputError(f"The optimizer is 'adam' or 'gradient', not {self.optimizer!r}.")
        numbers = (self.rate, self.decay, self.total_variation, self.l2, self.blur, self.norm or 1)
        if not all(math.isfinite(number) for number in numbers):
            raise InputError("All settings must be finite numbers.")
        if not 0 < self.rate <= 100 or not 0 <= self.decay <= 4:
            raise InputError("The rate lies above 0 and up to 100, the decay in 0 to 4.")
        if min(self.total_variation, self.l2, self.blur) < 0 or self.blur > 32:
            raise InputError("Penalties and the blur are 0 or more, the blur at most 32 pixels.")
        if self.blur_every < 1 or self.frame_every < 0:
            raise InputError("blur_every is 1 or more, frame_every 0 or more steps.")
        if self.norm is not None and not self.norm > 0:
            raise InputError("The largest norm must be above 0.")


@dataclass(frozen=True)
class Preset:
    """Settings under a name.

    Attributes
    ----------
    settings : Settings
        How the ascent goes.
    steps : int
        How long it is.
    source : str
        What is repeated.
    place : bool
        Whether the middle of the map is meant and not its mean.
    """

    settings: Settings
    steps: int
    source: str
    place: bool = False


STILL = Transforms(0, 0.0, 0.0, 0)
PRESETS: Mapping[str, Preset] = {
    "Lucid": Preset(
        Settings(), 128, "C. Olah, A. Mordvintsev and L. Schubert, Feature visualization, 2017"
    ),
    "MaCo": Preset(
        Settings("maco", rate=0.2, transforms=Transforms(8, 0.2, 10.0, 0)),
        256,
        "T. Fel et al., Magnitude constrained optimization, 2023 (here with 1/f magnitudes)",
    ),
    "Erhan 2009": Preset(
        Settings("pixels", optimizer="gradient", rate=0.5, norm=12.0, transforms=STILL),
        256,
        "D. Erhan et al., Visualizing higher-layer features of a deep network, 2009: "
        "pixels under a norm limit",
    ),
    "Pixels, regularised": Preset(
        Settings(
            "pixels", rate=0.02, total_variation=2.0, l2=0.5, blur=0.6, blur_every=8,
            transforms=Transforms(4, 0.05, 5.0, 0),
        ),
        256,
        "J. Yosinski et al., 2015 (blur), and A. Mahendran and A. Vedaldi, 2015 (total variation)",
    ),
    "NeuroVis, full": Preset(
        Settings("pixels", rate=0.1, anneal=False, transforms=STILL),
        50,
        "NeuroVis: bare pixels, the mean of a map (Adam 0.1 and 50 steps as in J. Bellucci's "
        "cnn-visualizations-pytorch)",
    ),
    "NeuroVis, pixel": Preset(
        Settings("pixels", rate=0.1, anneal=False, transforms=STILL),
        50,
        "NeuroVis: bare pixels, one place of a map (Adam 0.1 and 50 steps likewise)",
        place=True,
    ),
}  # fmt: skip
