"""Blank pictures are noticed in floating point, drawn again, and named if they stay blank."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import cnnvis_core as cv
from cnnvis_core import maximization as mx
from cnnvis_core.maximization.rescue import through_all_relus, through_dead_relus
from cnnvis_core.models.probe import Probe

STILL = mx.Settings(transforms=mx.Transforms(0, 0.0, 0.0, 0))


def with_bias(bias: list[float], zero: int | None = None, seed: int = 0) -> cv.Model:
    """A ReLU layer "1" whose units start under water by their bias."""
    torch.manual_seed(seed)
    conv = nn.Conv2d(3, len(bias), 3, padding=1)
    conv.bias.data = torch.tensor(bias)
    if zero is not None:
        conv.weight.data[zero] = 0.0
    net = nn.Sequential(
        conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(len(bias), 2)
    )
    return cv.from_module(net, (3, 24, 24))


@pytest.mark.parametrize(
    ("spread", "gain", "blank"),
    [
        (0.2, 1.0, False),
        (0.001, 1.0, True),  # a quarter of a step of 8 bits
        (0.0, 1.0, True),
        (0.2, 0.0, True),
        (0.2, -1.0, True),
        (0.2, np.nan, True),
    ],
)
@pytest.mark.parametrize("mean", [0.002, 0.5, 0.998])
def test_contrast_and_gain_say_what_is_blank(spread, gain, blank, mean):
    picture = mean + spread * torch.randn(1, 3, 32, 32, generator=torch.manual_seed(0))
    before = np.array([2.0], np.float32)
    after = np.array([2.0 + gain], np.float32)
    assert mx.is_blank(picture, before, after)[0] == blank
    lower = np.array([2.0 - gain], np.float32)
    assert mx.is_blank(picture, before, lower, minimized=True)[0] == blank


def test_planted_gray_pictures_are_all_found_and_no_good_one_is():
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(60, 3, 16, 16, generator=generator)
    planted = [3, 17, 18, 40, 59]
    for place, number in enumerate(planted):
        pictures[number] = 0.5 + 0.002 * place * torch.randn(3, 16, 16, generator=generator)
    before, after = np.zeros(60, np.float32), np.ones(60, np.float32)
    assert np.flatnonzero(mx.is_blank(pictures, before, after)).tolist() == planted


def test_a_unit_that_is_dead_at_first_is_woken_and_one_without_weights_is_named():
    model = with_bias([0.5, -0.3, -1.0], zero=2)
    found = cv.run(cv.maximize(model, "1", None, 80, 24, settings=STILL, start="gray"))
    assert found.blank.tolist() == [False, False, True]
    assert found.notes[0] == ""
    assert found.notes[1].startswith("rescued: the gradient was let through")
    assert found.notes[2].startswith("blank")
    assert found.start_activation[1] == 0.0
    assert found.end_activation[1] > 0
    assert found.done.all()
    assert found.table()["blank"].tolist() == [False, False, True]


def test_a_retry_is_counted_in_the_work_to_do():
    model = with_bias([0.5, -1.0])
    totals, dones = [], []
    with cv.maximize(model, "1", None, 10, 24, settings=STILL, start="gray") as job:
        for progress in job:
            totals.append(progress.total)
            dones.append(progress.done)
    assert totals[0] == 20
    assert totals[-1] == dones[-1] > 20
    assert dones == sorted(dones)


def test_pictures_of_a_dead_unit_that_belong_together_are_drawn_again_too():
    model = with_bias([0.5, -0.3, -1.0], zero=2)
    pair = mx.repeated(mx.units(model, "1", 1), 2)
    found = cv.run(
        cv.maximize(model, steps=80, size=24, objective=pair, settings=STILL, start="gray")
    )
    assert found.notes[0].startswith("rescued")
    assert (found.end_activation > 0).all()


def test_without_relus_another_seed_is_tried_and_said():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 2, 3)
    conv.weight.data[1] = 0.0
    model = cv.from_module(
        nn.Sequential(conv, nn.GELU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), (3, 24, 24)
    )
    job = cv.maximize(model, "0", None, 5, 24, settings=STILL)
    totals = {progress.total for progress in job}
    assert max(totals) == 3 * 5  # both, then the dead one once more
    assert job.result.notes == ("", "blank: nothing was found that drives it")


def test_a_run_that_is_cancelled_in_a_retry_calls_nothing_blank():
    model = with_bias([-1.0], zero=0)
    job = cv.maximize(model, "1", None, 5, 24, settings=STILL)
    for _ in range(7):
        preview = next(job).preview
    job.close()
    assert not preview.done.any()
    assert not preview.blank.any()


@pytest.mark.parametrize(
    "cut",
    [
        nn.ReLU(),
        nn.ReLU6(),
        nn.Hardtanh(0.0, 2.0),
        nn.Hardtanh(-1.0, 1.0),
        lambda x: torch.clamp(x, min=0.0),
        lambda x: torch.clamp_min(x, -1.0),
        lambda x: torch.clamp(x, 0.0, 0.5),
        nn.GELU(),
    ],
)
def test_every_cut_keeps_its_own_gradient(cut):
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 3, 3)

        def forward(self, x):
            return self.second(cut(8 * self.first(x))).mean((2, 3))

    torch.manual_seed(0)
    model = cv.from_module(Net(), (3, 24, 24))
    x = torch.randn(2, 3, 24, 24, generator=torch.manual_seed(1)).requires_grad_()
    probe = Probe(model, ["second"], (3, 24, 24))
    assert probe.followed
    plain, waking = (
        torch.autograd.grad(-probe(x, *how)["second"].sum(), x)[0]
        for how in ((), (through_dead_relus,))
    )
    torch.testing.assert_close(plain, waking)


def test_gradients_are_the_network_s_own_while_anything_passes():
    model = with_bias([0.3, -0.2, 0.1, 0.0])
    x = torch.randn(2, 3, 24, 24, generator=torch.manual_seed(1)).requires_grad_()
    probe = Probe(model, ["1"], (3, 24, 24))
    plain, waking = (
        torch.autograd.grad(-probe(x, *how)["1"].sum(), x)[0] for how in ((), (through_dead_relus,))
    )
    torch.testing.assert_close(plain, waking)
    drowned = with_bias([-50.0])
    probe = Probe(drowned, ["1"], (3, 24, 24))
    assert float(torch.autograd.grad(-probe(x)["1"].sum(), x)[0].abs().max()) == 0
    woken = torch.autograd.grad(-probe(x, through_dead_relus)["1"].sum(), x)[0]
    before = torch.autograd.grad(-Probe(drowned, ["0"], (3, 24, 24))(x)["0"].sum(), x)[0]
    torch.testing.assert_close(woken, before)  # the activation before the non-linearity


def test_all_silent_places_may_be_pushed_up_at_once():
    model = with_bias([-0.2, 0.1])
    x = torch.randn(1, 3, 24, 24, generator=torch.manual_seed(2)).requires_grad_()
    probe = Probe(model, ["1"], (3, 24, 24))
    pushed = torch.autograd.grad(-probe(x, through_all_relus)["1"].sum(), x)[0]
    before = torch.autograd.grad(-Probe(model, ["0"], (3, 24, 24))(x)["0"].sum(), x)[0]
    torch.testing.assert_close(pushed, before)


def test_what_pushes_down_wakes_nobody():
    drowned = with_bias([-50.0])
    x = torch.randn(1, 3, 24, 24).requires_grad_()
    probe = Probe(drowned, ["1"], (3, 24, 24))
    down = torch.autograd.grad(probe(x, through_dead_relus)["1"].sum(), x)[0]
    assert float(down.abs().max()) == 0
