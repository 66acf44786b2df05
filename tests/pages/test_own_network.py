"""A visitor's own architecture on every page, and what an operator allows."""

from __future__ import annotations

import json

import pytest
from streamlit.testing.v1 import AppTest

from cnnvis_core.limits import limits
from tests.pages.test_pages import captions, errors, open_page, picture_file
from tests.programs.nets import exported, network, with_graph

PAGES = (
    "occlude", "feature_maps", "gradients", "kernels", "maximize", "orientation", "exemplars",
    "transfer", "models",
)  # fmt: skip
QUICK = {"transfer": {"layer": "stem.0"}}
CLASSES = "apple\npear\nplum\nfig\n\nquince"


@pytest.fixture(scope="module")
def program():
    return exported(network())


@pytest.fixture
def allowing(monkeypatch):
    """Sets limits of this server."""

    def allow(**asked: int) -> None:
        for name, value in asked.items():
            monkeypatch.setenv(f"CNNVIS_{name.upper()}", str(value))
        limits.cache_clear()

    yield allow
    monkeypatch.undo()
    limits.cache_clear()


def bring(app: AppTest, data: bytes, name: str = "mine.pt2") -> AppTest:
    box = app.file_uploader(key="program-image")
    app = box.upload(name, data, "application/octet-stream").run()
    assert not app.exception
    return app


def told(app: AppTest, what: str) -> str:
    """Key of the widget that asks for something about the network."""
    widgets = [*app.text_input, *app.text_area]
    return next(w.key for w in widgets if w.key and w.key.startswith(what))


@pytest.mark.parametrize("page", PAGES)
def test_every_page_works_on_it(program, page):
    app = bring(open_page(page, **QUICK.get(page, {})), program)
    assert not errors(app)
    assert any("Your network: 5 classes" in s.value for s in app.sidebar.success)
    assert "32 × 32 pixels, 3 channels" in captions(app)


def test_what_only_its_owner_knows_is_asked_for(program):
    app = bring(open_page("occlude"), program)
    assert app.text_input(key=told(app, "shape")).value == "3, 32, 32"
    app.text_input(key=told(app, "mean")).set_value("0.4 0.5 0.6")
    app.text_input(key=told(app, "std")).set_value("0.2, 0.2, 0.2")
    app.text_area(key=told(app, "classes")).set_value(CLASSES)
    app = app.run()
    assert not app.exception
    headings = " ".join(s.value for s in app.subheader)
    assert any(name in headings for name in CLASSES.split())


UNFIT = (
    ("shape", "3, 32", "channels, height, width"),
    ("shape", "three", "write numbers"),
    ("shape", "3, nan, 32", "write numbers"),
    ("shape", "3, 32.5, 32", "channels, height, width"),
    ("shape", "3, 9999999, 9999999", "more numbers than can be kept"),
    ("shape", "1, 32, 32", "input shape"),
    ("mean", "0.5", "one a channel"),
    ("std", "0, 0, 0", "std positive"),
    ("classes", "one\ntwo", "5 classes; 2 names"),
)


def test_what_does_not_fit_loses_nothing(program):
    app = bring(open_page("kernels"), program)
    for what, text, sentence in UNFIT:
        assert "32 × 32 pixels" in captions(app)
        key = told(app, what)
        widget = (app.text_area if what == "classes" else app.text_input)(key=key)
        before = widget.value
        app = widget.set_value(text).run()
        assert not app.exception
        assert sentence in errors(app), text
        assert "64 × 64 pixels" in captions(app)  # the catalogue's network stands in for it
        app = (app.text_area if what == "classes" else app.text_input)(key=key)
        app = app.set_value(before).run()
        assert not errors(app)


def test_a_bad_program_is_one_sentence(program):
    def edit(tree):
        tree["graph_module"]["graph"]["nodes"][0]["target"] = "torch.os.system"

    app = bring(open_page("kernels"), with_graph(program, edit))
    assert "not known here" in errors(app)
    app = bring(app, b"nothing of the kind")
    assert "no exported program" in errors(app)
    assert json.dumps(errors(app)).count("Traceback") == 0


def test_an_operator_can_switch_programs_off(allowing):
    allowing(programs=0)
    app = open_page("kernels")
    keys = [box.key for box in app.file_uploader]
    assert "weights-resnet64-tiny-imagenet" in keys
    assert "program-image" not in keys


def test_limits_of_pictures_places_and_steps_hold(allowing):
    allowing(megapixels=1, positions=100, steps=100, epochs=5)
    app = open_page("occlude")
    assert "at most 100 are measured here" in errors(app)
    allowing(positions=1000)
    app = open_page("occlude")
    assert not errors(app)
    import io

    from PIL import Image

    large = io.BytesIO()
    Image.new("RGB", (1200, 1000), "red").save(large, "PNG")
    app = app.file_uploader(key="upload-image").upload("a.png", large.getvalue(), "image/png").run()
    assert "at most 1 can be taken" in errors(app)
    app = app.file_uploader(key="upload-image").upload("b.png", picture_file(), "image/png").run()
    assert not errors(app)
    app = open_page("maximize")
    steps = next(s for s in app.select_slider if s.label == "Steps")
    assert max(int(option) for option in steps.options) == 64
    app = open_page("transfer", **{"transfer-view": "Fine-tune"})
    assert app.number_input(key="epochs").max == 5
