"""The page about transfer, without a browser."""

from __future__ import annotations

import pytest
from safetensors.torch import save

import cnnvis_core as cv
from cnnvis_core.inputs.samples import samples
from cnnvis_core.models.embedded import embedded_ids, parent_of
from tests.datasets.piles import as_zip
from tests.pages.test_pages import captions, errors, open_page
from tests.pages.test_unit_pages import subheaders
from tests.transfer.test_finetune import colourful

BASE = "resnet64-tiny-imagenet"
CHILDREN = [name for name in embedded_ids() if parent_of(name) == BASE]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Few steps and few inputs: what is drawn is looked at elsewhere."""
    monkeypatch.setattr("cnnvis_core.ui.change_views.STEPS", 3)
    monkeypatch.setattr("cnnvis_core.ui.change_views.SHOWN", 32)


def button(app, label):
    return next(b for b in app.button if b.label == label)


@pytest.mark.skipif(not CHILDREN, reason="no fine-tuned model in assets")
def test_a_real_change_is_shown_before_anything_is_sent():
    app = open_page("transfer", layer="stages.1.0.conv1")
    assert "What changed in stages.1.0.conv1?" in subheaders(app)
    assert app.selectbox(key="before").value == BASE
    assert app.selectbox(key="after").value == CHILDREN[0]
    assert "see" not in errors(app)
    assert not errors(app)
    measured = captions(app)
    assert "± " in measured
    assert "the same training with another seed" in measured
    assert "nothing has changed" not in " ".join(info.value for info in app.info)
    chosen = app.number_input(key="unit").value
    assert f"Unit {chosen}" in subheaders(app)
    assert "Place 1 of 64" in measured
    app.select_slider(key="after-epoch").set_value(1).run()
    assert not app.exception
    assert captions(app) != measured
    app.segmented_control(key="changed-by").set_value("weight").run()
    assert "no training with another seed" in captions(app)
    assert not errors(app)


@pytest.mark.skipif(not CHILDREN, reason="no fine-tuned model in assets")
def test_a_child_is_compared_with_its_parent_and_two_of_its_epochs_with_each_other():
    app = open_page("transfer", layer="stem.0", **{"model-image": "ResNet64 fine-tuned on dogs"})
    assert app.selectbox(key="before").value == BASE
    assert app.selectbox(key="after").value == CHILDREN[0]
    app.selectbox(key="before").set_value(CHILDREN[0]).run()
    assert "nothing has changed" in " ".join(info.value for info in app.info)
    app.select_slider(key="before-epoch").set_value(1).run()
    assert not app.info
    assert not errors(app)


def test_weights_that_are_sent_stand_beside_the_chosen_network():
    app = open_page("transfer", layer="stages.1.0.conv1")
    state = {n: v.clone() for n, v in cv.load(BASE).module.state_dict().items()}
    state["stages.1.0.conv1.weight"][7] *= -1
    box = app.file_uploader(key=f"compare-{BASE}")
    box.upload("mine.safetensors", save(state), "application/octet-stream").run()
    (sent,) = (o for o in app.selectbox(key="after").options if "uploaded here" in o)
    app.selectbox(key="after").select(sent).run()
    assert not errors(app)
    assert app.number_input(key="unit").value >= 0
    assert "Place 1 of 64" in captions(app.number_input(key="unit").set_value(7).run())
    box = app.file_uploader(key=f"compare-{BASE}")
    box.upload("evil.pth", b"nothing", "application/octet-stream").run()
    assert errors(app)


def test_a_training_on_ones_own_pictures_is_looked_at(tmp_path):
    app = open_page("transfer", **{"transfer-view": "Fine-tune", "collection": "Yours"})
    assert "Drop pictures here" in app.info[0].value
    archive = as_zip({**colourful(10), "red/broken.png": b"nothing"}, tmp_path / "pile.zip")
    box = app.file_uploader(key="collection-image")
    box.upload("pile.zip", archive.read_bytes(), "application/zip").run()
    assert f"Teach {cv.load(BASE).card.title} 3 classes" in subheaders(app)
    app.number_input(key="epochs").set_value(2).run()
    button(app, "Train").click().run()
    assert not errors(app)
    assert any("Best after epoch" in text.value for text in app.markdown)
    button(app, "See what changed").click().run()
    assert app.selectbox(key="after").value == "training-1"
    assert app.select_slider(key="after-epoch").options == ["1", "2"]
    assert "standard error" in captions(app)
    assert not errors(app)
    # With another seed there is a control.
    app.segmented_control(key="transfer-view").set_value("Fine-tune").run()
    app.number_input(key="epochs").set_value(2)
    app.number_input(key="seed").set_value(2).run()
    button(app, "Train").click().run()
    button(app, "See what changed").click().run()
    assert app.selectbox(key="after").value == "training-2"
    assert "the same training with another seed" in captions(app)
    assert not errors(app)


def test_data_of_one_class_gets_one_sentence(tmp_path):
    app = open_page("transfer", **{"transfer-view": "Fine-tune", "collection": "Yours"})
    files = {name.split("/")[1]: data for name, data in list(colourful(6).items())[:6]}
    box = app.file_uploader(key="collection-image")
    archive = as_zip(files, tmp_path / "pile.zip")
    box.upload("pile.zip", archive.read_bytes(), "application/zip").run()
    button(app, "Train").click().run()
    assert "folder of its own" in errors(app)


@pytest.mark.skipif(not samples("audio"), reason="no audio samples in assets")
def test_of_a_network_without_relatives_it_is_said_that_nothing_changed():
    app = open_page("transfer", kind="Sound", layer="stem.0")
    assert "nothing has changed" in " ".join(info.value for info in app.info)
    assert not errors(app)


@pytest.mark.parametrize("kind", ["Picture", "Sound"])
def test_tuning_and_exemplars_stand_beside_each_other_before_and_after(kind):
    if kind == "Sound" and not samples("audio"):
        pytest.skip("no audio samples in assets")
    app = open_page("transfer", kind=kind, layer="stem.0")
    app.session_state["both"] = True
    app.run()
    assert not app.exception
    assert not errors(app)
    assert captions(app).count("Prefers ") == 2
