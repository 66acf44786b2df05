from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file
from torch import nn

from cnnvis_core.errors import ModelError
from cnnvis_core.inputs.clip import Clip
from cnnvis_core.models.logmel import LogMel
from cnnvis_core.models.soundnet import SoundNet, split, window_weights
from training.make_clips import CLIPS, RATE, STEP, make

ROOT = Path(__file__).resolve().parents[2]
WEIGHTS = ROOT / "assets" / "models" / "soundnet-esc10.safetensors"
SAMPLES = {
    "clock_tick": "clock tick",
    "rain": "rain",
    "sea_waves": "sea waves",
    "crackling_fire": "crackling fire",
    "rooster": "rooster",
}


@pytest.fixture(scope="module")
def card() -> dict:
    return json.loads(WEIGHTS.with_suffix(".json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def shipped(card) -> SoundNet:
    module = SoundNet(**card["architecture"]["kwargs"]).eval()
    module.load_state_dict(load_file(WEIGHTS), strict=True)
    return module


@pytest.fixture(scope="module")
def frontend(card) -> LogMel:
    return LogMel(**card["frontend"])


@pytest.fixture(scope="module")
def small() -> SoundNet:
    torch.manual_seed(0)
    return SoundNet(classes=4, widths=(4, 6, 8), depth=1, frames=40).eval()


def read(path: Path) -> Clip:
    samples, rate = sf.read(path, dtype="float32")
    return Clip(samples, rate)


def probabilities(module: SoundNet, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return module(x).softmax(1)


def test_shapes(small):
    for frames in (40, 41, 59, 60, 61, 173):
        assert small(torch.randn(3, 1, 64, frames)).shape == (3, 4)
    assert SoundNet(classes=7, channels=2).eval()(torch.randn(1, 2, 64, 313)).shape == (1, 7)


def test_too_few_frames_are_refused(small):
    with pytest.raises(ModelError, match="at least 40 frames"):
        small(torch.randn(1, 1, 64, 39))


def test_windows_cover_everything_and_the_last_ends_with_the_sound():
    x = torch.arange(103.0).expand(2, 1, 3, 103)
    windows = split(x, 40, 20)
    assert windows.shape == (2, 5, 1, 3, 40)
    assert windows[0, :, 0, 0, 0].tolist() == [0, 20, 40, 60, 63]
    assert windows[0, -1, 0, 0, -1] == 102
    assert split(x[..., :40], 40, 20).shape[1] == 1
    assert split(x[..., :80], 40, 20)[0, :, 0, 0, 0].tolist() == [0, 20, 40]


def test_long_sounds_by_hand(small):
    x = torch.randn(2, 1, 64, 50, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        logits = [small(x[..., :40]), small(x[..., 10:])]
        got = small(x)
    for row in range(2):
        level = [x[row, 0, :, a : a + 40].mean(0).max().item() for a in (0, 10)]
        weight = np.exp(4.0 * np.array(level))
        weight /= weight.sum()
        expected = weight[0] * logits[0][row] + weight[1] * logits[1][row]
        torch.testing.assert_close(got[row], expected, atol=1e-5, rtol=1e-4)


def test_rows_of_a_batch_do_not_mix(small):
    x = torch.randn(3, 1, 64, 70, generator=torch.Generator().manual_seed(4))
    with torch.no_grad():
        together = small(x)
        for row in range(3):
            torch.testing.assert_close(small(x[row : row + 1])[0], together[row])


def test_a_loud_moment_outweighs_silence():
    windows = torch.full((1, 5, 1, 8, 40), -1.6)
    windows[0, 2, 0, :, 7] = 0.5
    weights = window_weights(windows, 4.0)
    assert weights.sum().item() == pytest.approx(1.0)
    assert weights[0, 2] > 0.99


def test_the_network_can_be_looked_into():
    module = SoundNet()
    kinds = {type(part) for part in module.modules() if not list(part.children())}
    assert kinds == {nn.Conv2d, nn.BatchNorm2d, nn.ReLU, nn.MaxPool2d, nn.Dropout, nn.Linear}
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    activations = [part for part in module.modules() if isinstance(part, nn.ReLU)]
    assert len(activations) == len(convolutions)
    assert not any(part.inplace for part in activations)
    assert all(part.groups == 1 and part.dilation == (1, 1) for part in convolutions)
    assert min(convolutions[0].kernel_size) >= 5


def test_the_card_says_what_is_shipped(card, shipped):
    assert WEIGHTS.stat().st_size == card["bytes"] <= 6_000_000
    assert sum(p.numel() for p in shipped.parameters()) == card["parameters"] <= 3_000_000
    assert card["input_shape"] == [1, card["frontend"]["n_mels"], shipped.frames]
    assert len(card["classes"]) == shipped.fc.out_features == 10
    state = load_file(WEIGHTS)
    floats = [value for value in state.values() if value.is_floating_point()]
    assert all(value.dtype == torch.float16 and value.isfinite().all() for value in floats)


def test_the_accuracy_is_that_of_the_log_and_good_enough(card):
    with (ROOT / card["accuracy_log"]).open() as file:
        rows = [row for row in csv.DictReader(file) if row["epoch"] == row["epochs"]]
    folds = {row["fold"]: row for row in rows}
    assert set(folds) == {"1", "2", "3", "4", "5", "all"}
    scores = [float(folds[fold]["accuracy"]) for fold in "12345"]
    assert card["accuracy"]["folds"] == scores
    assert card["accuracy"]["mean"] == pytest.approx(np.mean(scores), abs=0.01)
    assert card["accuracy"]["mean"] >= 88
    assert all(int(folds[fold]["clips"]) == 320 for fold in "12345")


@pytest.mark.parametrize("name", SAMPLES)
def test_names_the_synthesised_samples(name, shipped, frontend, card):
    path = ROOT / "assets" / "samples" / f"{name}.flac"
    assert path.stat().st_size < 200_000
    clip = read(path)
    assert clip.seconds == 5.0
    p = probabilities(shipped, frontend(clip))[0]
    assert card["classes"][int(p.argmax())] == SAMPLES[name]
    assert p.max() > 0.6


@pytest.mark.parametrize("name", SAMPLES)
def test_names_one_event_in_a_long_silence(name, shipped, frontend, card):
    clip = read(ROOT / "assets" / "samples" / f"{name}.flac")
    quiet = np.zeros(clip.sample_rate * 20, np.float32)
    start = 7 * clip.sample_rate
    quiet[start : start + len(clip.samples)] = clip.samples
    p = probabilities(shipped, frontend(Clip(quiet, clip.sample_rate)))[0]
    assert card["classes"][int(p.argmax())] == SAMPLES[name]


def test_the_two_halves_of_the_joined_sample(shipped, frontend, card):
    clip = read(ROOT / "assets" / "samples" / "rain_then_clock.flac")
    half = len(clip.samples) // 2
    for part, name in ((clip.samples[:half], "rain"), (clip.samples[half:], "clock tick")):
        p = probabilities(shipped, frontend(Clip(np.tile(part, 2), clip.sample_rate)))[0]
        assert card["classes"][int(p.argmax())] == name


@pytest.mark.parametrize("name", CLIPS)
def test_samples_are_what_the_script_makes(name):
    samples, rate = sf.read(ROOT / "assets" / "samples" / f"{name}.flac", dtype="float64")
    assert rate == RATE
    assert 0.01 < np.sqrt(np.mean(samples**2)) < 0.3
    # Another processor's Fourier transform may round a sample to the neighbouring step.
    np.testing.assert_allclose(samples, make(name), atol=1.01 * STEP)


def test_survives_another_rate_and_level(shipped, frontend, card):
    """A softer copy at 44.1 kHz, as another recorder would write it, keeps its name."""
    import soxr

    clip = read(ROOT / "assets" / "samples" / "rooster.flac")
    other = soxr.resample(clip.samples, clip.sample_rate, 44100).astype(np.float32)
    p = probabilities(shipped, frontend(Clip(other * 0.3, 44100)))[0]
    assert card["classes"][int(p.argmax())] == "rooster"


def test_real_clips(shipped, frontend, data_dir):
    """The shipped weights were trained on these clips: this checks loading, not accuracy."""
    with (data_dir / "esc10" / "clips.csv").open() as file:
        rows = list(csv.DictReader(file))[::7]
    assert len(rows) >= 57
    clips = [read(data_dir / "esc10" / "clips" / row["file"]) for row in rows]
    x = torch.cat([frontend(clip)[..., : shipped.frames] for clip in clips])
    right = probabilities(shipped, x).argmax(1) == torch.tensor([int(r["label"]) for r in rows])
    assert right.float().mean() > 0.9
