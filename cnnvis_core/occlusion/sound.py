"""Covering stretches of time and bands of frequency of a sound, so that they can be heard."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from cnnvis_core.errors import InputError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import Model
from cnnvis_core.occlusion.grid import Axis, Cell, Grid, patch_starts
from cnnvis_core.occlusion.incremental.boxes import Boxes, Change

SoundFill = str | float | None
SOUND_FILLS = ("silence", "mean", "noise")
SoundMode = Literal["time", "frequency", "time x frequency"]
Extent = tuple[float | None, float | None]

WINDOW_SECONDS = 0.032
OVERLAP = 4  # windows that cover each sample
INAUDIBLE = 1e-6  # of the range of a clip's log-mel spectrogram


def default_sound_patch(mode: SoundMode, seconds: float) -> tuple[Extent, Extent]:
    """Patch and stride as (Hz, seconds) that suit a mode and the length of a clip.

    Raises
    ------
    InputError
        If the mode is not known.
    """
    length = min(0.5, seconds / 4)
    settings: dict[str, tuple[Extent, Extent]] = {
        "time": ((None, length), (None, length / 2)),
        "frequency": ((1000.0, None), (500.0, None)),
        "time x frequency": ((2000.0, 2 * length), (1000.0, length)),
    }
    if mode not in settings:
        raise InputError(f"Sound is covered along {', '.join(settings)}, not {mode!r}.")
    return settings[mode]


@dataclass(frozen=True, eq=False)
class SoundOccluder:
    """Covers rectangles of a clip's short-time spectrum and turns the rest back into sound.

    The covered bins of a short-time Fourier transform are exchanged for those of the fill and the
    windows are added up again (weighted overlap-add, Griffin and Lim 1984). The network is given
    the log-mel spectrogram of exactly the sound that comes out, so what is heard and what is
    measured are the same. Edges are soft by half a window (16 ms) and about a bin (31 Hz).

    Attributes
    ----------
    frontend : LogMel
        The network's own.
    samples : Tensor (n,)
        The clean clip at the frontend's rate.
    seconds : float
        Length of the clip without padding.
    grid : Grid
        Where the patches lie: rows are Hz, columns are seconds.
    fill : str
        The fill in words.
    level : float or "silence" or "mean" or "noise"
        What `fill` says, for computing.
    """

    frontend: LogMel
    samples: torch.Tensor
    seconds: float
    grid: Grid
    fill: str
    level: str | float

    @property
    def sample_rate(self) -> int:
        """Samples a second, in Hz."""
        return self.frontend.sample_rate

    @cached_property
    def _size(self) -> int:
        """Window in samples, a multiple of the overlap."""
        return OVERLAP * round(WINDOW_SECONDS * self.sample_rate / OVERLAP)

    @property
    def _hop(self) -> int:
        return self._size // OVERLAP

    @cached_property
    def _window(self) -> torch.Tensor:
        # The square root of a Hann window, for analysis and synthesis alike: squares add up to 2.
        window = torch.hann_window(self._size, dtype=torch.float64).sqrt()
        return window.float().to(self.samples.device)

    def _frames(self, samples: torch.Tensor) -> torch.Tensor:
        """Spectra (frames, bins) of the windows that touch the samples (n,)."""
        tail = -len(samples) % self._hop
        padded = torch.nn.functional.pad(samples, (self._size, self._size + tail))
        return torch.fft.rfft(padded.unfold(0, self._size, self._hop) * self._window)

    @cached_property
    def _change(self) -> torch.Tensor:
        """Fill minus clean spectrum (frames, bins): what a fully covered clip differs by."""
        clean = self._frames(self.samples)
        if self.level == "silence":
            return -clean
        seeded = torch.Generator().manual_seed(0)
        noise = torch.randn(len(self.samples), generator=seeded).to(self.samples.device)
        sounding = self.samples[: max(1, round(self.seconds * self.sample_rate))]
        if self.level == "mean":
            # Of stationary noise, each bin gets the clip's mean power in that bin.
            power = clean.abs().square().mean(0)
            spectra = self._frames(noise)
            return spectra * (power / spectra.abs().square().mean(0)).sqrt() - clean
        if self.level == "noise":
            rms = float(sounding.square().mean().sqrt())
        else:
            rms = 10 ** (float(self.level) / 20)
        return self._frames(noise * rms) - clean

    @cached_property
    def _frame_seconds(self) -> NDArray[np.float64]:
        """Middle of each window, in seconds."""
        middle = np.arange(len(self._change)) * self._hop - self._size / 2
        return middle / self.sample_rate

    @cached_property
    def _bin_hz(self) -> NDArray[np.float64]:
        return np.arange(self._size // 2 + 1) * self.sample_rate / self._size

    def _add(self, out: torch.Tensor, change: torch.Tensor, first: int) -> None:
        """Add spectra (frames, bins), the first of them frame number ``first``, to samples."""
        pieces = torch.fft.irfft(change, n=self._size) * (self._window / (OVERLAP / 2))
        length = self._size + (len(change) - 1) * self._hop
        summed = torch.nn.functional.fold(
            pieces.T[None], (1, length), (1, self._size), stride=(1, self._hop)
        ).flatten()
        start = first * self._hop - self._size
        left, right = max(start, 0), min(start + length, len(out))
        if right > left:
            out[left:right] += summed[left - start : right - start]

    def covered_samples(self, cell: Cell) -> torch.Tensor:
        """The sound (n,) with one patch covered."""
        low, high = self.grid.rows.starts[cell[0]], self.grid.rows.ends[cell[0]]
        begin, end = self.grid.cols.starts[cell[1]], self.grid.cols.ends[cell[1]]
        # Open-ended at the borders, so that patches over the whole extent leave nothing behind.
        begin = -math.inf if begin <= 0 else begin
        end = math.inf if end >= self.seconds else end
        high = math.inf if high >= self.sample_rate / 2 else high
        frames = np.flatnonzero((self._frame_seconds >= begin) & (self._frame_seconds < end))
        bins = torch.from_numpy((self._bin_hz >= low) & (self._bin_hz < high))
        out = self.samples.clone()
        if len(frames):
            first, last = int(frames[0]), int(frames[-1]) + 1
            self._add(out, self._change[first:last] * bins.to(out.device), first)
        return out

    def masked_samples(self, cover: NDArray[np.bool_]) -> torch.Tensor:
        """The sound (n,) with all places of a map (mel bands, frames) covered."""
        rows = np.searchsorted(self.frontend.mel_edges_hz()[1:-1], self._bin_hz)
        times = self.frontend.frame_seconds(cover.shape[1])
        step = (times[1] - times[0]) if len(times) > 1 else 1.0
        cols = np.round((self._frame_seconds - times[0]) / step).astype(int)
        mask = cover[
            np.clip(rows, 0, cover.shape[0] - 1)[None, :],
            np.clip(cols, 0, cover.shape[1] - 1)[:, None],
        ]
        out = self.samples.clone()
        self._add(out, self._change * torch.from_numpy(mask).to(out.device), 0)
        return out

    def clean(self) -> torch.Tensor:
        """Log-mel spectrogram (1, 1, mel bands, frames) of the clip."""
        return self.frontend.spectrogram(self.samples[None])

    def covered(self, cells: Sequence[Cell]) -> torch.Tensor:
        """Log-mel spectrograms (len(cells), 1, mel bands, frames), each with one patch covered."""
        return self.frontend.spectrogram(torch.stack([self.covered_samples(c) for c in cells]))

    def changes(self, cells: Sequence[Cell]) -> Change | None:
        """How the spectrograms of `covered` differ from the clean one.

        Sound spreads: the rectangles are found by comparing. Differences below `INAUDIBLE` of a
        clip's range, which rounding alone makes, count as none.
        """
        clean, covered = self.clean(), self.covered(cells)
        least = INAUDIBLE * float(clean.max() - clean.min())
        differs = ((covered - clean).abs() > least).any(1).cpu().numpy()
        rows = np.flatnonzero(differs.any((1, 2)))
        if not len(rows):
            return None
        low, high = [], []
        for axis in (2, 1):
            along: NDArray[np.bool_] = np.any(differs[rows], axis=axis)
            low.append(along.argmax(1))
            high.append(along.shape[1] - along[:, ::-1].argmax(1))
        boxes = Boxes.around(np.stack(low), np.stack(high), differs.shape[1:])
        content = torch.stack(
            [
                covered[row, :, top : top + boxes.size[0], left : left + boxes.size[1]]
                for row, (top, left) in zip(rows, boxes.origin.T, strict=True)
            ]
        )
        return Change(rows, content.contiguous(memory_format=torch.channels_last), boxes)

    def masked(self, cover: Sequence[NDArray[np.bool_]]) -> torch.Tensor:
        """Log-mel spectrograms, each with all places of a map (mel bands, frames) covered."""
        return self.frontend.spectrogram(torch.stack([self.masked_samples(c) for c in cover]))


def sound_occluder(
    model: Model,
    clip: Clip,
    patch: Extent | None = None,
    stride: Extent | None = None,
    fill: SoundFill = None,
) -> SoundOccluder:
    """Prepare to cover places of a clip.

    Parameters
    ----------
    model : Model
        An audio network.
    clip : Clip
        From `read_audio`.
    patch, stride : (Hz, seconds), optional
        None in place of a number stands for the whole extent: ``(None, 0.5)`` covers bands of
        time, ``(1000, None)`` bands of frequency. By default bands of time.
    fill : str or float, optional
        See `occlude`.

    Raises
    ------
    InputError
        If the clip, a size or the fill cannot be used.
    """
    if not isinstance(clip, Clip):
        raise InputError("A sound is given as the Clip that read_audio returns.")
    frontend = model.frontend
    if not isinstance(frontend, LogMel):
        raise InputError(f"{model.card.title} has no way to listen to a clip.")
    usual_patch, usual_stride = default_sound_patch("time", clip.seconds)
    if patch is None:
        patch, stride = usual_patch, usual_stride if stride is None else stride
    band, length = _extent(patch, "patch")
    if stride is None:
        stride = (band and band / 2, length and length / 2)
    band_step, time_step = _extent(stride, "stride")

    level, words = _level(fill)
    samples = frontend.resample(clip).to(model.device)
    frames = frontend.spectrogram(samples[None]).shape[-1]
    nyquist = frontend.sample_rate / 2
    grid = Grid(
        _axis(nyquist, band, band_step, "Hz", frontend.mel_centres_hz()),
        _axis(clip.seconds, length, time_step, "s", frontend.frame_seconds(frames)),
    )
    return SoundOccluder(frontend, samples, clip.seconds, grid, words, level)


def _extent(value: object, what: str) -> Extent:
    if (
        isinstance(value, tuple | list)
        and len(value) == 2
        and all(v is None or isinstance(v, int | float | np.number) for v in value)
    ):
        return value[0], value[1]
    raise InputError(
        f"For sound the {what} is a pair (Hz, seconds), None standing for a whole extent; "
        f"{value!r} is not."
    )


def _level(fill: SoundFill) -> tuple[str | float, str]:
    if fill is None or fill == "silence":
        return "silence", "silence"
    if fill == "mean":
        return "mean", "noise with the clip's mean spectrum"
    if fill == "noise":
        return "noise", "white noise as loud as the clip"
    if isinstance(fill, int | float) and -120 <= fill <= 0:
        return float(fill), f"white noise at {fill:g} dB"
    raise InputError(
        f"The fill {fill!r} is not known; use one of {', '.join(SOUND_FILLS)} "
        "or a level from -120 to 0 dB (full scale is 0)."
    )


def _axis(
    length: float,
    patch: float | None,
    stride: float | None,
    unit: str,
    centres: NDArray[np.float64],
) -> Axis:
    """Patches over 0 to ``length``; a patch covers the rows whose centre lies in it."""
    if patch is None:
        return Axis((0.0,), (length,), unit, ((0, len(centres)),), len(centres))
    step = patch / 2 if stride is None else stride
    starts = patch_starts(length, patch, step, f"patch in {unit}")
    ends = [min(start + patch, length) for start in starts]
    low = np.searchsorted(centres, starts)
    high = np.searchsorted(centres, ends)
    # A band narrower than the network's own resolution still has a place: the nearest row.
    nearest = np.abs(centres[None] - (np.add(starts, ends) / 2)[:, None]).argmin(1)
    low, high = np.where(high > low, low, nearest), np.where(high > low, high, nearest + 1)
    spans = tuple((int(a), int(b)) for a, b in zip(low, high, strict=True))
    return Axis(tuple(starts), tuple(ends), unit, spans, len(centres))
