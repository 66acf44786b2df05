"""Colours, overlays, files and charts against what they must show."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from PIL import Image

from cnnvis_core.inputs.clip import Clip
from cnnvis_core.jobs import run
from cnnvis_core.occlusion import faithfulness, occlude, occluder_for
from cnnvis_core.render import charts
from cnnvis_core.render.colour import diverging, sequential, symmetric_limit
from cnnvis_core.render.files import occlusion_csv, occlusion_npz, wav
from cnnvis_core.render.pictures import fit, outlined, overlay, png
from tests.support import picture_model, small_network, sound_model


@pytest.fixture(scope="module")
def found():
    model = picture_model(small_network(), (32, 32))
    return run(occlude(model, torch.randn(1, 3, 32, 32), 0, 8, 4))


def lightness(colours):
    linear = (colours / 255.0) ** 2.2
    return linear @ np.array([0.2126, 0.7152, 0.0722])


def test_diverging_colours_are_centred_on_zero_and_keep_the_sign():
    values = np.linspace(-2, 2, 101)[None]
    colours = diverging(values, 2.0)[0].astype(float)
    light = lightness(colours)
    assert light.argmax() in (49, 50, 51)
    assert (np.diff(light[:50]) > 0).all()
    assert (np.diff(light[51:]) < 0).all()
    assert (colours[:40, 2] > colours[:40, 0]).all(), "negative is blue"
    assert (colours[61:, 0] > colours[61:, 2]).all(), "positive is orange"
    np.testing.assert_array_equal(diverging(values * 9, 2.0)[0, 0], colours[0])


def test_sequential_colours_rise_and_missing_numbers_do_not_crash():
    light = lightness(sequential(np.linspace(0, 1, 64)[None], 0, 1)[0].astype(float))
    assert (np.diff(light) >= 0).all()
    assert sequential(np.array([[np.nan, 1.0]]), 0, 1).shape == (1, 2, 3)
    assert symmetric_limit(np.zeros((2, 2))) > 0


def test_an_overlay_colours_only_what_the_network_saw():
    picture = Image.new("RGB", (200, 100), (120, 120, 120))
    heat = np.zeros((8, 8), np.float32)
    heat[:, :4], heat[:, 4:] = 1.0, -1.0
    out = np.asarray(overlay(picture, heat, (50, 0, 150, 100), 1.0, 0.8, side=200), float)
    assert out.shape == (100, 200, 3)
    supports, opposes, border = out[50, 70], out[50, 130], out[50, 10]
    assert supports[0] > supports[2] + 40
    assert opposes[2] > opposes[0] + 40
    assert np.ptp(border) < 3
    none = np.asarray(overlay(picture, heat * 0, (50, 0, 150, 100), 1.0, 0.8, side=200), float)
    assert np.ptp(none[50, 60:140].mean(0)) < 3


def test_pictures_keep_their_proportions():
    assert fit(Image.new("RGB", (4000, 1000)), 900).size == (900, 225)
    assert fit(Image.new("RGB", (40, 10)), 900).size == (40, 10)
    framed = outlined(Image.new("RGB", (32, 32)), (8, 8, 16, 16), (32, 32), 320)
    assert framed.size == (320, 320)
    assert framed.getpixel((81, 120)) != (0, 0, 0)
    assert framed.getpixel((120, 120)) == (0, 0, 0)
    assert Image.open(io.BytesIO(png(framed))).size == (320, 320)


def test_files_hold_the_numbers(found):
    numbers = np.load(io.BytesIO(occlusion_npz(found)))
    np.testing.assert_array_equal(numbers["drop"], found.drop)
    np.testing.assert_array_equal(numbers["heatmap"], found.heatmap)
    assert str(numbers["class_name"]) == found.class_name
    table = pd.read_csv(io.BytesIO(occlusion_csv(found)))
    assert len(table) == found.drop.size
    np.testing.assert_allclose(table["drop"], found.drop.ravel(), rtol=1e-5)
    np.testing.assert_allclose(table["drop"] + table["score"], found.baseline, rtol=1e-4)
    assert table["bottom_px"].max() == 32


def test_a_quiet_sound_stays_quiet():
    quiet = (0.01 * np.sin(np.arange(800) / 10)).astype(np.float32)
    back, rate = soundfile.read(io.BytesIO(wav(quiet, 8000)), dtype="float32")
    assert rate == 8000
    np.testing.assert_allclose(back, quiet, atol=1e-4)


def test_the_tiles_of_a_grid_part_the_picture(found):
    cells = charts._cells(found)
    area = ((cells["x2"] - cells["x"]) * (cells["y2"] - cells["y"])).sum()
    assert area == pytest.approx(32 * 32)
    assert cells["x"].min() == 0
    assert cells["x2"].max() == 32


def test_charts_carry_the_measured_numbers(found):
    spec = charts.picture_grid(found).to_dict()
    rows = next(iter(spec["datasets"].values()))
    np.testing.assert_allclose([row["drop"] for row in rows], found.drop.ravel(), rtol=1e-6)
    bars = charts.top_classes(["a", "b"], [0.75, 0.25], "b").to_dict()
    rows = next(iter(bars["datasets"].values()))
    assert [row["label"] for row in rows] == ["75.0 %", "25.0 %"]
    assert [row["explained"] for row in rows] == [False, True]


def test_the_spectrogram_s_axis_puts_frequencies_where_they_are():
    model = sound_model(small_network(1))
    samples = 0.3 * np.sin(2 * np.pi * 2000 * np.arange(16000) / 8000)
    clip = Clip(samples.astype(np.float32), 8000)
    levels = model.preprocess(clip)[0, 0].numpy()
    centres = model.frontend.mel_centres_hz()
    found = run(occlude(model, clip, 0, (1000.0, 0.5), (500.0, 0.25)))
    chart = charts.occluded_spectrogram(
        levels, model.frontend.frame_seconds(levels.shape[1]), centres, found
    ).to_dict()
    axis = chart["layer"][0]["encoding"]["y"]["axis"]
    place = axis["values"][
        [t for t in charts._TICKS_HZ if centres[0] <= t <= centres[-1]].index(2000)
    ]
    assert abs(place - (levels.mean(1).argmax() + 0.5)) < 1
    assert len(chart["layer"]) == 3


def test_a_frame_on_a_spectrogram_lies_at_its_seconds_and_bands():
    levels, centres = np.zeros((16, 50), np.float32), np.geomspace(50, 4000, 16)
    seconds = 0.016 + 0.016 * np.arange(50)
    chart = charts.spectrogram(levels, seconds, centres, frame=(-3, 10, 4, 99)).to_dict()
    frames = [layer for layer in chart["layer"] if layer["mark"]["type"] == "rect"]
    assert len(frames) == 2
    row = chart["datasets"][frames[0]["data"]["name"]][0]
    assert (row["y"], row["y2"]) == (0, 4)
    # The tenth frame begins half a step before its middle.
    assert row["x"] == pytest.approx(0.016 * 10.5)
    assert row["x2"] == pytest.approx(0.016 * 50.5)


def test_curves_are_drawn_as_measured():
    model = picture_model(small_network(), (32, 32))
    x = torch.randn(1, 3, 32, 32)
    occluder = occluder_for(model, x, 8, 8)
    curves = run(faithfulness(model, occluder, run(occlude(model, x, 0, 8, 8)).heatmap, 0, steps=4))
    rows = next(iter(charts.faithfulness_curves(curves, True).to_dict()["datasets"].values()))
    ours = [row["probability"] for row in rows if row["order"] == "by this map"]
    np.testing.assert_allclose(ours, curves.deletion)
