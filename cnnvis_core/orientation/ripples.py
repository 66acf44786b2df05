"""Moving ripples, the gratings of hearing: spectrograms that swell and fade everywhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.inputs import Clip
from cnnvis_core.models.levels import sound_levels
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import Model

OCTAVE = 0.5  # between neighbouring rates, and scales
HIGHEST = 0.4  # cycles a frame, or a band of the middle
NYQUIST = 0.5  # cycles a band; the limit of a raster
FEWEST_BANDS = 4
LOWEST_SCALE = 0.25  # cycles an octave, as in Chi, Ru and Shamma 2005
FEWEST_CYCLES = 1.0  # of the slowest rate in a clip
MOST_SECONDS = 2.0  # that count for the slowest rate
TONES_AN_OCTAVE = 24
MOST = 100_000  # ripples of one run


@dataclass(frozen=True)
class Ripples:
    """A set of moving ripples: every rate in both directions at every scale in every phase.

    The level at time t and x octaves is ``depth cos(2 pi (rate t + scale x) + phase)`` about its
    mean; where the rate is above 0, what is loud moves down (T. Chi, P. Ru and S. A. Shamma,
    "Multiresolution spectrotemporal analysis of complex sounds", J. Acoust. Soc. Am. 2005).

    Attributes
    ----------
    rates_hz : tuple of float
        Above 0, ascending; each is shown moving down, and up as its negative.
    scales : tuple of float
        Cycles an octave, 0 or above, ascending; at 0 all frequencies swell together.
    phases : int
        Phases a cycle, at least 3.
    depth_db : float
        From the mean level to the highest.

    Raises
    ------
    InputError
        If a value cannot be used.
    """

    rates_hz: tuple[float, ...]
    scales: tuple[float, ...]
    phases: int = 8
    depth_db: float = 15.0

    def __post_init__(self) -> None:
        """Refuse what cannot be shown."""
        for name, values in (("Rates", self.rates_hz), ("Scales", self.scales)):
            if not values or any(b <= a for a, b in itertools.pairwise(values)):
                raise InputError(f"{name} must ascend, and there must be one.")
        if self.rates_hz[0] <= 0 or self.scales[0] < 0:
            raise InputError("Rates lie above 0 Hz; scales are 0 or above.")
        if not 3 <= self.phases <= 64 or not 0 < self.depth_db <= 60:
            raise InputError("Phases are 3 to 64, the depth lies above 0 and up to 60 dB.")
        if len(self) > MOST:
            raise InputError(f"That is more than {MOST:,} ripples; take fewer of each kind.")

    def __len__(self) -> int:
        return 2 * len(self.rates_hz) * len(self.scales) * self.phases

    @cached_property
    def signed_rates(self) -> NDArray[np.float64]:
        """Rates (2 n,) in Hz from the fastest upward one, below 0, to the fastest downward one."""
        rates = np.array(self.rates_hz)
        return np.concatenate([-rates[::-1], rates])

    def waves(
        self,
        seconds: NDArray[np.float64],
        octaves: NDArray[np.float64],
        cells: Sequence[tuple[int, int, int]],
    ) -> NDArray[np.float32]:
        """Ripples (N, bands, frames) from -1 to 1 at the given times and places.

        Parameters
        ----------
        seconds : ndarray (frames,)
            Time.
        octaves : ndarray (bands,)
            Place on the axis of frequencies.
        cells : sequence of (rate, scale, phase)
            Which ripples, by index; rates are those of `signed_rates`.
        """
        which = np.array(cells).reshape(-1, 3)
        rate = self.signed_rates[which[:, 0]][:, None]
        scale = np.array(self.scales)[which[:, 1]][:, None]
        phase = 2 * np.pi * which[:, 2][:, None] / self.phases
        over_time = np.exp(2j * np.pi * rate * seconds).astype(np.complex64)
        over_bands = np.exp(1j * (2 * np.pi * scale * octaves + phase)).astype(np.complex64)
        found: NDArray[np.float32] = over_bands.real[:, :, None] * over_time.real[:, None]
        found -= over_bands.imag[:, :, None] * over_time.imag[:, None]
        return found


def usual_ripples(model: Model, phases: int = 8, depth_db: float = 15.0) -> Ripples:
    """Ripples that a network's spectrogram can hold, half octaves apart.

    Rates from one cycle a clip (of 2 s at most), scales from a quarter of a cycle an octave, and 0;
    both up to 0.4 cycles a frame, or a band of the middle.

    Raises
    ------
    ModelError
        If it is no network for sound.
    """
    frontend = frontend_of(model)
    if frontend.n_mels < FEWEST_BANDS:
        raise ModelError(f"{model.card.title} has too few mel bands for ripples.")
    frame = frontend.hop / frontend.sample_rate
    slowest = FEWEST_CYCLES / min(MOST_SECONDS, model.input_shape[2] * frame)
    spacing = float(np.median(np.diff(np.log2(frontend.mel_centres_hz()))))
    return Ripples(
        _half_octaves(slowest, HIGHEST / frame),
        (0.0, *_half_octaves(min(LOWEST_SCALE, HIGHEST / spacing / 2), HIGHEST / spacing)),
        phases,
        depth_db,
    )


def _half_octaves(low: float, high: float) -> tuple[float, ...]:
    count = 1 + max(0, math.floor(math.log2(high / low) / OCTAVE + 1e-9))
    return tuple(high * 2.0 ** (-OCTAVE * step) for step in reversed(range(count)))


def frontend_of(model: Model) -> LogMel:
    """What makes spectrograms for a network.

    Raises
    ------
    ModelError
        If it is no network for sound.
    """
    if not isinstance(model.frontend, LogMel):
        raise ModelError(
            f"{model.card.title} sees; ripples are for networks that hear, gratings for those "
            "that see."
        )
    return model.frontend


@dataclass(frozen=True, eq=False)
class RippleStimuli:
    """Ripples as what a network takes, about the mean level of sound; see `Stimuli`.

    Attributes
    ----------
    model : Model
        That they are played to.
    ripples : Ripples
        Which ones.
    """

    model: Model
    ripples: Ripples

    @property
    def shape(self) -> tuple[int, int, int]:
        """Signed rates, scales, phases."""
        return 2 * len(self.ripples.rates_hz), len(self.ripples.scales), self.ripples.phases

    @cached_property
    def axes(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Seconds (frames,) and octaves (bands,), both 0 in the middle of the spectrogram."""
        frontend, (_, bands, frames) = frontend_of(self.model), self.model.input_shape
        seconds = frontend.frame_seconds(frames)
        octaves = np.log2(frontend.mel_centres_hz())
        return seconds - seconds[frames // 2], octaves - octaves[bands // 2]

    @cached_property
    def _levels(self) -> tuple[float, float]:
        """Mean level and depth, in the numbers of the network's input."""
        frontend = frontend_of(self.model)
        low, high = sound_levels(frontend)
        # A level is the logarithm of magnitudes or of powers, 20 or 10 dB a factor of ten.
        depth = self.ripples.depth_db * math.log(10) * frontend.power / 20.0 / frontend.std
        return (low + high) / 2, depth

    def inputs(self, cells: Sequence[tuple[int, int, int]]) -> torch.Tensor:
        """Spectrograms (N, 1, bands, frames)."""
        mean, depth = self._levels
        seconds, octaves = self.axes
        waves = self.ripples.waves(seconds, octaves, cells)
        scale = np.array(self.ripples.scales)[[second for _, second, _ in cells]]
        # Bands too wide for a ripple, at low frequencies, would show another one: they stay even.
        waves *= (scale[:, None] * np.gradient(octaves) <= NYQUIST)[:, :, None]
        return mean + depth * torch.from_numpy(waves)[:, None]

    def blank(self) -> torch.Tensor:
        """The mean level (1, 1, bands, frames)."""
        return torch.full((1, *self.model.input_shape), self._levels[0])


def ripple_sound(
    model: Model, ripples: Ripples, rate_hz: float, scale: float, seconds: float = 2.0
) -> Clip:
    """A ripple to listen to: tones of even spacing in octaves, each swelling and fading.

    Parameters
    ----------
    model : Model
        Whose bands the tones cover.
    ripples : Ripples
        Gives the depth.
    rate_hz : float
        Above 0 moving down, below 0 up.
    scale : float
        Cycles an octave.
    seconds : float
        Its length.

    Raises
    ------
    ModelError
        If it is no network for sound.
    """
    frontend = frontend_of(model)
    centres = frontend.mel_centres_hz()
    width = math.log2(centres[-1] / centres[0])
    octaves = np.arange(0, width, 1 / TONES_AN_OCTAVE)
    time = np.arange(round(seconds * frontend.sample_rate)) / frontend.sample_rate
    phases = np.random.default_rng(0).uniform(0, 2 * np.pi, len(octaves))
    samples = np.zeros(len(time))
    for place, phase in zip(octaves, phases, strict=True):
        level = ripples.depth_db * np.cos(2 * np.pi * (rate_hz * time + scale * place))
        tone = np.sin(2 * np.pi * centres[0] * 2**place * time + phase)
        samples += 10 ** (level / 20) * tone
    return Clip((0.5 * samples / np.abs(samples).max()).astype(np.float32), frontend.sample_rate)
