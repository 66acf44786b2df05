"""The pages about layers and units, without a browser."""

from __future__ import annotations

import io

import numpy as np
import pytest
import soundfile

from cnnvis_core.inputs.samples import samples
from tests.pages.test_pages import captions, errors, open_page, picture_file


def subheaders(app) -> str:
    return "\n".join(header.value for header in app.subheader)


def test_kernels_of_the_first_layer_are_shown_in_colour_at_once():
    app = open_page("kernels")
    assert "32 kernels of stem.0" in subheaders(app)
    assert app.selectbox(key="view-colour").value == "Red, green and blue"
    assert "7 × 7 px, each reads all 3 inputs" in captions(app)
    assert not app.error


def test_a_deeper_layer_shows_slices_and_keeps_its_choice_on_other_pages():
    app = open_page("kernels")
    app.selectbox(key="layer").set_value("stages.2.0.conv1").run()
    app.number_input(key="unit").set_value(5).run()
    assert "128 kernels of stages.2.0.conv1" in subheaders(app)
    assert app.number_input(key="unit").value == 5
    assert "Kernel 5" in subheaders(app)
    app.selectbox(key="kernel-order").set_value("similarity").run()
    assert not app.exception
    app.switch_page("pages/feature_maps.py").run()
    assert app.selectbox(key="layer").value == "stages.2.0.conv1"
    assert "Unit 5" in subheaders(app)
    assert not app.exception
    # A layer without kernels leads to the convolution before it.
    app.selectbox(key="layer").set_value("stages.1.0.relu2").run()
    app.switch_page("pages/kernels.py").run()
    assert app.selectbox(key="layer").value.startswith("stages.1.0.")
    assert not app.exception


def test_a_unit_that_a_smaller_layer_lacks_gives_way():
    app = open_page("kernels", layer="stages.3.0.conv1", unit="300")
    assert app.number_input(key="unit").value == 300
    app.selectbox(key="layer").set_value("stem.0").run()
    assert not app.exception
    assert app.number_input(key="unit").value == 0


def test_one_scale_is_said_in_numbers():
    app = open_page("kernels")
    next(c for c in app.segmented_control if c.key == "scale").set_value("All the same").run()
    assert "for all" in captions(app)
    assert not app.exception


def test_feature_maps_are_those_of_the_input():
    app = open_page("feature_maps")
    assert "32 maps of stem.0" in subheaders(app)
    assert "32 × 32 positions a unit, behind the non-linearity" in captions(app)
    before = [m.value for m in app.markdown if "**Maximum**" in m.value]
    app.file_uploader(key="upload-image").upload("mine.png", picture_file(), "image/png").run()
    assert [m.value for m in app.markdown if "**Maximum**" in m.value] != before
    next(c for c in app.segmented_control if c.key == "non-linearity").set_value("Before").run()
    assert "before the non-linearity" in captions(app)
    assert not errors(app)
    assert not app.exception


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_what_a_unit_heard_is_played():
    app = open_page("feature_maps", kind="Sound")
    assert not app.exception
    assert "What this unit heard" in captions(app) or "nothing to play" in captions(app)
    assert "what its strongest place sees" in captions(app)


def test_gradients_stand_beside_occlusion_with_scores():
    app = open_page("gradients")
    shown = captions(app)
    assert "Completeness gap" in shown
    assert shown.count("Deletion 0.") == 4
    assert not app.error
    app.toggle(key="shuffled").set_value(True).run()
    assert "rank correlation" in captions(app)
    assert not app.exception


def test_a_unit_is_explained_too():
    app = open_page("gradients", explain="A unit", layer="stages.1.0.conv1", unit="7")
    assert "unit 7 of stages.1.0.conv1" in subheaders(app)
    assert captions(app).count("in activation") == 4
    assert not app.exception


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_gradients_of_a_sound():
    app = open_page("gradients", kind="Sound")
    assert "Completeness gap" in captions(app)
    assert not app.error
    assert not app.exception


@pytest.mark.parametrize("name", ["kernels", "feature_maps", "gradients"])
def test_nonsense_in_a_link_opens_the_page_all_the_same(name):
    app = open_page(name, layer="nowhere", unit="-7", scale="Luck")
    assert not app.error
    assert not app.exception


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
@pytest.mark.parametrize("name", ["feature_maps", "gradients"])
def test_of_a_long_sound_one_window_is_looked_at(name):
    rng = np.random.default_rng(0)
    clip = io.BytesIO()
    soundfile.write(clip, 0.2 * rng.normal(size=8 * 16000), 16000, format="WAV")
    app = open_page(name, kind="Sound", beside="false")
    assert not any(slider.label.startswith("Part of") for slider in app.slider)
    app.file_uploader(key="upload-audio").upload("a.wav", clip.getvalue(), "audio/wav").run()
    part = next(slider for slider in app.slider if slider.label.startswith("Part of 5 s"))
    assert part.max == pytest.approx(3, abs=0.01)
    part.set_value(1.5).run()
    assert not app.error
    assert not app.exception
