"""Parameters make the pictures that they should, and start where they are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cnnvis_core.maximization.parameterisation import (
    COLOUR_MIX,
    Fourier,
    Phases,
    blurred,
    frequencies,
    parameterise,
    total_variation,
)

CPU = torch.device("cpu")


@pytest.mark.parametrize("kind", ["fourier", "pixels", "maco"])
@pytest.mark.parametrize("shape", [(3, 16, 16), (1, 17, 23), (4, 8, 9)])
def test_pictures_are_colours_that_there_are(kind, shape):
    canvas = parameterise(kind, shape, [0, 1], CPU)
    images = canvas.images()
    assert images.shape == (2, *shape)
    assert 0 <= float(images.detach().min()) < float(images.detach().max()) <= 1
    gradients = torch.autograd.grad(images.square().sum(), canvas.parameters)
    assert all(bool(torch.isfinite(g).all()) and float(g.abs().max()) > 0 for g in gradients)


def test_a_start_depends_on_its_seed_alone():
    one = parameterise("fourier", (3, 16, 16), [7], CPU).images()
    three = parameterise("fourier", (3, 16, 16), [1, 7, 7], CPU).images()
    assert torch.equal(one[0], three[1])
    assert torch.equal(three[1], three[2])
    assert not torch.allclose(three[0], three[1])
    gray = parameterise("fourier", (3, 16, 16), [7], CPU, start="gray").images()
    assert float((gray - 0.5).abs().max()) < 1e-6


@pytest.mark.parametrize("kind", ["fourier", "pixels"])
@pytest.mark.parametrize("shape", [(3, 16, 20), (1, 15, 15)])
def test_an_ascent_can_start_from_a_picture(kind, shape):
    picture = 0.1 + 0.8 * torch.rand(shape)
    images = parameterise(kind, shape, [0, 0], CPU, start=picture).images()
    torch.testing.assert_close(images[1], picture, atol=2e-5, rtol=0)


def test_a_cosine_in_the_spectrum_is_a_cosine_in_the_picture():
    canvas = Fourier(torch.zeros(1, 1, 16, 9, 2), (16, 16), None, 1.0, "gray")
    with torch.no_grad():
        canvas.values[0, 0, 3, 2, 0] = 1.0
    picture = torch.logit(canvas.images().detach())[0, 0].numpy()
    rows, cols = np.mgrid[:16, :16]
    # irfft2, orthonormal: both halves of the spectrum over 16; lucid's 1/f and 4.
    size = 2 / 16 / (math.hypot(3 / 16, 2 / 16)) / 4
    np.testing.assert_allclose(
        picture, size * np.cos(2 * np.pi * (3 * rows + 2 * cols) / 16), atol=1e-5
    )


def test_colours_are_mixed_as_in_natural_pictures():
    assert float(COLOUR_MIX.norm(dim=0).max()) == pytest.approx(1.0)
    canvas = Fourier(torch.zeros(1, 3, 8, 5, 2), (8, 8), COLOUR_MIX, 1.0, "gray")
    with torch.no_grad():
        canvas.values[0, 0, 0, 0, 0] = 1.0  # the mean of the first of the mixed axes
    colour = torch.logit(canvas.images().detach())[0, :, 0, 0]
    assert float(colour.min()) > 0  # brightness: red, green and blue rise together
    assert float(colour.std() / colour.mean()) < 0.05


def test_maco_moves_phases_and_no_magnitude():
    shape = (3, 24, 24)
    canvas = parameterise("maco", shape, [0], CPU)
    assert isinstance(canvas, Phases)

    def magnitudes() -> torch.Tensor:
        flat = torch.logit(canvas.images().detach())
        unmixed = torch.einsum("dc,nchw->ndhw", torch.linalg.inv(COLOUR_MIX), flat)
        return torch.fft.rfft2(unmixed, norm="ortho").abs()[..., 1:, 1:-1]

    before = magnitudes()
    with torch.no_grad():
        canvas.values.add_(torch.randn_like(canvas.values))
    torch.testing.assert_close(magnitudes(), before, rtol=0.05, atol=0.05)
    # One over the frequency, as in natural pictures.
    slope = before[0, 0] * frequencies((24, 24), CPU)[1:, 1:-1]
    assert float(slope.std() / slope.mean()) < 0.01


def test_pixels_keep_to_their_norm_and_to_the_colours():
    canvas = parameterise("pixels", (3, 8, 8), [0, 1], CPU, norm=2.0)
    with torch.no_grad():
        canvas.values.copy_(torch.randn_like(canvas.values))
    canvas.constrain()
    assert float(canvas.values.detach().abs().max()) <= 0.5
    assert canvas.values.detach().flatten(1).norm(dim=1).tolist() == pytest.approx([2.0, 2.0])


def test_penalties_by_hand():
    picture = torch.tensor([[[[0.0, 1.0], [0.5, 0.5]]]])
    assert float(total_variation(picture)) == pytest.approx((0.5 + 0.5) / 2 + (1.0 + 0.0) / 2)
    dot = torch.zeros(1, 2, 21, 21)
    dot[..., 10, 10] = 1.0
    soft = blurred(dot, 2.0)
    place = torch.arange(21) - 10.0
    spread = (soft[0, 1].sum(0) * place**2).sum() / soft[0, 1].sum()
    assert float(soft[0, 1].sum()) == pytest.approx(1.0, abs=1e-4)
    assert float(spread) == pytest.approx(4.0, abs=0.15)
