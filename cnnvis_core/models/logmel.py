"""The audio front end: a clip becomes a log-mel spectrogram, drawn as a picture is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.inputs.clip import Clip

MelFormula = Literal["slaney", "htk", "tensorflow"]

SLANEY_LINEAR = 200.0 / 3.0  # Hz a mel below 1 kHz
SLANEY_BREAK = 1000.0  # Hz where the scale becomes logarithmic
SLANEY_STEP = math.log(6.4) / 27.0  # natural log of the ratio of two mels above the break


def hz_to_mel(hz: NDArray[np.float64], formula: MelFormula) -> NDArray[np.float64]:
    """Frequencies in Hz on a mel scale.

    ``"slaney"`` is linear below 1 kHz and logarithmic above (M. Slaney, Auditory Toolbox, 1998);
    the others are 1127 ln(1 + f / 700) (S. Young et al., The HTK Book).
    """
    if formula != "slaney":
        return 1127.0 * np.log1p(hz / 700.0)
    bend = SLANEY_BREAK / SLANEY_LINEAR
    upper = bend + np.log(np.maximum(hz, SLANEY_BREAK) / SLANEY_BREAK) / SLANEY_STEP
    return np.where(hz < SLANEY_BREAK, hz / SLANEY_LINEAR, upper)


def mel_to_hz(mel: NDArray[np.float64], formula: MelFormula) -> NDArray[np.float64]:
    """Frequencies in Hz of positions on a mel scale; the inverse of `hz_to_mel`."""
    if formula != "slaney":
        return 700.0 * np.expm1(mel / 1127.0)
    bend = SLANEY_BREAK / SLANEY_LINEAR
    upper = SLANEY_BREAK * np.exp(SLANEY_STEP * (np.maximum(mel, bend) - bend))
    return np.where(mel < bend, mel * SLANEY_LINEAR, upper)


def mel_points(n_mels: int, fmin: float, fmax: float, formula: MelFormula) -> NDArray[np.float64]:
    """Corners (n_mels + 2,) of the triangles in Hz, equally spaced on the mel scale."""
    ends = hz_to_mel(np.array([fmin, fmax], dtype=np.float64), formula)
    return mel_to_hz(np.linspace(ends[0], ends[1], n_mels + 2), formula)


@lru_cache(maxsize=16)
def mel_matrix(
    sample_rate: int, n_fft: int, n_mels: int, fmin: float, fmax: float, formula: MelFormula
) -> torch.Tensor:
    """Triangular filters that sum the bins of a spectrum into mel bands.

    Parameters
    ----------
    sample_rate : int
        In Hz.
    n_fft : int
        Length of the Fourier transform.
    n_mels : int
        Number of bands.
    fmin, fmax : float
        Lowest and highest corner in Hz.
    formula : {"slaney", "htk", "tensorflow"}
        The first two are triangles over Hz of area 1, as in librosa.filters.mel. The last is
        tf.signal.linear_to_mel_weight_matrix: triangles over mels of height 1, no DC bin.

    Returns
    -------
    torch.Tensor
        Float32, (n_mels, n_fft // 2 + 1).
    """
    bins = np.arange(n_fft // 2 + 1, dtype=np.float64) * (sample_rate / n_fft)
    corners = mel_points(n_mels, fmin, fmax, formula)
    axis, marks = bins, corners
    if formula == "tensorflow":
        axis, marks = hz_to_mel(bins, formula), hz_to_mel(corners, formula)
    low, peak, high = marks[:-2, None], marks[1:-1, None], marks[2:, None]
    rising = (axis[None] - low) / (peak - low)
    falling = (high - axis[None]) / (high - peak)
    weights = np.maximum(0.0, np.minimum(rising, falling))
    if formula == "tensorflow":
        weights[:, 0] = 0.0
    else:
        weights *= 2.0 / (corners[2:, None] - corners[:-2, None])
    return torch.from_numpy(weights.astype(np.float32))


@dataclass(frozen=True)
class LogMel:
    """Turns a clip into a log-mel spectrogram with a fixed normalisation.

    Nothing is measured on the clip itself: a frame depends on its own window of samples and on
    nothing else, so that covering one part of a sound leaves the rest of its picture as it was.

    Attributes
    ----------
    sample_rate : int
        What clips are resampled to, in Hz.
    window : int
        Samples of the periodic Hann window.
    hop : int
        Samples from one frame to the next.
    n_fft : int
        Length of the Fourier transform, at least ``window``; the rest is zeros.
    n_mels : int
        Number of mel bands.
    fmin, fmax : float
        Lowest and highest corner of the bands in Hz.
    offset : float
        Added before the natural logarithm, so that digital silence stays finite.
    mean, std : float
        The output is ``(log(mel + offset) - mean) / std``.
    power : float
        1 for bands of magnitudes, 2 for bands of powers.
    formula : {"slaney", "htk", "tensorflow"}
        See `mel_matrix`.
    centred : bool
        True puts the middle of frame i at sample ``i * hop``, with silence beyond both ends; False
        starts frame i there and drops an incomplete last frame.
    min_seconds : float
        Shorter clips are padded with silence at the end.

    Raises
    ------
    ModelError
        If the settings contradict each other.
    """

    sample_rate: int
    window: int
    hop: int
    n_fft: int
    n_mels: int
    fmin: float
    fmax: float
    offset: float
    mean: float = 0.0
    std: float = 1.0
    power: float = 2.0
    formula: MelFormula = "slaney"
    centred: bool = True
    min_seconds: float = 1.0

    def __post_init__(self) -> None:
        """Refuse settings that cannot be computed."""
        if not 0 < self.window <= self.n_fft or self.hop <= 0 or self.n_mels <= 0:
            raise ModelError(
                "Window, hop and n_mels must be positive, and n_fft no less than window."
            )
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise ModelError(
                f"The bands must lie between 0 and {self.sample_rate / 2:g} Hz, "
                f"not {self.fmin:g} to {self.fmax:g} Hz."
            )
        if self.offset <= 0 or self.std <= 0 or self.min_samples < self.window:
            raise ModelError("offset and std must be positive and min_seconds hold one window.")
        if self.formula not in ("slaney", "htk", "tensorflow"):
            raise ModelError(f"There is no mel formula {self.formula!r}.")

    @property
    def min_samples(self) -> int:
        """Samples of the shortest input."""
        return round(self.min_seconds * self.sample_rate)

    def frames(self, samples: int) -> int:
        """Count the frames of so many samples."""
        padded = samples + 2 * (self.window // 2) if self.centred else samples
        return 1 + (padded - self.window) // self.hop

    def __call__(self, clip: object) -> torch.Tensor:
        """Float32 tensor (1, 1, n_mels, frames) on the CPU; rows from low to high frequency.

        Raises
        ------
        InputError
            If ``clip`` is not a `Clip`.
        """
        return self.spectrogram(self.resample(clip)[None])

    def resample(self, clip: object) -> torch.Tensor:
        """Get the samples (n,) of a clip at ``sample_rate``, padded to ``min_seconds``, on the CPU.

        Raises
        ------
        InputError
            If ``clip`` is not a `Clip` or holds no sample.
        """
        if not isinstance(clip, Clip):
            raise InputError(
                f"This network takes a sound, not {type(clip).__name__}; choose an audio file."
            )
        samples = np.asarray(clip.samples, dtype=np.float32)
        if samples.ndim != 1 or not len(samples):
            raise InputError("The sound must be one channel with at least one sample.")
        if clip.sample_rate != self.sample_rate:
            import soxr

            samples = soxr.resample(samples, clip.sample_rate, self.sample_rate, quality="HQ")
        wave = torch.from_numpy(np.array(samples, dtype=np.float32))
        return F.pad(wave, (0, max(0, self.min_samples - len(wave))))

    def spectrogram(self, samples: torch.Tensor) -> torch.Tensor:
        """Normalised log-mel spectrograms (N, 1, n_mels, frames) of waveforms (N, n).

        Parameters
        ----------
        samples : torch.Tensor
            Waveforms at ``sample_rate``, at least ``min_seconds`` long; computed on their device
            in float32.

        Raises
        ------
        InputError
            If the waveforms are too short for one frame.
        """
        mel = self.mel(samples)
        return ((mel + self.offset).log_().sub_(self.mean).div_(self.std)).unsqueeze(1)

    def mel(self, samples: torch.Tensor) -> torch.Tensor:
        """Mel bands (N, n_mels, frames) of waveforms (N, n), before the logarithm."""
        if samples.ndim != 2 or samples.shape[1] < self.min_samples:
            raise InputError(
                f"The sound must last at least {self.min_seconds:g} s; pad it with silence."
            )
        samples = samples.float()
        # torch.stft centres a short window in n_fft samples: these margins keep its own centre.
        margin = self.n_fft - self.window
        half = self.window // 2 if self.centred else 0
        samples = F.pad(samples, (half + margin // 2, half + margin - margin // 2))
        spectrum = torch.stft(
            samples,
            self.n_fft,
            self.hop,
            self.window,
            torch.hann_window(self.window, device=samples.device),
            center=False,
            return_complex=True,
        )
        size = torch.view_as_real(spectrum).square().sum(-1)
        if self.power != 2.0:
            size = size.pow_(self.power / 2)
        matrix = mel_matrix(
            self.sample_rate, self.n_fft, self.n_mels, self.fmin, self.fmax, self.formula
        )
        return matrix.to(size.device) @ size

    def frame_seconds(self, frames: int) -> NDArray[np.float64]:
        """Time of the middle of each of so many frames, in seconds."""
        first = 0 if self.centred else self.window / 2
        return (first + self.hop * np.arange(frames)) / self.sample_rate

    def mel_edges_hz(self) -> NDArray[np.float64]:
        """Borders (n_mels + 1,) between bands in Hz: the mel midpoints between their peaks."""
        mels = hz_to_mel(mel_points(self.n_mels, self.fmin, self.fmax, self.formula), self.formula)
        return mel_to_hz((mels[:-1] + mels[1:]) / 2, self.formula)

    def mel_centres_hz(self) -> NDArray[np.float64]:
        """Frequency (n_mels,) of each band's peak in Hz."""
        return mel_points(self.n_mels, self.fmin, self.fmax, self.formula)[1:-1]
