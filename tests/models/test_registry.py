"""A server's own networks, from the file that CNNVIS_MODELS names."""

from __future__ import annotations

import sys

import pytest
import torch
from streamlit.testing.v1 import AppTest

import cnnvis_core as cv
from cnnvis_core.models.weights import weights_hash
from tests.pages.test_pages import ROOT, captions, errors, open_page
from tests.support import small_network, torch_file

FILE = """
import cnnvis_core as cv
from lab_networks import retina

MODELS = {
    "retina": cv.Registered(retina, title="Retina", licence="ours", details="Made in our lab."),
    "broken": cv.Registered(lambda: 1 / 0, title="Broken"),
    "wrong": cv.Registered(lambda: "no model", title="Wrong"),
}
"""
BESIDE = """
import pathlib
import torch
from torch import nn
import cnnvis_core as cv

def retina():
    note = pathlib.Path(__file__).with_name("made")
    note.write_text(note.read_text() + "x" if note.exists() else "x")
    torch.manual_seed(3)
    net = nn.Sequential(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                        nn.Linear(6, 3))
    return cv.from_module(net, (3, 24, 24), (0.5,) * 3, (0.2,) * 3, ("on", "off", "both"))
"""


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Writes the operator's file and names it."""

    def write(text: str = FILE) -> None:
        (tmp_path / "ours.py").write_text(text)
        (tmp_path / "lab_networks.py").write_text(BESIDE)
        monkeypatch.setenv("CNNVIS_MODELS", str(tmp_path / "ours.py"))

    before = list(sys.path)
    yield write
    sys.path[:] = before
    for name in ("lab_networks", "cnnvis_models_of_this_server"):
        sys.modules.pop(name, None)


def test_a_registered_network_stands_in_the_catalogue_and_loads_as_it_was_made(server, tmp_path):
    server()
    cards = {card.id: card for card in cv.catalogue()}
    assert (cards["retina"].title, cards["retina"].licence) == ("Retina", "ours")
    assert not (tmp_path / "made").exists()  # not before somebody chooses it
    model = cv.load("retina")
    assert (tmp_path / "made").read_text() == "x"
    from lab_networks import retina

    wanted = retina()
    assert (model.classes, model.input_shape) == (wanted.classes, wanted.input_shape)
    assert (model.card.id, model.card.title, model.card.classes) == ("retina", "Retina", 3)
    assert model.layers == wanted.layers
    x = torch.rand(2, 3, 24, 24)
    torch.testing.assert_close(model.predict(x), wanted.predict(x))
    assert not any(p.requires_grad for p in model.module.parameters())


def test_a_visitor_s_weights_fit_a_registered_architecture(server):
    server()
    state = {k: v + 1 for k, v in cv.load("retina").module.state_dict().items()}
    found = cv.load_checkpoint("retina", torch_file(state))
    assert found.classes == ("on", "off", "both")
    assert weights_hash(found.module) != weights_hash(cv.load("retina").module)
    with pytest.raises(cv.InputError, match="do not fit Retina"):
        cv.load_checkpoint("retina", torch_file(small_network().state_dict()))


def test_one_that_cannot_be_made_is_a_sentence(server):
    server()
    with pytest.raises(cv.ModelError, match=r"Broken could not be made \(ZeroDivisionError\)"):
        cv.load("broken")
    with pytest.raises(cv.ModelError, match=r"must return a cv\.Model"):
        cv.load("wrong")
    cv.load("retina")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("def broken(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError"),
        ("models = {}", "must define MODELS"),
        ("MODELS = {'Big Name': 1}", "is no id"),
        ("MODELS = {'../x': 1}", "is no id"),
        ("MODELS = {'net': 1}", "cv.Registered"),
        (
            "import cnnvis_core as c\nMODELS = {'net': c.Registered(int, modality='smell')}",
            "cv.Reg",
        ),
        ("import cnnvis_core as c\nMODELS = {'vgg16': c.Registered(int)}", "id of another model"),
    ],
)
def test_a_file_that_cannot_be_used_is_said(server, text, sentence):
    server(text)
    with pytest.raises(cv.ModelError, match=sentence):
        cv.catalogue()
    app = AppTest.from_file(str(ROOT / "app.py"), default_timeout=60).run()
    assert sentence in errors(app)
    assert not app.exception
    assert len(app.title) == 0


def test_a_file_that_is_not_there_is_said(monkeypatch, tmp_path):
    monkeypatch.setenv("CNNVIS_MODELS", str(tmp_path / "none.py"))
    with pytest.raises(cv.ModelError, match=r"none\.py, and there is no such file"):
        cv.catalogue()


def test_pages_offer_it(server):
    from cnnvis_core.ui import models

    server()
    models.cards.clear()
    try:
        app = open_page("occlude", **{"model-image": "Retina"})
        assert "24 × 24 pixels" in captions(app)
        assert not errors(app)
        app = open_page("kernels", **{"model-image": "Broken"})
        assert "could not be made" in errors(app)
    finally:
        models.cards.clear()
