"""The page that draws what units look for, without a browser."""

from __future__ import annotations

import numpy as np
import pytest

from cnnvis_core.inputs.samples import samples
from tests.pages.test_pages import captions, open_page, picture_file
from tests.pages.test_unit_pages import subheaders

QUICK = {"steps-lucid": "16", "steps-all": "16", "layer": "stem.0", "non-linearity": "Before"}


def shown(app) -> str:
    assert not app.exception
    assert not app.error
    return subheaders(app) + "\n" + captions(app)


def test_a_visitor_meets_a_texture_first():
    app = open_page("maximize", **{"steps-lucid": "16"})
    assert "What drives unit 0 of stages.2" in shown(app)
    assert "the network's own unit" in captions(app)


def test_a_unit_is_drawn_at_once_with_its_matrix_and_frames():
    app = open_page("maximize", **{**QUICK, "layer": "stages.0.0.conv2", "unit": "3"})
    text = shown(app)
    assert "What drives unit 3 of stages.0.0.conv2?" in text
    for part in ("Start", "Map at the start", "Map at the end", "of the picture itself it was"):
        assert part in text
    frames = next(s for s in app.select_slider if s.label == "Step")
    assert frames.options[0] == "0"
    assert frames.value == 16
    frames.set_value(frames.options[1]).run()
    assert "Map at the end" in shown(app)


@pytest.mark.parametrize(
    ("draw", "said"),
    [
        ("One place of a unit", "one place of unit 0 of stem.0"),
        ("Several pictures of a unit", "4 of 4 pictures are finished"),
        ("Units together", "all units of stem.0 together"),
        ("A class", "“"),
        ("The layer's energy (deep dream)", "stem.0 as a whole"),
        ("What the layer makes of your input", "in the direction of your input"),
        ("All units of a layer", "32 of 32 pictures are finished"),
        ("Several units", "8 of 8 pictures are finished"),
    ],
)
def test_everything_that_can_be_drawn_is(draw, said):
    app = open_page("maximize", draw=draw, **QUICK)
    assert said in shown(app)


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
@pytest.mark.parametrize("draw", ["A class", "One unit", "The layer's energy (deep dream)"])
def test_sounds_are_drawn_and_heard(draw):
    app = open_page("maximize", kind="Sound", draw=draw, **QUICK)
    assert "The network hears" in shown(app)


def test_a_manner_brings_its_own_parameters_and_each_can_be_changed():
    app = open_page("maximize", **QUICK)
    assert app.number_input(key="rate-lucid").value == pytest.approx(0.05)
    app.selectbox(key="manner").set_value("Erhan 2009").run()
    assert app.selectbox(key="parameterisation-erhan").value == "Pixels"
    assert app.number_input(key="norm-erhan").value == pytest.approx(12.0)
    before = shown(app)
    app.number_input(key="norm-erhan").set_value(3.0).run()
    assert shown(app) != before
    app.selectbox(key="manner").set_value("NeuroVis, pixel").run()
    assert "one place of unit 0" in shown(app)


def test_a_minimum_is_asked_for_in_other_words():
    app = open_page("maximize", towards="Minimum", **QUICK)
    assert "What silences unit 0 of stem.0?" in shown(app)


def test_the_own_picture_can_be_the_start():
    app = open_page("maximize", start="Your input", **QUICK)
    before = shown(app)
    app.file_uploader(key="upload-image").upload("mine.png", picture_file(), "image/png").run()
    assert shown(app) != before


def test_results_are_kept_while_a_visitor_looks_around():
    app = open_page("maximize", **QUICK)
    first = next(s.value for s in app.caption if "of the picture itself" in s.value)
    app.number_input(key="seed").set_value(4).run()
    other = next(s.value for s in app.caption if "of the picture itself" in s.value)
    app.number_input(key="seed").set_value(0).run()
    again = next(s.value for s in app.caption if "of the picture itself" in s.value)
    assert first == again != other


def test_nonsense_in_a_link_opens_the_page_all_the_same():
    app = open_page(
        "maximize", draw="A unicorn", manner="Crayons", seed="-3", layer="nowhere",
        unit="900",
    )  # fmt: skip
    assert "What drives unit 0 of" in shown(app)
    assert np.isfinite(app.number_input(key="seed").value)
