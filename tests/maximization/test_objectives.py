"""Objectives are what they say, and add and scale."""

from __future__ import annotations

import pytest
import torch

import cnnvis_core as cv
from cnnvis_core import maximization as mx
from cnnvis_core.models.probe import ANSWER
from tests.support import picture_model, small_network


@pytest.fixture(scope="module")
def model() -> cv.Model:
    return cv.from_module(small_network(), (3, 32, 32))


@pytest.fixture(scope="module")
def maps() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "2": torch.randn(3, 12, 5, 6, generator=generator),
        ANSWER: torch.randn(3, 5, 1, 1, generator=generator),
    }


PICTURES = torch.arange(3)


def test_each_objective_by_hand(model, maps):
    values = maps["2"]
    direction = torch.arange(12.0)
    cases = {
        mx.units(model, "2", [4, 0, 11]): [values[n, u].mean() for n, u in enumerate((4, 0, 11))],
        mx.units(model, "2", 7): values[:, 7].mean((1, 2)),
        mx.neurons(model, "2", [4, 0, 11]): [values[n, u, 2, 3] for n, u in enumerate((4, 0, 11))],
        mx.neurons(model, "2", 3, 4, 5): values[:, 3, 4, 5],
        mx.group(model, "2"): values.mean((1, 2, 3)),
        mx.group(model, "2", range(2, 5)): values[:, 2:5].mean((1, 2, 3)),
        mx.energy(model, "2"): values.square().mean((1, 2, 3)),
        mx.direction(model, "2", direction): (values.mean((2, 3)) @ direction) / direction.norm(),
        mx.classes(model, [1, 0, 4]): [maps[ANSWER][n, c, 0, 0] for n, c in enumerate((1, 0, 4))],
    }
    for objective, expected in cases.items():
        expected = torch.stack(list(expected)) if isinstance(expected, list) else expected
        torch.testing.assert_close(
            objective.score(maps, PICTURES), expected, msg=objective.words[0]
        )


def test_the_map_shown_is_the_one_that_is_scored(model, maps):
    for objective in (
        mx.units(model, "2", [4, 0, 11]),
        mx.group(model, "2", [1, 2]),
        mx.energy(model, "2"),
        mx.direction(model, "2", torch.ones(12)),
    ):
        shown = objective.map_of(maps, PICTURES)
        assert shown.shape == (3, 5, 6)
        torch.testing.assert_close(shown.mean((1, 2)), objective.score(maps, PICTURES))


def test_likeness_to_the_others_counts_against_a_picture(model):
    alike = torch.randn(1, 12, 4, 4).repeat(3, 1, 1, 1)
    alike[2] = torch.randn(12, 4, 4) * torch.linspace(0, 3, 12)[:, None, None]
    apart = 2 * mx.diversity(model, "2")
    assert not apart.score({"2": alike}, PICTURES).any()
    score = apart.penalty({"2": alike}, PICTURES) / 2
    grams = torch.einsum("nahw,nbhw->nab", alike, alike).flatten(1)
    cosine = torch.nn.functional.cosine_similarity(grams[0], grams[2], dim=0)
    torch.testing.assert_close(score[0], -(1 + cosine) / 2)
    assert score[2] > score[0]


def test_objectives_add_and_scale(model, maps):
    a, b = mx.units(model, "2", [4, 0, 11]), mx.energy(model, "2")
    both = 2 * a - 0.5 * b
    torch.testing.assert_close(
        both.score(maps, PICTURES), 2 * a.score(maps, PICTURES) - 0.5 * b.score(maps, PICTURES)
    )
    assert both.layers == {"2"}
    assert len(both) == len(b + a) == 3
    assert (a + mx.classes(model, 1)).layers == {"2", ANSWER}
    assert (a + mx.diversity(model, "2")).together
    assert both.words[1] == "2 x unit 0 of 2 + -1 x 0.5 x the energy of 2"
    with pytest.raises(cv.InputError, match="3 and of 2 pictures"):
        a + mx.units(model, "2", [1, 2])
    with pytest.raises(cv.InputError, match="one picture"):
        mx.repeated(a, 2)


def test_a_class_is_the_network_s_logit(model):
    found = cv.run(cv.maximize(model, steps=5, size=32, objective=mx.classes(model, 3)))
    assert found.words == (model.classes[3],)
    still = mx.Settings(transforms=mx.Transforms(0, 0.0, 0.0, 0))
    found = cv.run(
        cv.maximize(model, steps=5, size=32, objective=mx.classes(model, 3), settings=still)
    )
    logits = model.score(model.frontend.normalise(found.images), "logit")
    assert found.end_activation[0] == pytest.approx(float(logits[0, 3]), abs=1e-4)


def test_what_is_not_there_gets_a_sentence(model):
    other = picture_model(small_network())
    with pytest.raises(cv.ModelError, match="no layer named"):
        mx.units(other, "2", 1)
    for make in (
        lambda: mx.neurons(model, "2", 1, -1, 0),
        lambda: mx.direction(model, "2", torch.zeros(12)),
        lambda: mx.direction(model, "2", torch.ones(3)),
        lambda: mx.neurons(model, "2", 1, None, 3),
        lambda: mx.classes(model, []),
        lambda: mx.classes(model, 5),
        lambda: mx.classes(model, "a unicorn"),
        lambda: mx.group(model, "2", [12]),
    ):
        with pytest.raises(cv.CnnvisError):
            make()
