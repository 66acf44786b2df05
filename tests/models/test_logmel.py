from __future__ import annotations

import math
from dataclasses import replace

import librosa
import numpy as np
import pytest
import torch

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.yamnet import yamnet_frontend

PLAIN = LogMel(
    sample_rate=16000,
    window=512,
    hop=256,
    n_fft=512,
    n_mels=40,
    fmin=50.0,
    fmax=8000.0,
    offset=1e-5,
    mean=-5.0,
    std=4.0,
    min_seconds=0.5,
)


def noise(seconds: float, rate: int, seed: int = 0) -> Clip:
    samples = np.random.default_rng(seed).standard_normal(int(seconds * rate)) * 0.1
    return Clip(samples.astype(np.float32), rate)


def sine(hz: float, seconds: float, rate: int) -> Clip:
    t = np.arange(int(seconds * rate)) / rate
    return Clip((0.5 * np.sin(2 * np.pi * hz * t)).astype(np.float32), rate)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("formula", ["slaney", "htk"])
@pytest.mark.parametrize(
    ("rate", "window", "n_fft", "hop", "bands", "low", "high"),
    [(32000, 1024, 1024, 512, 64, 50, 14000), (16000, 400, 512, 160, 40, 0, 8000)],
)
def test_equals_librosa(power, formula, rate, window, n_fft, hop, bands, low, high):
    frontend = LogMel(
        rate, window, hop, n_fft, bands, low, high, 1e-5, -5.0, 4.0, power, formula, True, 0.5
    )
    clip = noise(0.7, rate)
    mel = librosa.feature.melspectrogram(
        y=clip.samples,
        sr=rate,
        n_fft=n_fft,
        win_length=window,
        hop_length=hop,
        center=True,
        pad_mode="constant",
        power=power,
        n_mels=bands,
        fmin=low,
        fmax=high,
        htk=formula == "htk",
        norm="slaney",
    )
    expected = (np.log(mel + 1e-5) + 5.0) / 4.0
    got = frontend(clip)
    assert got.dtype == torch.float32
    assert got.shape == (1, 1, *expected.shape)
    assert got.shape[-1] == frontend.frames(len(clip.samples))
    np.testing.assert_allclose(got[0, 0].numpy(), expected, atol=2e-4)


def test_tensorflow_formula_by_hand():
    """Each number of the spectrogram of YAMNet from its written definition, loop by loop."""
    frontend = yamnet_frontend()
    clip = noise(1.0, 16000)
    got = frontend(clip)[0, 0].numpy()
    assert got.shape == (64, 98)

    def mel(hz: float) -> float:
        return 1127.0 * math.log(1.0 + hz / 700.0)

    corners = np.linspace(mel(125.0), mel(7500.0), 66)
    for frame in (0, 17, 97):
        window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
        piece = clip.samples[160 * frame : 160 * frame + 400] * window
        size = np.abs(np.fft.rfft(np.pad(piece, (0, 112))))
        for band in (0, 5, 40, 63):
            total = 0.0
            for k in range(1, 257):
                place = mel(k * 16000 / 512)
                up = (place - corners[band]) / (corners[band + 1] - corners[band])
                down = (corners[band + 2] - place) / (corners[band + 2] - corners[band + 1])
                total += max(0.0, min(up, down)) * size[k]
            assert got[band, frame] == pytest.approx(math.log(total + 0.001), abs=1e-4)


@pytest.mark.parametrize("frontend", [PLAIN, replace(yamnet_frontend(), min_seconds=0.5)])
def test_a_change_stays_in_the_frames_that_hear_it(frontend):
    samples = torch.from_numpy(noise(1.0, 16000).samples)[None]
    begin, end = 5000, 7000
    changed = samples.clone()
    changed[:, begin:end] = 0
    before, after = frontend.spectrogram(samples), frontend.spectrogram(changed)
    half = frontend.window // 2 if frontend.centred else 0
    first = np.arange(before.shape[-1]) * frontend.hop - half
    hears = (first < end) & (first + frontend.window > begin)
    same = (before == after).all(dim=2)[0, 0].numpy()
    assert same[~hears].all()
    inside = (first >= begin - frontend.window // 2) & (first + frontend.window // 2 <= end)
    assert inside.any()
    assert not same[inside].any()


def test_louder_clip_changes_only_its_level():
    """Nothing is normalised per clip: ten times the amplitude is ln(100) more everywhere."""
    clip = noise(1.0, 16000)
    louder = Clip(clip.samples * 10, 16000)
    difference = PLAIN(louder) - PLAIN(clip)
    assert difference.median().item() == pytest.approx(math.log(100) / PLAIN.std, abs=0.01)


def test_call_is_spectrogram_of_resampled_and_batches_agree():
    clips = [noise(1.0, 44100, seed) for seed in range(3)]
    waves = torch.stack([PLAIN.resample(clip) for clip in clips])
    together = PLAIN.spectrogram(waves)
    assert together.shape == (3, 1, 40, PLAIN.frames(waves.shape[1]))
    for clip, wave, row in zip(clips, waves, together, strict=True):
        single = PLAIN(clip)
        assert torch.equal(single, PLAIN.spectrogram(wave[None]))
        torch.testing.assert_close(single[0], row, atol=1e-5, rtol=0)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000, 192000])
def test_resampling_keeps_the_tone(rate):
    wave = PLAIN.resample(sine(1000, 1.0, rate)).numpy()
    assert abs(len(wave) - 16000) <= 1
    t = np.arange(len(wave)) / 16000
    middle = slice(1000, 15000)
    expected = 0.5 * np.sin(2 * np.pi * 1000 * t)
    np.testing.assert_allclose(wave[middle], expected[middle], atol=2e-3)


def test_resampling_removes_what_would_fold_back():
    wave = PLAIN.resample(sine(11000, 1.0, 44100)).numpy()
    assert np.abs(wave[1000:15000]).max() < 1e-3


def test_short_clips_are_padded_with_silence_at_the_end():
    clip = noise(0.2, 16000)
    wave = PLAIN.resample(clip)
    assert wave.shape == (8000,)
    assert torch.equal(wave[:3200], torch.from_numpy(clip.samples))
    assert not wave[3200:].any()
    silence = (math.log(1e-5) + 5) / 4
    assert PLAIN(clip)[..., -5:].numpy() == pytest.approx(silence, abs=1e-5)
    assert wave.dtype == torch.float32


def test_the_clip_is_not_changed():
    clip = noise(1.0, 16000)
    kept = clip.samples.copy()
    PLAIN.resample(clip).zero_()
    np.testing.assert_array_equal(clip.samples, kept)


def test_axes_say_where_a_click_and_a_tone_are():
    samples = torch.zeros(1, 16000)
    samples[0, 8000] = 1.0
    picture = PLAIN.spectrogram(samples)[0, 0]
    seconds = PLAIN.frame_seconds(picture.shape[-1])
    assert seconds[picture.mean(0).argmax()] == pytest.approx(0.5, abs=0.5 * 256 / 16000)
    late = replace(yamnet_frontend(), min_seconds=0.5)
    picture = late.spectrogram(samples)[0, 0]
    loudest = late.frame_seconds(picture.shape[-1])[picture.mean(0).argmax()]
    assert loudest == pytest.approx(0.5, abs=0.5 * 160 / 16000)

    centres, edges = PLAIN.mel_centres_hz(), PLAIN.mel_edges_hz()
    assert centres.shape == (40,)
    assert edges.shape == (41,)
    assert (edges[:-1] < centres).all()
    assert (centres < edges[1:]).all()
    for hz in (300.0, 1000.0, 3000.0):
        band = int(PLAIN(sine(hz, 1.0, 16000))[0, 0].mean(1).argmax())
        assert edges[band] <= hz <= edges[band + 1]


@pytest.mark.parametrize("wrong", [None, "a.wav", np.zeros(8000, np.float32), torch.zeros(8000)])
def test_refuses_what_is_no_clip(wrong):
    with pytest.raises(InputError, match="sound"):
        PLAIN(wrong)


def test_refuses_empty_and_short():
    with pytest.raises(InputError):
        PLAIN(Clip(np.zeros(0, np.float32), 16000))
    with pytest.raises(InputError, match=r"0\.5 s"):
        PLAIN.spectrogram(torch.zeros(2, 7999))


@pytest.mark.parametrize(
    "change",
    [
        {"fmax": 9000.0},
        {"fmin": 8000.0},
        {"n_fft": 256},
        {"hop": 0},
        {"offset": 0.0},
        {"std": 0.0},
        {"min_seconds": 0.01},
        {"formula": "bark"},
    ],
)
def test_refuses_contradictory_settings(change):
    with pytest.raises(ModelError):
        replace(PLAIN, **change)
