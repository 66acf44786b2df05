"""The page that ranks units by their tuning, without a browser."""

from __future__ import annotations

import pytest

from cnnvis_core.inputs.samples import samples
from tests.pages.test_pages import captions, errors, open_page
from tests.pages.test_unit_pages import subheaders

COARSE = {"step": "15.0", "phases": "4"}


def indices(app) -> str:
    return "\n".join(m.value for m in app.markdown if "**Peak response**" in m.value)


def test_the_first_layer_is_ranked_at_once():
    app = open_page("orientation")
    assert "32 units of stem.0, nearest to 0° first" in subheaders(app)
    assert "2,880 gratings: 36 angles" in captions(app)
    assert "selective beyond chance" in captions(app)
    for part in ("Preferred angle", "Selectivity", "Half width", "F1/F0", "By the weights"):
        assert part in indices(app)
    assert "Gabor fit" in indices(app)
    assert not errors(app)


@pytest.mark.parametrize(
    ("by", "words"),
    [
        ("Selectivity", "most selective first"),
        ("Frequency", "finest stripes first"),
        ("Bandwidth", "narrowest tuning first"),
        ("Modulation", "simple before complex"),
    ],
)
def test_units_are_put_in_other_orders(by, words):
    app = open_page("orientation", rank=by, **COARSE)
    assert words in subheaders(app)
    assert not errors(app)


def test_the_dials_number_and_the_link_turn_the_ranking():
    app = open_page("orientation", angle="135", **COARSE)
    assert "nearest to 135° first" in subheaders(app)
    app.number_input(key="angle").set_value(20).run()
    assert "nearest to 20° first" in subheaders(app)


def test_settings_of_the_gratings_are_measured_anew():
    app = open_page("orientation", **COARSE)
    before = indices(app)
    assert "Colour over brightness" not in before
    app.slider(key="contrast").set_value(60).run()
    assert indices(app) != before
    app.toggle(key="colours").set_value(True).run()
    assert "Colour over brightness" in indices(app)
    next(s for s in app.select_slider if s.key == "diameter-64").set_value("16").run()
    assert not app.exception
    assert not errors(app)


def test_a_deep_layer_has_tuning_curves_and_no_gabor_fit():
    app = open_page("orientation", layer="stages.1.0.conv1", unit="5", **COARSE)
    assert "64 units of stages.1.0.conv1" in subheaders(app)
    assert "Gabor fit" not in indices(app)
    assert "By the weights" in indices(app)
    assert not any(c.key == "tiles" for c in app.segmented_control)


def test_a_layer_without_kernels_is_measured_too():
    app = open_page("orientation", layer="stages.1.0.relu1", **COARSE)
    assert "64 units of stages.1.0.relu1" in subheaders(app)
    assert "By the weights" not in indices(app)
    assert not errors(app)


def test_all_convolutions_are_measured_when_asked_for():
    app = open_page("orientation", **COARSE)
    next(b for b in app.button if b.label == "Measure every convolution").click().run()
    assert "Selectivity of each convolution" in captions(app)
    app.number_input(key="unit").set_value(3).run()
    assert "Selectivity of each convolution" in captions(app)
    assert not errors(app)


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_units_that_hear_are_ranked_by_ripples():
    app = open_page("orientation", kind="Sound", phases="4")
    assert app.title[0].value == "Spectro-temporal tuning"
    assert "Hz down first" in subheaders(app)
    assert "Preferred scale" in indices(app)
    assert "The best ripple" in captions(app)
    for by, words in (("scale", "finest scale"), ("direction", "downward to upward")):
        app.selectbox(key="rank-sound").set_value(by).run()
        assert words in subheaders(app)
    next(b for b in app.button if b.label == "Measure every convolution").click().run()
    assert "prefer a direction: median" in captions(app)
    assert not errors(app)


def test_nonsense_in_a_link_opens_the_page_all_the_same():
    nonsense = {"rank": "beauty", "angle": "900", "step": "-4", "diameter-64": "9000"}
    app = open_page("orientation", unit="900", **nonsense)
    assert "units of stem.0" in subheaders(app)
    assert not errors(app)
