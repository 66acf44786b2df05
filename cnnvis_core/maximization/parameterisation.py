"""What an ascent changes: pixels, their Fourier spectrum, or its phases alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
from torch.nn import functional as F

Kind = Literal["fourier", "pixels", "maco"]
KINDS: tuple[Kind, ...] = ("fourier", "pixels", "maco")
Start = Literal["noise", "gray"]

# Square root of the covariance of colours in ImageNet's pictures, over its largest column norm:
# the mixing of C. Olah, A. Mordvintsev and L. Schubert, "Feature visualization", Distill 2017.
_COLOURS = torch.tensor([[0.26, 0.09, 0.02], [0.27, 0.00, -0.05], [0.27, -0.09, 0.03]])
COLOUR_MIX = _COLOURS / _COLOURS.norm(dim=0).max()
SPREAD = 0.01  # standard deviation of the first noise, in the parameters
SOFTNESS = 4.0  # what a spectrum is divided by; more saturates later (the same article's code)
CONTRAST = 1.6  # root mean square of MaCo's pictures before the sigmoid
NATURAL_DECAY = 1.0  # amplitude falls with frequency to this power (Field 1987)


class Parameterisation(Protocol):
    """Pictures made of parameters."""

    parameters: list[torch.Tensor]

    def images(self) -> torch.Tensor:
        """The pictures (N, C, H, W) in [0, 1], with gradients to the parameters."""

    def constrain(self) -> None:
        """Bring the parameters back to where they may be, after each step."""


def parameterise(
    kind: Kind,
    shape: tuple[int, int, int],
    seeds: Sequence[int],
    device: torch.device,
    decorrelate: bool = True,
    decay: float = 1.0,
    norm: float | None = None,
    start: Start | torch.Tensor = "noise",
    apart: bool = False,
) -> Parameterisation:
    """Make the pictures that an ascent begins with.

    Parameters
    ----------
    kind : {"fourier", "pixels", "maco"}
        What is changed.
    shape : tuple of int
        (C, H, W) of each picture.
    seeds : sequence of int
        One a picture: pictures of one seed start alike, whatever else is in the batch.
    device : torch.device
        Where they live.
    decorrelate : bool
        Mix three channels as the colours of natural pictures are mixed.
    decay : float
        Power of the frequency by which a spectrum's steps shrink.
    norm : float, optional
        Of pixels, the largest Euclidean distance from middle gray.
    start : {"noise", "gray"} or Tensor (C, H, W)
        Where to begin; MaCo takes the phases of a picture, and for gray, which has none, noise.
    apart : bool
        Add each seed's noise to a start of another kind too, so that pictures can part.
    """
    channels, height, width = shape
    mix = COLOUR_MIX.to(device) if decorrelate and channels == 3 else None
    if kind == "pixels":
        noise = _noise(seeds, shape, device)
        return _parted(Pixels(noise, norm, start), noise, apart, start)
    spectrum = (channels, height, width // 2 + 1)
    if kind == "maco":
        noise = _noise(seeds, spectrum, device)
        return _parted(Phases(noise, (height, width), mix, start), noise, apart, start)
    noise = _noise(seeds, (*spectrum, 2), device)
    return _parted(Fourier(noise, (height, width), mix, decay, start), noise, apart, start)


def _parted(
    canvas: Parameterisation, noise: torch.Tensor, apart: bool, start: Start | torch.Tensor
) -> Parameterisation:
    if apart and (isinstance(start, torch.Tensor) or start == "gray"):
        with torch.no_grad():
            canvas.parameters[0].add_(SPREAD * noise)
    return canvas


def _noise(seeds: Sequence[int], shape: Sequence[int], device: torch.device) -> torch.Tensor:
    # Drawn on the CPU, so that a seed means the same on every device.
    drawn = [torch.randn(tuple(shape), generator=torch.Generator().manual_seed(s)) for s in seeds]
    return torch.stack(drawn).to(device)


def frequencies(extent: tuple[int, int], device: torch.device) -> torch.Tensor:
    """Frequency (H, W // 2 + 1) of each part of a real picture's spectrum, in cycles a pixel."""
    height, width = extent
    rows = torch.fft.fftfreq(height, device=device)
    cols = torch.fft.rfftfreq(width, device=device)
    return torch.hypot(rows[:, None], cols[None])


def _mixed(images: torch.Tensor, mix: torch.Tensor | None) -> torch.Tensor:
    return images if mix is None else torch.einsum("dc,nchw->ndhw", mix, images)


class Pixels:
    """Every value of its own, middle gray being 0; values beyond [0, 1] are cut off."""

    def __init__(
        self, noise: torch.Tensor, norm: float | None, start: Start | torch.Tensor
    ) -> None:
        self.norm = norm
        values = SPREAD * noise if start == "noise" else torch.zeros_like(noise)
        if isinstance(start, torch.Tensor):
            values = (start.to(noise.device) - 0.5).expand_as(noise).clone()
        self.values = values.requires_grad_()
        self.parameters = [self.values]

    def images(self) -> torch.Tensor:
        """The pictures."""
        return self.values + 0.5

    @torch.no_grad()
    def constrain(self) -> None:
        """Stay within the colours there are, and within the norm."""
        self.values.clamp_(-0.5, 0.5)
        if self.norm is not None:
            size = self.values.flatten(1).norm(dim=1).clamp_min(1e-12)
            self.values.mul_((self.norm / size).clamp_max(1.0)[:, None, None, None])


class Fourier:
    """The spectrum, its steps smaller at high frequencies; colours mixed as in nature.

    C. Olah, A. Mordvintsev and L. Schubert, "Feature visualization", Distill 2017.
    """

    def __init__(
        self,
        noise: torch.Tensor,
        extent: tuple[int, int],
        mix: torch.Tensor | None,
        decay: float,
        start: Start | torch.Tensor,
    ) -> None:
        self.extent, self.mix = extent, mix
        lowest = 1.0 / max(extent)
        size = frequencies(extent, noise.device).clamp_min(lowest) ** -decay
        self.scale = size / SOFTNESS
        values = SPREAD * noise if start == "noise" else torch.zeros_like(noise)
        if isinstance(start, torch.Tensor):
            flat = torch.logit(start.to(noise.device).clamp(0.005, 0.995))[None]
            flat = _mixed(flat, None if mix is None else torch.linalg.inv(mix))
            spectrum = torch.fft.rfft2(flat, norm="ortho") / self.scale
            values = torch.view_as_real(spectrum).expand_as(noise).clone()
        self.values = values.requires_grad_()
        self.parameters = [self.values]

    def images(self) -> torch.Tensor:
        """The pictures."""
        spectrum = torch.view_as_complex(self.values) * self.scale
        images = torch.fft.irfft2(spectrum, s=self.extent, norm="ortho")
        return torch.sigmoid(_mixed(images, self.mix))

    def constrain(self) -> None:
        """Anything is allowed."""


class Phases:
    """The phases of a spectrum whose magnitudes are those of natural pictures and stay.

    MaCo: T. Fel et al., "Unlocking feature visualization for deeper networks with magnitude
    constrained optimization", NeurIPS 2023. The magnitudes fall as 1/f (Field 1987) here, instead
    of being measured on a data set.
    """

    def __init__(
        self,
        noise: torch.Tensor,
        extent: tuple[int, int],
        mix: torch.Tensor | None,
        start: Start | torch.Tensor,
    ) -> None:
        self.extent, self.mix = extent, mix
        magnitude = frequencies(extent, noise.device).clamp_min(1 / max(extent)) ** -NATURAL_DECAY
        magnitude[0, 0] = 0.0  # the mean is middle gray
        # Parseval: the root mean square of each channel is CONTRAST.
        probe = torch.fft.irfft2(magnitude.to(torch.complex64), s=extent, norm="ortho")
        self.magnitude = magnitude * (CONTRAST / probe.square().mean().sqrt())
        values = noise.clone()
        if isinstance(start, torch.Tensor):
            flat = torch.logit(start.to(noise.device).clamp(0.005, 0.995))[None]
            flat = _mixed(flat, None if mix is None else torch.linalg.inv(mix))
            values = torch.fft.rfft2(flat).angle().expand_as(noise).clone()
        self.values = values.requires_grad_()
        self.parameters = [self.values]

    def images(self) -> torch.Tensor:
        """The pictures."""
        spectrum = torch.polar(self.magnitude.expand_as(self.values), self.values)
        images = torch.fft.irfft2(spectrum, s=self.extent, norm="ortho")
        return torch.sigmoid(_mixed(images, self.mix))

    def constrain(self) -> None:
        """Any phase is allowed."""


def total_variation(images: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference of neighbours (N,) (Mahendran and Vedaldi 2015, beta 1)."""
    down = (images[..., 1:, :] - images[..., :-1, :]).abs().flatten(1).mean(1)
    across = (images[..., :, 1:] - images[..., :, :-1]).abs().flatten(1).mean(1)
    return down + across


def blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Pictures under a Gaussian of ``sigma`` pixels (Yosinski et al. 2015)."""
    radius = max(1, round(3 * sigma))
    place = torch.arange(-radius, radius + 1, device=images.device, dtype=images.dtype)
    taps = torch.exp(-(place**2) / (2 * sigma**2))
    taps = taps / taps.sum()
    channels = images.shape[1]
    for taps_2d in (taps[:, None], taps[None]):
        kernel = taps_2d.expand(channels, 1, *taps_2d.shape)
        margin = [taps_2d.shape[1] // 2] * 2 + [taps_2d.shape[0] // 2] * 2
        images = F.conv2d(F.pad(images, margin, mode="replicate"), kernel, groups=channels)
    return images
