"""The page about exemplars, without a browser."""

from __future__ import annotations

import pytest

from cnnvis_core.inputs.samples import samples
from tests.datasets.piles import as_zip, pictures
from tests.pages.test_pages import captions, errors, open_page
from tests.pages.test_unit_pages import subheaders


def test_tiles_of_the_samples_are_indexed_at_once():
    app = open_page("exemplars")
    assert "What drives the 64 units of stages.1." in subheaders(app)
    assert "items for each unit, by the maximum of its map" in captions(app)
    assert "half are below" in captions(app)
    assert any(b.label.startswith("Unit ") for b in app.button)
    assert not errors(app)


def test_means_and_gradients_and_other_units_are_shown():
    app = open_page("exemplars", layer="stages.1.0.conv1", unit="3", strongest="Mean")
    assert "by the mean of its map" in captions(app)
    assert "What drives the 64 units of stages.1.0.conv1?" in subheaders(app)
    app.toggle(key="guided").set_value(True).run()
    assert not app.exception
    app.toggle(key="beside").set_value(True).run()
    assert "Made up by 128 steps from noise" in captions(app)
    next(b for b in app.button if b.label.startswith("Unit ")).click().run()
    assert app.number_input(key="unit").value != 3
    assert not errors(app)


def test_ones_own_pictures_take_their_place(tmp_path):
    app = open_page("exemplars", collection="Yours")
    assert "Drop pictures here" in app.info[0].value
    archive = as_zip({**pictures(12), "ant/broken.png": b"nothing"}, tmp_path / "pile.zip")
    box = app.file_uploader(key="collection-image")
    box.upload("pile.zip", archive.read_bytes(), "application/zip").run()
    assert "13 items" in captions(app)
    assert "1 files could not be read" in captions(app)
    assert app.selectbox(key="liked").options == ["ant", "bee", "cat"]
    assert not errors(app)


def test_a_zip_without_pictures_gets_one_sentence(tmp_path):
    app = open_page("exemplars", collection="Yours")
    archive = as_zip({"notes.txt": b"none"}, tmp_path / "pile.zip")
    box = app.file_uploader(key="collection-image")
    box.upload("pile.zip", archive.read_bytes(), "application/zip").run()
    assert "There are no image files in it" in errors(app)


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_parts_of_sounds_are_played():
    app = open_page("exemplars", kind="Sound")
    assert "items for each unit" in captions(app)
    assert " Hz" in captions(app)
    assert not errors(app)
