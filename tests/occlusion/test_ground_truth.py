"""Maps of real networks on material whose answer is known: mosaics and joined clips."""

from __future__ import annotations

import csv

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_core.inputs import Clip, read_audio, read_image
from cnnvis_core.inputs.samples import samples
from cnnvis_core.jobs import run
from cnnvis_core.models import load, load_checkpoint
from cnnvis_core.models.embedded import embedded_ids
from cnnvis_core.occlusion import occlude

SIDE = 112  # of each of the four pictures of a mosaic, in pixels


def square(data: bytes) -> Image.Image:
    picture = read_image(data)
    side = min(picture.size)
    left, top = (picture.width - side) // 2, (picture.height - side) // 2
    return picture.crop((left, top, left + side, top + side)).resize((SIDE, SIDE))


def test_each_class_of_a_mosaic_is_found_in_its_own_quarter(data_dir):
    weights = (data_dir / "weights" / "squeezenet1_0.pth").read_bytes()
    model = load_checkpoint("squeezenet1_0", weights)
    with (data_dir / "images" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    picked = np.random.default_rng(0).permutation(len(rows))[:12]
    shares = []
    for mosaic in picked.reshape(3, 4):
        canvas = Image.new("RGB", (2 * SIDE, 2 * SIDE))
        corners = [(SIDE * (k % 2), SIDE * (k // 2)) for k in range(4)]
        for index, corner in zip(mosaic, corners, strict=True):
            canvas.paste(square((data_dir / "images" / rows[index]["file"]).read_bytes()), corner)
        pixels = torch.from_numpy(np.array(canvas)).permute(2, 0, 1)[None] / 255
        x = model.frontend.normalise(pixels)
        for index, (left, top) in zip(mosaic, corners, strict=True):
            target = int(rows[index]["class_index"])
            mass = run(occlude(model, x, target, 56, 28, score="logit")).positive_mass
            shares.append(mass[top : top + SIDE, left : left + SIDE].sum())
    print(f"mass in the own quarter: mean {np.mean(shares):.3f}, least {min(shares):.3f}")
    assert np.mean(shares) > 0.6
    assert np.mean(np.array(shares) > 0.5) >= 0.8
    assert min(shares) > 0.35, "chance is 0.25"


def loudest(clip: Clip, seconds: float) -> np.ndarray:
    """The loudest stretch of a clip, at a level of -20 dB."""
    length = int(seconds * clip.sample_rate)
    energy = np.convolve(clip.samples.astype(np.float64) ** 2, np.ones(length), "valid")
    start = int(energy[::100].argmax()) * 100
    part = clip.samples[start : start + length]
    return 0.1 * part / part.std()


@pytest.mark.skipif("soundnet-esc10" not in embedded_ids(), reason="no embedded audio network")
def test_each_class_of_joined_clips_is_found_in_its_own_half(data_dir):
    model = load("soundnet-esc10", "cpu")
    with (data_dir / "esc10" / "clips.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    peaks, shares = [], []
    for _ in range(5):
        pair = rng.choice(10, 2, replace=False)
        parts, rate = [], 0
        for label in pair:
            file_name = [r["file"] for r in rows if int(r["label"]) == label][rng.integers(40)]
            clip = read_audio((data_dir / "esc10" / "clips" / file_name).read_bytes())
            parts.append(loudest(clip, 2.5))
            rate = clip.sample_rate
        joined = Clip(np.clip(np.concatenate(parts), -1, 1).astype(np.float32), rate)
        for half, label in enumerate(pair):
            bands = {"patch": (None, 0.5), "stride": (None, 0.25)}
            found = run(occlude(model, joined, int(label), **bands, score="logit"))
            middle = found.heatmap.shape[1] // 2
            peaks.append((found.heatmap[0].argmax() >= middle) == half)
            shares.append(found.positive_mass[:, middle * half : middle * (half + 1)].sum())
    print(f"peaks in the own half: {sum(peaks)} of 10, mass there {np.mean(shares):.3f}")
    assert sum(peaks) >= 9
    assert np.mean(shares) > 0.75


@pytest.mark.skipif("soundnet-esc10" not in embedded_ids(), reason="no embedded audio network")
def test_rain_and_clock_of_our_own_making_are_found_where_they_are():
    model = load("soundnet-esc10", "cpu")
    clips = {s.id: read_audio(s.read()) for s in samples("audio")}
    rain, clock = (loudest(clips[name], 2.5) for name in ("rain", "sea_waves"))
    joined = Clip(np.concatenate([rain, clock]).astype(np.float32), clips["rain"].sample_rate)
    for half, name in enumerate(("rain", "sea waves")):
        found = run(occlude(model, joined, name, (None, 0.5), (None, 0.25), score="logit"))
        middle = found.heatmap.shape[1] // 2
        mass = found.positive_mass[:, middle * half : middle * (half + 1)].sum()
        assert mass > 0.5, (name, mass)
