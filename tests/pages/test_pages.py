"""The logic of the pages, without a browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from cnnvis_core.inputs.samples import samples

ROOT = Path(__file__).resolve().parents[2]


def open_page(name: str | None = None, **query: str) -> AppTest:
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=120)
    for key, value in query.items():
        app.query_params[key] = value
    if name:
        app.switch_page(f"pages/{name}.py")
    app.run()
    assert not app.exception
    return app


def captions(app: AppTest) -> str:
    return "\n".join(caption.value for caption in app.caption)


def heading(app: AppTest) -> str:
    return next(s.value for s in app.subheader if s.value.startswith("What carries"))


def test_the_front_door_shows_analysed_samples():
    app = open_page()
    assert app.title[0].value == "cnnvis"
    assert sum("%" in m.value for m in app.markdown) >= len(samples("image"))
    assert not app.error


def test_the_models_page_lists_the_catalogue_and_the_layers():
    app = open_page("models")
    layers, catalogue = (table.value for table in app.dataframe)
    assert {"resnet64-tiny-imagenet", "vgg16", "yamnet"} <= set(catalogue["id"])
    assert layers["kind"].iloc[0] == "Conv2d"
    assert layers["receptive field (px)"].iloc[0] == "7 × 7"


def test_a_sample_is_analysed_at_once():
    app = open_page("occlude")
    assert "Drop of the probability" in captions(app)
    assert "196 positions" in captions(app)
    assert not app.error


def test_controls_change_what_is_measured():
    app = open_page("occlude")
    app.selectbox(key="fill").set_value("Black").run()
    assert "covered with black" in captions(app)
    app.slider(key="patch64").set_value(32).run()
    assert "81 positions" in captions(app)
    app.slider(key="stride64").set_value(16).run()
    assert "9 positions" in captions(app)
    app.slider(key="patch64").set_value(4).run()
    assert "held to the patch" in captions(app)
    assert not app.error
    assert not app.exception


def test_another_class_can_be_explained():
    app = open_page("occlude")
    before = heading(app)
    box = app.selectbox(key="class")
    box.set_value("goldfish").run()
    assert heading(app) != before
    assert "goldfish" in heading(app)
    assert "goldfish" in captions(app)


def test_a_link_restores_the_settings():
    app = open_page("occlude", score="Logit", fill="White", patch64="20")
    assert "Drop of the logit" in captions(app)
    assert "covered with white" in captions(app)
    assert app.slider(key="patch64").value == 20


def test_nonsense_in_a_link_is_ignored():
    app = open_page("occlude", score="Luck", fill="Pink", patch64="-3", kind="Smell")
    assert "Drop of the probability" in captions(app)
    assert not app.error


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_a_sound_is_covered_along_time_and_frequency():
    app = open_page("occlude", kind="Sound")
    assert "Drop of the probability" in captions(app)
    for label in ("Frequency", "Time × frequency"):
        control = next(c for c in app.segmented_control if c.label == "Cover")
        control.set_value(label).run()
        assert not app.error
        assert not app.exception
    assert "From this alone" in captions(app)


def test_a_model_that_is_not_here_says_so_and_waits():
    app = open_page("occlude")
    box = app.selectbox(key="model-image")
    box.set_value("vgg19").run()
    assert any("not on this machine yet" in info.value for info in app.info)
    assert any(button.label.startswith("Download") for button in app.button)
    assert not app.exception


def test_another_sample_brings_its_own_answer():
    app = open_page("occlude")
    first = heading(app)
    control = next(p for p in app.button_group if p.key == "sample-image")
    control.set_value("coffee").run()
    assert not app.exception
    assert heading(app) != first
    assert "espresso" in heading(app)
