"""Every row on sounds of the table of hostile and unusual files, with files made here."""

from __future__ import annotations

import io
import itertools
import struct
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from cnnvis_core.errors import InputError
from cnnvis_core.inputs import Clip, read_audio

FORMATS = ("WAV", "FLAC", "OGG", "MP3")
RATE = 16_000


def encode(
    samples: NDArray[np.floating], rate: int, kind: str, subtype: str | None = None
) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=kind, subtype=subtype)
    return file.getvalue()


def tone(seconds: float = 2.0, rate: int = RATE, hertz: float = 440.0, level: float = 0.5):
    return level * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)


def chirp(seconds: float = 2.0, rate: int = RATE):
    """A tone that rises from 200 to 2000 Hz, so that a shift in time shows."""
    time = np.arange(round(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (200 * time + 900 * time**2 / seconds))


def float_wav(samples: NDArray[np.floating], rate: int = RATE) -> bytes:
    return encode(samples, rate, "WAV", "FLOAT")


def wav(
    body: bytes, rate: int = RATE, channels: int = 1, bits: int = 16, claimed: int | None = None
) -> bytes:
    """A WAV written by hand, so that its header can claim anything."""
    frame = channels * bits // 8
    form = struct.pack(
        "<HHIIHH", 1, channels, rate, min(rate * frame, 2**32 - 1), frame % 2**16, bits
    )
    size = len(body) if claimed is None else claimed
    return (
        b"RIFF"
        + struct.pack("<I", min(36 + size, 2**32 - 1))
        + b"WAVEfmt "
        + struct.pack("<I", len(form))
        + form
        + b"data"
        + struct.pack("<I", size)
        + body
    )


def pcm(samples: NDArray[np.floating]) -> bytes:
    return np.round(samples * 32767).astype("<i2").tobytes()


def refusal(data: bytes, **options: float) -> str:
    """The message with which a file is refused, checked to be one plain sentence."""
    with pytest.raises(InputError) as caught:
        read_audio(data, **options)
    message = str(caught.value)
    assert message[0].isupper()
    assert message.endswith(".")
    assert "\n" not in message
    assert ". " not in message
    assert "Error" not in message
    assert "Traceback" not in message
    assert "BytesIO" not in message
    return message


# What loads as it is.


@pytest.mark.parametrize(("kind", "tolerance"), [("WAV", 1e-4), ("FLAC", 1e-4)])
def test_lossless_formats_keep_every_sample(kind: str, tolerance: float) -> None:
    clip = read_audio(encode(chirp(), RATE, kind))
    assert isinstance(clip, Clip)
    assert clip.samples.dtype == np.float32
    assert clip.sample_rate == RATE
    assert clip.seconds == 2.0
    assert clip.notes == ()
    assert np.abs(clip.samples - chirp()).max() < tolerance


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
@pytest.mark.parametrize("seconds", [2.0, 10.0])
def test_lossy_formats_keep_the_sound_in_its_place(kind: str, seconds: float) -> None:
    """Seeking between the blocks of an MP3 would spoil them from the second one on."""
    source = chirp(seconds, 44_100)
    clip = read_audio(encode(source, 44_100, kind))
    assert clip.notes == ()
    assert clip.seconds == pytest.approx(seconds, abs=0.05)
    length = min(len(source), len(clip.samples))
    error = clip.samples[:length] - source[:length]
    assert np.sqrt(np.mean(error**2)) < 0.02


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
def test_every_sample_type_has_full_scale_one(subtype: str) -> None:
    clip = read_audio(encode(tone(level=0.9), RATE, "WAV", subtype))
    assert np.abs(clip.samples).max() == pytest.approx(0.9, abs=0.01)
    assert clip.notes == ()


def test_the_content_decides_and_not_a_name() -> None:
    """A file object that names itself .mp3 would make soundfile expect one."""

    class Named(bytes):
        name = "recording.mp3"

    assert read_audio(Named(encode(tone(), RATE, "WAV"))).seconds == 2.0


def test_bytearray_and_memoryview_are_bytes() -> None:
    data = encode(tone(), RATE, "WAV")
    for kind in (bytearray, memoryview):
        assert read_audio(kind(data)).seconds == 2.0


def test_a_path_is_not_bytes() -> None:
    assert "bytes" in refusal("clip.wav")  # type: ignore[arg-type]


# Foreign files.


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"", "empty"),
        (np.random.default_rng(3).bytes(4000), ""),
        (b"<html></html>", ""),
        (b"\0\0\0\x20ftypM4A \0\0\0\0M4A mp42isom", "M4A"),
        (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\xf7", "WebM"),
        (b"RIFF\x24\0\0\0AVI LIST", ""),
        (b"\x89PNG\r\n\x1a\n", ""),
        (encode(tone(), RATE, "AIFF"), "AIFF"),
        (encode(tone(), RATE, "AU"), ""),
        (encode(tone(), RATE, "CAF"), ""),
        (encode(tone(), RATE, "VOC"), ""),
    ],
)
def test_what_is_no_sound_is_not_supported(data: bytes, looks: str) -> None:
    message = refusal(data)
    assert "not a supported sound file (WAV, FLAC, OGG or MP3)" in message
    assert looks in message


@pytest.mark.parametrize(
    "start", [b"RIFF\x24\0\0\0WAVE", b"fLaC", b"OggS", b"ID3\x03", b"\xff\xfb"]
)
def test_a_start_without_a_sound_is_damaged(start: bytes) -> None:
    assert "incomplete or damaged" in refusal(start + bytes(200))
    refusal(start)


# Nothing to hear.


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
def test_zero_frames_are_refused(kind: str) -> None:
    assert "zero samples" in refusal(encode(np.zeros(0), RATE, kind))


def test_a_flac_of_a_header_alone_is_refused() -> None:
    refusal(encode(tone(), RATE, "FLAC")[:42])


def test_too_short_a_sound_is_explained() -> None:
    assert "at least 0.1 seconds" in refusal(encode(tone(0.05), RATE, "WAV"))
    assert read_audio(encode(tone(0.1), RATE, "WAV")).seconds == pytest.approx(0.1)


@pytest.mark.parametrize("kind", FORMATS)
def test_silence_has_no_energy(kind: str) -> None:
    assert "no sound energy" in refusal(encode(np.zeros(RATE), RATE, kind))


def test_a_constant_is_silence() -> None:
    assert "no sound energy" in refusal(float_wav(np.full(RATE, 0.3)))


def test_denormal_numbers_are_silence() -> None:
    assert "no sound energy" in refusal(float_wav(tone(level=1e-30)))


def test_a_quiet_recording_is_no_silence() -> None:
    clip = read_audio(encode(tone(level=1e-3), RATE, "WAV"))
    assert np.abs(clip.samples).max() == pytest.approx(1e-3, rel=0.05)


def test_a_tone_on_a_constant_offset_is_kept_as_it_is() -> None:
    clip = read_audio(float_wav(0.3 + tone(level=0.1)))
    assert clip.samples.mean() == pytest.approx(0.3, abs=1e-3)


def test_channels_that_cancel_are_explained() -> None:
    message = refusal(encode(np.stack([tone(), -tone()], 1), RATE, "WAV"))
    assert "cancel" in message


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("channels", [1, 2])
def test_samples_that_are_not_finite_are_refused(bad: float, channels: int) -> None:
    samples = np.stack([tone()] * channels, axis=1)
    samples[777, 0] = bad
    assert "not finite" in refusal(float_wav(samples))


# What is changed and told.


def test_channels_are_averaged() -> None:
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.9, 0.9, (RATE, 8))
    clip = read_audio(float_wav(samples))
    assert np.abs(clip.samples - samples.mean(axis=1)).max() < 1e-6
    assert clip.notes == ("The 8 channels were mixed down to one.",)


def test_a_high_rate_is_resampled() -> None:
    clip = read_audio(encode(tone(1.0, 192_000, 1000.0), 192_000, "WAV", "PCM_24"))
    assert clip.sample_rate == 48_000
    assert clip.seconds == pytest.approx(1.0, abs=1e-3)
    assert clip.notes == ("The sound was resampled from 192 to 48 kHz.",)
    expected = tone(1.0, 48_000, 1000.0)
    middle = slice(4800, 43_200)
    assert np.abs(clip.samples[middle] - expected[middle]).max() < 1e-3


def test_resampling_removes_what_cannot_be_kept() -> None:
    both = tone(1.0, 96_000, 1000.0, 0.4) + tone(1.0, 96_000, 40_000.0, 0.4)
    clip = read_audio(encode(both, 96_000, "WAV", "PCM_24"))
    spectrum = np.abs(np.fft.rfft(clip.samples)) / len(clip.samples) * 2
    hertz = np.fft.rfftfreq(len(clip.samples), 1 / 48_000)
    assert spectrum[np.argmin(abs(hertz - 1000))] == pytest.approx(0.4, rel=0.02)
    assert spectrum[abs(hertz - 1000) > 50].max() < 1e-3


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000])
def test_usual_rates_are_kept(rate: int) -> None:
    clip = read_audio(encode(tone(rate=rate), rate, "WAV"))
    assert clip.sample_rate == rate
    assert clip.notes == ()


@pytest.mark.parametrize("peak", [1.5, 1000.0])
def test_a_float_sound_over_full_scale_is_lowered_whole(peak: float) -> None:
    source = tone(level=peak)
    clip = read_audio(float_wav(source))
    assert np.abs(clip.samples - source / np.abs(source).max()).max() < 1e-6
    (note,) = clip.notes
    assert f"{20 * np.log10(peak):.1f} dB" in note


def test_full_scale_itself_is_no_news() -> None:
    samples = np.sign(tone())
    samples[0] = 1.0
    clip = read_audio(float_wav(samples))
    assert clip.notes == ()
    assert np.abs(clip.samples).max() == 1.0


@pytest.mark.parametrize("kind", FORMATS)
def test_only_the_first_seconds_are_analysed(kind: str) -> None:
    source = chirp(8.0)
    clip = read_audio(encode(source, RATE, kind), max_seconds=1.5)
    assert clip.seconds == 1.5
    assert clip.notes == ("Only the first 1.5 s of 8 s are analysed.",)
    error = clip.samples - source[: len(clip.samples)]
    assert np.sqrt(np.mean(error**2)) < 0.03


def test_a_file_of_just_that_length_is_whole() -> None:
    assert read_audio(encode(tone(3.0), RATE, "WAV"), max_seconds=3.0).notes == ()


def test_twenty_minutes_cost_no_more_memory_than_thirty_seconds() -> None:
    seconds, rate = 20 * 60, 8_000
    file = io.BytesIO()
    with soundfile.SoundFile(file, "w", rate, 1, format="FLAC") as out:
        out.write(tone(1.0, rate))
        for _ in range(seconds - 1):
            out.write(np.zeros(rate, np.int16))
    data = file.getvalue()
    assert len(data) < 300_000
    tracemalloc.start()
    try:
        clip = read_audio(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert clip.seconds == 30.0
    assert clip.notes == ("Only the first 30 s of 20 min are analysed.",)
    assert peak < 15e6  # All of it as float32 and float64 would be 115 MB.


def test_nothing_past_the_first_seconds_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    frames = []
    read = soundfile.SoundFile.read

    def counted(file: soundfile.SoundFile, *args: object, **options: object) -> object:
        block = read(file, *args, **options)
        frames.append(len(block))
        return block

    monkeypatch.setattr(soundfile.SoundFile, "read", counted)
    read_audio(encode(tone(20.0), RATE, "FLAC"), max_seconds=2.0)
    assert sum(frames) == 2 * RATE


@pytest.mark.parametrize("seconds", [0.0, -1.0, 0.05, 601.0, np.nan, np.inf])
def test_the_part_to_analyse_must_make_sense(seconds: float) -> None:
    assert "seconds" in refusal(encode(tone(), RATE, "WAV"), max_seconds=seconds)


# Incomplete files.


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.9, 0.6])
def test_a_truncated_file_gives_what_was_read(kind: str, part: float) -> None:
    rate = 16_000
    # Noise fills several pages of OGG.
    source = chirp(12.0, rate) + np.random.default_rng(0).normal(0, 0.05, 12 * rate)
    data = encode(source, rate, kind)
    clip = read_audio(data[: int(part * len(data))])
    assert 3.0 < clip.seconds < 12.0
    (note,) = clip.notes
    assert "incomplete" in note
    assert f"{clip.seconds:.1f} s" in note
    length = len(clip.samples) - rate
    error = clip.samples[:length] - source[:length]
    assert np.sqrt(np.mean(error**2)) < 0.08


@pytest.mark.parametrize("kind", FORMATS)
def test_a_file_of_which_nothing_is_left_is_refused(kind: str) -> None:
    message = refusal(encode(tone(), RATE, kind)[:60])
    assert "incomplete or damaged" in message


def test_a_break_behind_the_first_seconds_does_not_matter() -> None:
    data = encode(chirp(20.0), RATE, "WAV")
    clip = read_audio(data[: len(data) // 2], max_seconds=2.0)
    assert clip.seconds == 2.0
    assert all("incomplete" not in note for note in clip.notes)


def test_a_word_in_a_comment_is_no_chunk() -> None:
    body = pcm(tone())
    plain = wav(body)
    comment = b"LIST" + struct.pack("<I", 16) + b"INFO" + b"data\xff\xff\0\0abcd"
    data = plain[:36] + comment + plain[36:]
    data = data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    assert read_audio(data).notes == ()


@pytest.mark.parametrize("claimed", [0xFFFFFFFF, 0x7FFFFFFF])
def test_a_wav_from_a_pipe_does_not_know_its_length(claimed: int) -> None:
    clip = read_audio(wav(pcm(tone()), claimed=claimed))
    assert clip.seconds == 2.0
    assert clip.notes == ()


# Absurd headers.


@pytest.mark.parametrize("rate", [1, 100, 10_000_000, 2**31 - 1])
def test_absurd_rates_are_refused(rate: int) -> None:
    message = refusal(wav(pcm(tone()), rate=rate))
    assert "samples a second" in message
    assert str(rate) in message


def test_a_rate_of_zero_is_refused() -> None:
    refusal(wav(pcm(tone()), rate=0))


@pytest.mark.parametrize("channels", [33, 1000])
def test_absurdly_many_channels_are_refused(channels: int) -> None:
    message = refusal(wav(bytes(100 * channels * 2), channels=channels))
    assert f"{channels} channels" in message


@pytest.mark.parametrize("channels", [0, 1025, 65_535])
def test_impossible_channels_are_refused(channels: int) -> None:
    refusal(wav(pcm(tone()), channels=channels))


def test_a_flac_that_claims_a_month_is_read_to_its_end() -> None:
    """The 36 bits of STREAMINFO that count the samples (RFC 9639, section 8.2) all set."""
    data = bytearray(encode(chirp(), RATE, "FLAC"))
    data[21] |= 0x0F
    data[22:26] = b"\xff" * 4
    tracemalloc.start()
    try:
        clip = read_audio(bytes(data))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50e6
    assert clip.seconds == pytest.approx(2.0, abs=0.3)
    assert "incomplete" in clip.notes[0]


def test_a_flac_that_does_not_know_its_length_is_whole() -> None:
    data = bytearray(encode(chirp(), RATE, "FLAC"))
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    try:
        clip = read_audio(bytes(data))
    except InputError:
        pytest.skip("this libsndfile reads no FLAC without a length")
    assert clip.seconds == pytest.approx(2.0, abs=0.3)


# Anything else.


def sources() -> list[bytes]:
    stereo = np.stack([chirp(0.5), tone(0.5)], 1)
    return [
        encode(chirp(0.5), RATE, "WAV"),
        encode(stereo, RATE, "WAV", "FLOAT"),
        encode(chirp(0.5), RATE, "WAV", "IMA_ADPCM"),
        encode(stereo, RATE, "RF64"),
        encode(stereo, RATE, "FLAC"),
        encode(chirp(0.5), RATE, "OGG"),
        encode(chirp(0.5, 48_000), 48_000, "OGG", "OPUS"),
        encode(chirp(0.5), RATE, "MP3"),
    ]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(out[: rng.integers(len(out))])
    if kind == 1:  # Flip bits of the header, where rates and counts are.
        for place in rng.integers(0, min(len(out), 80), 3):
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:  # Overwrite anywhere.
        for place in rng.integers(0, len(out), 8):
            out[place] = int(rng.integers(256))
    else:  # Cut a piece out.
        start = int(rng.integers(len(out)))
        del out[start : start + int(rng.integers(1, 60))]
    return bytes(out)


def test_mutated_files_load_or_are_refused() -> None:
    rng = np.random.default_rng(7)
    files = sources()
    for data in files:
        assert read_audio(data).seconds == pytest.approx(0.5, abs=0.1)
    loaded = refused = 0
    for trial, data in enumerate(itertools.islice(itertools.cycle(files), 320)):
        try:
            clip = read_audio(mutated(data, rng))
        except InputError:
            refused += 1
        else:
            assert np.isfinite(clip.samples).all(), trial
            assert np.abs(clip.samples).max() <= 1.0
            assert clip.sample_rate <= 48_000
            loaded += 1
    assert loaded > 30
    assert refused > 30


def test_real_clips_load(data_dir: Path) -> None:
    paths = sorted((data_dir / "esc10").rglob("*.ogg"))[::40] + sorted(
        (data_dir / "speech").rglob("*.wav")
    )
    assert paths
    for path in paths:
        data = path.read_bytes()
        clip = read_audio(data)
        info = soundfile.info(path)
        assert clip.sample_rate == info.samplerate
        assert clip.seconds == pytest.approx(info.duration, abs=0.01)
        assert all("incomplete" not in note for note in clip.notes), path
