"""The logic of the pages, without a browser."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from PIL import Image
from streamlit import config
from streamlit.testing.v1 import AppTest
from streamlit.testing.v1.element_tree import ButtonGroup

from cnnvis_core.inputs.samples import samples
from cnnvis_core.limits import Limits
from cnnvis_core.ui.uploads import limit_mb

ROOT = Path(__file__).resolve().parents[2]


def open_page(name: str | None = None, **query: str | list[str]) -> AppTest:
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


def sample_pill(app: AppTest) -> ButtonGroup:
    return next(p for p in app.button_group if p.key == "sample-image")


def errors(app: AppTest) -> str:
    return "\n".join(error.value for error in app.error)


def picture_file() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((80, 60), 60).save(buffer, "PNG")
    return buffer.getvalue()


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
    assert "espresso" in first
    sample_pill(app).set_value("cat").run()
    assert not app.exception
    assert heading(app) != first


def test_a_picture_of_one_s_own_stands_beside_the_samples():
    app = open_page("occlude", **{"sample-image": "Cat"})
    shown = heading(app)
    assert sample_pill(app).value == "cat"
    assert "Your picture" not in sample_pill(app).options
    box = app.file_uploader(key="upload-image")
    box.upload("mine.png", picture_file(), "image/png").run()
    assert sample_pill(app).value == "own"
    assert "Your picture" in sample_pill(app).options
    own = heading(app)
    assert own != shown
    sample_pill(app).set_value("cat").run()
    assert heading(app) == shown
    sample_pill(app).set_value("own").run()
    assert heading(app) == own
    assert not app.error
    assert not app.exception


def test_the_sample_is_back_when_one_s_own_picture_is_removed():
    app = open_page("occlude", **{"sample-image": "Cat"})
    shown = heading(app)
    app.file_uploader(key="upload-image").upload("mine.png", picture_file(), "image/png").run()
    app.file_uploader(key="upload-image").clear().run()
    assert sample_pill(app).value == "cat"
    assert "Your picture" not in sample_pill(app).options
    assert heading(app) == shown


def test_a_link_to_a_picture_that_somebody_else_brought_opens_a_sample():
    app = open_page("occlude", **{"sample-image": "Your picture"})
    assert sample_pill(app).value == samples("image")[0].id
    assert any("Your picture is not here" in i.value for i in app.info)
    app.file_uploader(key="upload-image").upload("mine.png", picture_file(), "image/png").run()
    assert not any("is not here" in i.value for i in app.info)
    assert not app.error


def test_model_and_input_are_kept_from_page_to_page():
    app = open_page("occlude", **{"sample-image": "Cat"})
    app.file_uploader(key="upload-image").upload("mine.png", picture_file(), "image/png").run()
    own = heading(app)
    app.switch_page("pages/models.py").run()
    app.switch_page("pages/occlude.py").run()
    assert sample_pill(app).value == "own"
    assert heading(app) == own


def test_a_bad_file_changes_nothing_but_a_sentence():
    app = open_page("occlude", **{"sample-image": "Cat"})
    shown = heading(app)
    app.file_uploader(key="upload-image").upload("bad.png", b"<html>", "image/png").run()
    assert "not a supported" in errors(app)
    assert sample_pill(app).value == "cat"
    assert heading(app) == shown
    app.file_uploader(key="upload-image").set_value(("a.png", picture_file(), "image/png")).run()
    assert not app.error
    own = heading(app)
    app.file_uploader(key="upload-image").set_value(("b.png", b"<html>", "image/png")).run()
    assert "not a supported" in errors(app)
    assert sample_pill(app).value == "own"
    assert heading(app) == own


def test_limits_hold_where_the_browser_does_not_check_them():
    app = open_page("occlude")
    app.file_uploader(key="upload-image").upload("l.png", bytes(21 * 2**20), "image/png").run()
    assert "at most 20 MB" in errors(app)
    assert "Drop of the probability" in captions(app)
    app = open_page("models")
    box = app.file_uploader(key="weights-resnet64-tiny-imagenet")
    box.upload("l.pth", bytes(201 * 2**20)).run()
    assert "at most 200 MB" in errors(app)
    assert not app.exception


def test_a_lower_limit_of_the_server_holds_for_every_box():
    before = config.get_option("server.maxUploadSize")
    config.set_option("server.maxUploadSize", 5)
    try:
        assert (limit_mb(Limits().media_mb), limit_mb(Limits().weights_mb)) == (5, 5)
    finally:
        config.set_option("server.maxUploadSize", before)
