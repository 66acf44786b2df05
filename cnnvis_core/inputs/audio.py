"""Bytes of a sound file become a validated mono clip, with notes of what was changed.

The header is looked at first and only as much as is analysed is ever decoded, so that 20 minutes
of silence in a file of 166 KB cost no more memory than 30 seconds of it.
"""

from __future__ import annotations

import io
import math
import struct
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from cnnvis_core.errors import InputError
from cnnvis_core.inputs.clip import Clip

if TYPE_CHECKING:
    from soundfile import SoundFile

MIN_SECONDS: Final = 0.1
MAX_SECONDS: Final = 600.0
MAX_RATE: Final = 48_000
READABLE_RATES: Final = (4_000, 384_000)
MAX_CHANNELS: Final = 32
# Below this root mean square, full scale being 1, a sound is silent: -100 dB, a third of the
# smallest step of 16 bits.
SILENCE: Final = 1e-5

_FORMATS: Final = {
    "WAV": "WAV",
    "WAVEX": "WAV",
    "RF64": "WAV",
    "FLAC": "FLAC",
    "OGG": "OGG",
    "MP3": "MP3",
}
_SUPPORTED: Final = "a supported sound file (WAV, FLAC, OGG or MP3)"
_NOTHING_READABLE: Final = (
    "The sound file is incomplete or damaged and nothing of it can be used; "
    "save or send it again, or choose another."
)
# libsndfile gives the largest count for streams that do not tell their length.
_UNKNOWN_FRAMES: Final = 2**62
# Samples of all channels that are decoded at a time: 16 MiB.
_BLOCK_VALUES: Final = 2**22


def read_audio(data: bytes, max_seconds: float = 30.0) -> Clip:
    """Mono clip from the bytes of a WAV, FLAC, OGG or MP3 file.

    Channels are averaged; rates over 48 kHz are resampled to 48 kHz; integers are divided by their
    full scale; a float sound that exceeds full scale is divided by its peak. A file that breaks
    off gives what could be read. Each of these is told in the clip's notes.

    Parameters
    ----------
    data : bytes
        The file; its name and its declared type play no part.
    max_seconds : float
        How much is analysed from the start, 0.1 to 600 s; the rest is never decoded.

    Raises
    ------
    InputError
        If the bytes are not a supported sound file, hold nothing that can be read, are shorter
        than 0.1 s, have no energy (root mean square under -100 dB of full scale once the mean is
        taken off), or hold samples that are not finite.
    """
    if not MIN_SECONDS <= max_seconds <= MAX_SECONDS:
        raise InputError(
            f"The part to analyse must last {MIN_SECONDS:g} to {MAX_SECONDS:g} seconds, "
            f"not {max_seconds:g}."
        )
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError("A sound must be given as the bytes of its file.")
    data = bytes(data)
    import soundfile

    _refuse_foreign(data)
    try:
        # A plain BytesIO, for soundfile trusts the name of any other file object.
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            _check_header(file)
            samples, notes = _read(file, data, max_seconds)
            rate = int(file.samplerate)
    except (soundfile.SoundFileError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise InputError(_NOTHING_READABLE) from error
    samples = _limited(samples, notes)
    if rate > MAX_RATE:
        samples = _resampled(samples, rate)
        notes.append(f"The sound was resampled from {rate / 1000:g} to {MAX_RATE / 1000:g} kHz.")
        rate = MAX_RATE
    return Clip(samples.astype(np.float32), rate, tuple(notes))


def _refuse_foreign(data: bytes) -> None:
    """Refuse by the first bytes what libsndfile should not even try."""
    if not data:
        raise InputError(f"The file is empty and so not {_SUPPORTED}; choose another.")
    known = (
        (data[:4] in (b"RIFF", b"RIFX", b"RF64") and data[8:12] in (b"WAVE", b""))
        or data.startswith((b"fLaC", b"OggS", b"ID3"))
        # The sync word of an MPEG audio frame (ISO 11172-3).
        or (data[0] == 0xFF and data[1:2] >= b"\xe0")
    )
    if known:
        return
    looks = ""
    if data[4:8] == b"ftyp":
        looks = " (it looks like M4A or a film)"
    elif data.startswith(b"\x1a\x45\xdf\xa3"):
        looks = " (it looks like WebM)"
    elif data.startswith(b"FORM"):
        looks = " (it looks like AIFF)"
    raise InputError(f"This is not {_SUPPORTED}{looks}; convert it or choose another.")


def _check_header(file: SoundFile) -> None:
    if file.format not in _FORMATS:
        raise InputError(f"This is not {_SUPPORTED}; convert it or choose another.")
    lowest, highest = READABLE_RATES
    if not lowest <= file.samplerate <= highest:
        raise InputError(
            f"The sound has {file.samplerate} samples a second, and only {lowest} to {highest} "
            "can be taken; resample it and try again."
        )
    if not 1 <= file.channels <= MAX_CHANNELS:
        raise InputError(
            f"The sound has {file.channels} channels, and at most {MAX_CHANNELS} can be taken; "
            "save it as mono or stereo."
        )


def _read(
    file: SoundFile, data: bytes, max_seconds: float
) -> tuple[NDArray[np.float64], list[str]]:
    """Mono samples of the first seconds and what there is to tell of them."""
    rate, claimed = file.samplerate, file.frames
    wanted = min(claimed, math.ceil(max_seconds * rate))
    samples, stumbled = _mono(file, wanted)
    seconds = len(samples) / rate
    # MP3 headers count the decoder's padding, hence a tolerance of 50 ms.
    short = claimed < _UNKNOWN_FRAMES and len(samples) < wanted - rate // 20
    cut = len(samples) < claimed
    broken = stumbled or short or (not cut and _breaks_off(data))
    if broken and seconds < MIN_SECONDS:
        raise InputError(_NOTHING_READABLE)
    if not len(samples):
        raise InputError("The file holds no sound (zero samples); choose another.")
    if seconds < MIN_SECONDS:
        raise InputError(
            f"The sound lasts only {seconds:.3f} seconds; "
            f"choose one of at least {MIN_SECONDS:g} seconds."
        )
    if samples.std() < SILENCE:
        raise InputError("The sound is silent (no sound energy); choose one that can be heard.")
    notes = []
    if broken:
        notes.append(f"The file is incomplete or damaged: only {seconds:.1f} s could be read.")
    elif len(samples) == wanted < claimed:
        notes.append(f"Only the first {max_seconds:g} s of {_length(claimed / rate)} are analysed.")
    if file.channels > 1:
        notes.append(f"The {file.channels} channels were mixed down to one.")
    return samples, notes


def _mono(file: SoundFile, wanted: int) -> tuple[NDArray[np.float64], bool]:
    """Up to `wanted` frames averaged over the channels, and whether the decoder stumbled."""
    import soundfile

    blocks: list[NDArray[np.float64]] = []
    left, liveliest, stumbled = wanted, 0.0, False
    # After each read soundfile seeks, which in an MP3 spoils the next block: read it in one piece.
    most = left if file.format == "MP3" else max(1, _BLOCK_VALUES // file.channels)
    while left > 0 and not stumbled:
        # Where a decoder stumbles, what it has not written stays NaN.
        block = np.full((min(left, most), file.channels), np.nan, dtype=np.float32)
        try:
            block = file.read(out=block)
        except (soundfile.SoundFileError, AssertionError):
            stumbled = True
            block = block[: int(np.isfinite(block).all(axis=1).argmin())]
        if not len(block):
            break
        if not np.isfinite(block).all():
            raise InputError(
                "The sound holds samples that are not finite (NaN or infinity); "
                "replace them and save it again."
            )
        liveliest = max(liveliest, float(block.std(axis=0, dtype=np.float64).max()))
        blocks.append(block.mean(axis=1, dtype=np.float64))
        left -= len(block)
    samples = np.concatenate(blocks) if blocks else np.zeros(0)
    if liveliest > 100 * SILENCE and samples.std() < SILENCE:
        raise InputError(
            "The channels of the sound cancel each other, so that nothing is left of their mean; "
            "save one of them as mono."
        )
    return samples, stumbled


def _breaks_off(data: bytes) -> bool:
    """Whether a WAV holds less than its header says, or an OGG has no last page.

    libsndfile shortens both without a word.
    """
    if data.startswith(b"OggS"):
        # RFC 3533, section 6: bit 4 of byte 5 marks the last page of a stream; byte 26 counts
        # the segments, whose sizes follow.
        page = data[data.rfind(b"OggS") :]
        size = 27 + page[26] + sum(page[27 : 27 + page[26]]) if len(page) > 27 else 28
        return len(page) < size or not page[5] & 4
    order = {b"RIFF": "<", b"RIFX": ">"}.get(data[:4])
    start = 12
    while order is not None and start + 8 <= len(data):
        (size,) = struct.unpack_from(order + "I", data, start + 4)
        if data[start : start + 4] == b"data":
            # Programs that write to a pipe do not know the size and leave the largest or none.
            return 0 < size < 2**31 - 2**16 and start + 8 + size > len(data)
        start += 8 + size + size % 2
    return False


def _length(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 48 * 3600 else "a much longer file"


def _limited(samples: NDArray[np.float64], notes: list[str]) -> NDArray[np.float64]:
    """Bring a float sound that exceeds full scale back to it; nothing is clipped."""
    peak = float(np.abs(samples).max())
    if peak <= 1.0:
        return samples
    notes.append(
        f"The sound exceeded full scale by {20 * math.log10(peak):.1f} dB; it was lowered."
    )
    return samples / peak


def _resampled(samples: NDArray[np.float64], rate: int) -> NDArray[np.float64]:
    import soxr

    out = np.asarray(soxr.resample(samples, rate, MAX_RATE, quality="HQ"), dtype=np.float64)
    # The filter overshoots a little on a sound at full scale.
    return out / max(1.0, float(np.abs(out).max()))
