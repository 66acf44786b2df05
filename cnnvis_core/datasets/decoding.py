"""From the bytes of a dataset's items to inputs of a network."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
import torch.nn.functional as F

from cnnvis_core.datasets.dataset import Dataset
from cnnvis_core.errors import CnnvisError, InputError
from cnnvis_core.inputs import Clip, read_audio, read_image
from cnnvis_core.inputs.audio import MAX_SECONDS
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.model import Model

DECODERS = 2  # threads that decode ahead

Inputs = list[torch.Tensor] | InputError


def decoded(
    model: Model, dataset: Dataset, wanted: Sequence[int], ahead: int = 64
) -> Iterator[tuple[int, Inputs]]:
    """Inputs of each item, decoded ahead by threads, in order.

    Parameters
    ----------
    model : Model
        Whose inputs.
    dataset : Dataset
        Of pictures or clips, as the model takes.
    wanted : sequence of int
        Indices of items, ascending.
    ahead : int
        How many items are decoded before they are asked for.

    Yields
    ------
    tuple
        Index, and a tensor (1, C, H, W) for a picture or several for the windows of a clip, or why
        there is none.
    """
    with ThreadPoolExecutor(DECODERS) as pool:
        waiting: deque[tuple[int, Future[Inputs]]] = deque()
        try:
            for index, data in dataset.items(wanted):
                waiting.append((index, pool.submit(inputs_of, model, data)))
                if len(waiting) > ahead:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            for _, future in waiting:
                future.cancel()


def inputs_of(model: Model, data: bytes | InputError) -> Inputs:
    """Inputs (1, C, H, W) from the bytes of a picture or a clip, or why there are none."""
    if isinstance(data, InputError):
        return data
    try:
        if model.modality == "audio":
            return windows(model, whole_clip(data))
        return [model.frontend(read_image(data))]
    except CnnvisError as error:
        return InputError(str(error))


def whole_clip(data: bytes) -> Clip:
    """A clip of up to ten minutes."""
    return read_audio(data, MAX_SECONDS)


def windows(model: Model, clip: Clip) -> list[torch.Tensor]:
    """Spectrograms (1, 1, bands, frames) of the network's length, side by side over a clip.

    A clip that is too short is filled with silence; the last window ends with the clip.
    """
    frontend, frames = model.frontend, model.input_shape[2]
    if not isinstance(frontend, LogMel):
        return [frontend(clip)]
    samples = frontend.resample(clip)
    short = frames - frontend.frames(len(samples))
    if short > 0:
        samples = F.pad(samples, (0, short * frontend.hop))
    x = frontend.spectrogram(samples[None])
    return [x[..., first : first + frames] for first in window_starts(x.shape[3], frames)]


def window_starts(length: int, frames: int) -> list[int]:
    """First frame of each window over so many frames."""
    starts = list(range(0, length - frames + 1, frames))
    if starts[-1] + frames < length:
        starts.append(length - frames)
    return starts
