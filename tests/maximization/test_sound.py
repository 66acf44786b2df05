"""Spectrograms that drive units stay what sounds can be, and can be heard."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import cnnvis_core as cv
from cnnvis_core import maximization as mx
from cnnvis_core.inputs.samples import samples
from cnnvis_core.maximization import climb
from cnnvis_core.maximization.transforms import look
from cnnvis_core.models.levels import levels_of, sound_levels
from tests.support import small_network, sound_model

needs_samples = pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")


@pytest.fixture(scope="module")
def soundnet() -> cv.Model:
    return cv.load("soundnet-esc10")


def test_silence_is_nothing_and_no_sample_is_louder_than_all(soundnet):
    low, high = sound_levels(soundnet.frontend)
    silence = torch.zeros(1, soundnet.frontend.min_samples)
    assert float(soundnet.frontend.spectrogram(silence).max()) == pytest.approx(low, abs=1e-5)
    for sample in samples("audio"):
        levels = soundnet.preprocess(cv.read_audio(sample.read()))
        assert low - 1e-4 <= float(levels.min())
        assert float(levels.max()) <= high + 1e-4


@needs_samples
def test_a_clip_s_spectrogram_sounds_like_the_clip(soundnet):
    for sample in samples("audio")[:3]:
        clip = cv.read_audio(sample.read())
        x = soundnet.preprocess(clip)[..., : soundnet.input_shape[2]]
        picture = levels_of(soundnet).from_input(x)[0]
        np.testing.assert_allclose(
            mx.spectrogram_levels(soundnet, picture.numpy()), x[0, 0].numpy(), atol=1e-4
        )
        again = soundnet.preprocess(mx.listen(soundnet, picture.numpy()))
        frames = min(x.shape[3], again.shape[3])
        both = np.corrcoef(x[0, 0, :, :frames].ravel(), again[0, 0, :, :frames].ravel())
        assert both[0, 1] > 0.85
        assert int(soundnet.predict(again).argmax()) == int(soundnet.predict(x).argmax())


def test_the_same_picture_sounds_the_same_and_is_never_too_loud(soundnet):
    picture = np.ones((1, 64, 100), np.float32)
    first, second = (mx.listen(soundnet, picture) for _ in range(2))
    np.testing.assert_array_equal(first.samples, second.samples)
    assert np.abs(first.samples).max() <= 0.9 + 1e-6
    assert first.sample_rate == soundnet.frontend.sample_rate
    assert first.seconds == pytest.approx(99 * soundnet.frontend.hop / first.sample_rate, abs=0.05)


def test_a_class_s_picture_is_heard_as_the_class(soundnet):
    targets = [0, 1, 2]
    objective = mx.classes(soundnet, targets)
    found = cv.run(cv.maximize(soundnet, steps=64, objective=objective))
    assert found.images.shape == (3, *soundnet.input_shape)
    assert 0 <= float(found.images.min()) <= float(found.images.max()) <= 1
    heard = [
        int(soundnet.predict(soundnet.preprocess(mx.listen(soundnet, image.numpy()))).argmax())
        for image in found.images
    ]
    assert heard == targets


def test_a_sound_is_shifted_in_time_and_hardly_in_pitch(monkeypatch):
    views, extents = [], []

    def watched(images, view, extent, *rest):
        views.append(view)
        extents.append(extent)
        return look(images, view, extent, *rest)

    monkeypatch.setattr(climb, "look", watched)
    model = sound_model(small_network(1))
    found = cv.run(cv.maximize(model, steps=40, objective=mx.classes(model, 1)))
    assert found.images.shape == (1, 1, 16, 63)
    assert set(extents) == {(16, 63)}
    assert all(view.scale == 1 and view.degrees == 0 for view in views)
    assert 0.5 < max(abs(view.down) for view in views) <= 1
    assert 2 < max(abs(view.right) for view in views) <= mx.Transforms().jitter


def test_pictures_cannot_be_heard():
    model = cv.from_module(small_network(), (3, 32, 32))
    with pytest.raises(cv.ModelError, match="no network for sound"):
        mx.listen(model, np.zeros((3, 8, 8), np.float32))
