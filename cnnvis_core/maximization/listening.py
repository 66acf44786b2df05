"""Spectrogram pictures as something to listen to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.errors import ModelError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.models.levels import sound_levels
from cnnvis_core.models.logmel import LogMel, mel_matrix
from cnnvis_core.models.model import Model

ROUNDS = 48  # of Griffin and Lim's iteration
PEAK = 0.9  # of full scale; a picture's loudness may lie beyond it


def spectrogram_levels(model: Model, image: NDArray[np.floating]) -> NDArray[np.float32]:
    """What the network is given (mel bands, frames) for a picture (1, bands, frames) in [0, 1].

    Raises
    ------
    ModelError
        If it is no network for sound.
    """
    low, high = sound_levels(_frontend(model))
    return (low + (high - low) * image[0]).astype(np.float32)


def listen(model: Model, image: NDArray[np.floating], seed: int = 0) -> Clip:
    """A sound whose spectrogram is near to a picture (1, bands, frames) in [0, 1].

    Mel bands are shared out to frequencies by non-negative least squares, and phases found by
    Griffin and Lim (1984); both as librosa does it. Phases are lost in a spectrogram and mel bands
    are coarse, so this is one of many sounds that look alike to the network, and not exactly so.

    Raises
    ------
    ModelError
        If it is no network for sound.
    """
    import librosa

    frontend = _frontend(model)
    levels = spectrogram_levels(model, image) * frontend.std + frontend.mean
    bands = np.maximum(np.exp(levels) - frontend.offset, 0.0)
    matrix = mel_matrix(
        frontend.sample_rate, frontend.n_fft, frontend.n_mels, frontend.fmin, frontend.fmax,
        frontend.formula,
    ).numpy()  # fmt: skip
    spectrum = librosa.util.nnls(matrix, bands) ** (1 / frontend.power)
    samples = librosa.griffinlim(
        spectrum,
        n_iter=ROUNDS,
        hop_length=frontend.hop,
        win_length=frontend.window,
        n_fft=frontend.n_fft,
        center=frontend.centred,
        random_state=seed,
    )
    loudest = float(np.abs(samples).max(initial=0.0))
    if loudest > PEAK:
        samples = samples * (PEAK / loudest)
    return Clip(samples.astype(np.float32), frontend.sample_rate)


def _frontend(model: Model) -> LogMel:
    if not isinstance(model.frontend, LogMel):
        raise ModelError(f"{model.card.title} is no network for sound; nothing can be heard.")
    return model.frontend
