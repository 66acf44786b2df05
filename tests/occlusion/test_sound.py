"""Occlusion of sound: what is covered, what is heard, and what the network is given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from cnnvis_core.errors import InputError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.jobs import run
from cnnvis_core.occlusion import default_sound_patch, occlude, occluder_for
from tests.support import small_network, sound_model

RATE = 8000
HALF_WINDOW = 128


def tone(hz, seconds=2.0, level=0.3):
    return level * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE)) / RATE)


def clip_of(samples):
    return Clip(samples.astype(np.float32), RATE)


@pytest.fixture
def model():
    return sound_model(small_network(1))


@pytest.fixture
def noise_clip():
    return clip_of(0.1 * np.random.default_rng(0).normal(size=2 * RATE))


def decibels(signal, reference):
    return 10 * np.log10((np.square(signal).mean() + 1e-20) / np.square(reference).mean())


def test_a_covered_stretch_of_time_is_silent_and_the_rest_untouched(model, noise_clip):
    occluder = occluder_for(model, noise_clip, (None, 0.5), (None, 0.5))
    heard = occluder.covered_samples((0, 1)).numpy()
    begin, end = RATE // 2, RATE
    assert np.abs(heard[begin + HALF_WINDOW : end - HALF_WINDOW]).max() < 1e-6
    np.testing.assert_allclose(
        heard[: begin - HALF_WINDOW], noise_clip.samples[: begin - HALF_WINDOW], atol=1e-6
    )
    np.testing.assert_allclose(
        heard[end + HALF_WINDOW :], noise_clip.samples[end + HALF_WINDOW :], atol=1e-6
    )


def test_a_covered_band_loses_its_tone_and_keeps_the_other(model):
    low, high = tone(500), tone(2500)
    occluder = occluder_for(model, clip_of(low + high), (1000.0, None), (1000.0, None))
    assert occluder.grid.shape == (4, 1)
    heard = occluder.covered_samples((2, 0)).numpy()
    inner = slice(HALF_WINDOW * 4, -HALF_WINDOW * 4)
    assert decibels(heard[inner] - low[inner], high[inner]) < -40


@pytest.mark.parametrize(
    ("patch", "stride"),
    [
        ((None, 0.25), (None, 0.25)),
        ((500.0, None), (500.0, None)),
        ((1000.0, 0.5), (1000.0, 0.5)),
        ((None, None), (None, None)),
        ((900.0, 0.3), (900.0, 0.3)),
    ],
)
def test_what_disjoint_patches_take_away_adds_up_to_the_clip(model, noise_clip, patch, stride):
    occluder = occluder_for(model, noise_clip, patch, stride)
    rows, cols = occluder.grid.shape
    cells = [(i, j) for i in range(rows) for j in range(cols)]
    taken = sum(occluder.samples - occluder.covered_samples(cell) for cell in cells)
    np.testing.assert_allclose(taken.numpy(), noise_clip.samples, atol=2e-6)


def test_masks_of_nothing_and_of_everything(model, noise_clip):
    occluder = occluder_for(model, noise_clip)
    shape = occluder.clean().shape[2:]
    nothing = occluder.masked_samples(np.zeros(shape, bool))
    np.testing.assert_array_equal(nothing.numpy(), noise_clip.samples)
    everything = occluder.masked_samples(np.ones(shape, bool))
    assert everything.abs().max() < 1e-6


def test_a_mask_and_a_patch_over_the_same_place_agree(model):
    low, high = tone(500), tone(2500)
    occluder = occluder_for(model, clip_of(low + high), (1000.0, None), (1000.0, None))
    centres = occluder.frontend.mel_centres_hz()
    mask = np.repeat((centres >= 1500)[:, None], occluder.clean().shape[-1], 1)
    heard = occluder.masked_samples(mask).numpy()
    inner = slice(HALF_WINDOW * 4, -HALF_WINDOW * 4)
    assert decibels(heard[inner] - low[inner], high[inner]) < -40


def test_the_mean_fill_has_the_clip_s_mean_spectrum(model):
    samples = tone(1000) + 0.01 * np.random.default_rng(0).normal(size=2 * RATE)
    occluder = occluder_for(model, clip_of(samples), (None, None), (None, None), "mean")
    heard = occluder.covered_samples((0, 0)).numpy()
    spectra = [np.abs(np.fft.rfft(s)) ** 2 for s in (samples, heard)]
    hz = np.fft.rfftfreq(2 * RATE, 1 / RATE)
    for low, high in ((900, 1100), (2000, 2500), (3000, 3500)):
        band = (hz >= low) & (hz < high)
        ratio = 10 * np.log10(spectra[1][band].sum() / spectra[0][band].sum())
        assert abs(ratio) < 2.5, (low, ratio)
    assert abs(np.corrcoef(samples, heard)[0, 1]) < 0.2


@pytest.mark.parametrize(("fill", "rms_db"), [("noise", None), (-30.0, -30.0), (-60, -60.0)])
def test_noise_has_the_stated_level(model, noise_clip, fill, rms_db):
    occluder = occluder_for(model, noise_clip, (None, None), (None, None), fill)
    heard = occluder.covered_samples((0, 0)).numpy()
    expected = 20 * np.log10(noise_clip.samples.std()) if rms_db is None else rms_db
    assert abs(20 * np.log10(heard.std()) - expected) < 0.3


def test_what_is_heard_is_what_the_network_is_given(model, noise_clip):
    occluder = occluder_for(model, noise_clip, (1000.0, 0.5), (500.0, 0.25), "mean")
    cell = (2, 3)
    heard = Clip(occluder.covered_samples(cell).numpy(), RATE)
    np.testing.assert_allclose(model.preprocess(heard), occluder.covered([cell]), atol=1e-4)


class BandLevel(nn.Module):
    """Class 1 rises with the power in the upper half of the spectrum."""

    def forward(self, x):
        power = (x[:, 0, 8:] / 4).exp().mean((1, 2))
        return torch.stack([torch.zeros_like(power), power], 1)


def test_maps_of_a_network_that_listens_to_high_tones():
    model = sound_model(BandLevel(), classes=2)
    samples = np.concatenate([tone(300, 1.0), tone(3000, 1.0)])
    clip = clip_of(samples)
    in_time = run(occlude(model, clip, 1, (None, 0.25), (None, 0.25), score="logit"))
    assert in_time.drop.shape == (1, 8)
    assert in_time.drop[0, 4:].min() > 10 * np.abs(in_time.drop[0, :3]).max()
    in_frequency = run(occlude(model, clip, 1, (500.0, None), (500.0, None), score="logit"))
    # 3000 Hz lies on the border of two bands.
    assert set(np.argsort(-in_frequency.drop[:, 0])[:2]) == {5, 6}
    both = run(occlude(model, clip, 1, (1000.0, 0.5), (500.0, 0.25), score="logit"))
    row, col = np.unravel_index(both.heatmap.argmax(), both.heatmap.shape)
    hz = model.frontend.mel_centres_hz()[row]
    seconds = model.frontend.frame_seconds(both.heatmap.shape[1])[col]
    assert 2000 < hz < 4000
    assert seconds > 1


def test_the_grid_reaches_the_end_of_the_clip_and_not_its_padding(model):
    clip = clip_of(tone(500, 0.3))
    found = run(occlude(model, clip, 0))
    assert found.grid.cols.ends[-1] == pytest.approx(0.3)
    frames = model.frontend.frame_seconds(found.heatmap.shape[1])
    assert (found.heatmap[:, frames > 0.35] == 0).all()


def test_the_table_names_hz_and_seconds(model, noise_clip):
    table = run(occlude(model, noise_clip, 0, (1000.0, 0.5), (500.0, 0.25))).table()
    assert {"low_Hz", "high_Hz", "start_s", "end_s", "drop", "score"} <= set(table.columns)
    assert (table["high_Hz"] > table["low_Hz"]).all()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"patch": 32}, r"\(Hz, seconds\)"),
        ({"patch": (None, -1.0)}, "above 0"),
        ({"patch": (None, 0.1), "stride": (None, 0.2)}, "gaps"),
        ({"patch": (None, float("nan"))}, "above 0"),
        ({"patch": (None, 1e-9)}, "positions"),
        ({"fill": "pink"}, "not known"),
        ({"fill": 6.0}, "not known"),
    ],
)
def test_bad_settings_get_one_sentence(model, noise_clip, arguments, words):
    with pytest.raises(InputError, match=words):
        occlude(model, noise_clip, 0, **arguments)


def test_a_picture_is_no_sound(model):
    with pytest.raises(InputError, match="Clip"):
        occlude(model, torch.zeros(1, 1, 16, 63))


def test_defaults_exist_for_every_mode():
    for mode in ("time", "frequency", "time x frequency"):
        patch, stride = default_sound_patch(mode, 5.0)
        for size, step in zip(patch, stride, strict=True):
            assert (size is None) == (step is None)
            assert size is None or 0 < step <= size
    with pytest.raises(InputError):
        default_sound_patch("colour", 5.0)
