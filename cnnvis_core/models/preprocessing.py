"""The image front end: a picture becomes what the network takes, and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from PIL import Image

from cnnvis_core.errors import InputError, ModelError

Interpolation = Literal["bilinear", "bicubic"]
Box = tuple[float, float, float, float]

# Modes that Pillow turns into 8-bit RGB without clipping.
CONVERTIBLE = frozenset(
    {"1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK"}
) | {
    "YCbCr",
    "HSV",
    "LAB",
}
MAX_RESIZED_PIXELS = 40_000_000  # a strip of 30000 x 2 would otherwise become gigabytes


@dataclass(frozen=True)
class ImageFrontend:
    """Resize, crop the centre, scale to [0, 1], normalise; as torchvision's classification preset.

    Attributes
    ----------
    resize : int
        Length of the shorter side after resizing, in pixels.
    crop : tuple of int
        (height, width) of the centre that the network sees; a smaller picture is padded in black.
    mean, std : tuple of float
        One a channel; what the network gets is ``(value - mean) / std`` of values in [0, 1].
    interpolation : {"bilinear", "bicubic"}
        How pixels are resized; both are anti-aliased.
    channels : int
        1: luminance (ITU-R BT.601). 3: RGB. 4: RGB and depth, which is the alpha band of an RGBA
        picture and otherwise the mean, that is 0 after normalisation. Any further channel is 0
        after normalisation; 2 is luminance and one such channel.

    Raises
    ------
    ModelError
        If the settings contradict each other.
    """

    resize: int
    crop: tuple[int, int]
    mean: tuple[float, ...] = (0.485, 0.456, 0.406)
    std: tuple[float, ...] = (0.229, 0.224, 0.225)
    interpolation: Interpolation = "bilinear"
    channels: int = 3

    def __post_init__(self) -> None:
        """Refuse settings that cannot be computed."""
        if len(self.crop) != 2 or min(self.resize, *self.crop, self.channels) < 1:
            raise ModelError("resize, crop (height, width) and channels must be positive.")
        if len(self.mean) != self.channels or len(self.std) != self.channels:
            raise ModelError(
                f"mean and std need {self.channels} values each, one a channel, "
                f"not {len(self.mean)} and {len(self.std)}."
            )
        if min(self.std) <= 0:
            raise ModelError("Every std must be positive.")
        if self.interpolation not in ("bilinear", "bicubic"):
            raise ModelError(f"There is no interpolation {self.interpolation!r}; use 'bilinear'.")

    def __call__(self, item: object) -> torch.Tensor:
        """Float32 tensor (1, channels, height, width) on the CPU from a PIL image.

        Raises
        ------
        InputError
            If it is not a picture, has more than 8 bits a channel, or is too long and narrow.
        """
        from torchvision.transforms import functional as F

        picture = checked(item)
        bands = [F.pil_to_tensor(self._fit(self._visible(picture)))]
        if self.channels == 4 and picture.mode == "RGBA":
            # Resized by itself: Pillow weighs colours by alpha, which is no depth.
            bands.append(F.pil_to_tensor(self._fit(picture.getchannel("A"))))
        known = F.convert_image_dtype(torch.cat(bands), torch.float)
        count = len(known)
        known = F.normalize(known, self.mean[:count], self.std[:count])
        rest = known.new_zeros((self.channels - count, *known.shape[1:]))
        return torch.cat([known, rest]).unsqueeze(0)

    def view(self, image: object) -> Image.Image:
        """Show what the network sees, at its input size: an "L" or "RGB" picture.

        Raises
        ------
        InputError
            As for calling.
        """
        return self._fit(self._visible(checked(image)))

    def resized(self, size: tuple[int, int]) -> tuple[int, int]:
        """(width, height) to which a picture of ``size`` (width, height) is resized.

        Raises
        ------
        InputError
            If the picture is empty or too long and narrow.
        """
        width, height = size
        if width < 1 or height < 1:
            raise InputError("The picture is empty; choose another one.")
        short, long = min(size), max(size)
        longer = int(self.resize * long / short)
        if longer * self.resize > MAX_RESIZED_PIXELS:
            raise InputError(
                f"The picture is too long and narrow ({width} x {height} pixels); cut a part out."
            )
        return (self.resize, longer) if width <= height else (longer, self.resize)

    def crop_box(self, size: tuple[int, int]) -> Box:
        """Return the part of a picture that the network sees.

        Parameters
        ----------
        size : tuple of int
            (width, height) of the picture.

        Returns
        -------
        tuple of float
            (left, top, right, bottom) in pixels of the picture; it reaches beyond the picture where
            the network sees black padding.

        Raises
        ------
        InputError
            If the picture is empty or too long and narrow.
        """
        width, height = self.resized(size)
        left, top = crop_corner(width, self.crop[1]), crop_corner(height, self.crop[0])
        across, down = size[0] / width, size[1] / height
        return (
            left * across,
            top * down,
            (left + self.crop[1]) * across,
            (top + self.crop[0]) * down,
        )

    def normalise(self, values: torch.Tensor) -> torch.Tensor:
        """Make what the network takes of values in [0, 1], (..., channels, H, W)."""
        return (values - self._column(self.mean, values)) / self._column(self.std, values)

    def denormalise(self, x: torch.Tensor) -> torch.Tensor:
        """Inverse of `normalise`."""
        return x * self._column(self.std, x) + self._column(self.mean, x)

    def to_image(self, x: torch.Tensor) -> Image.Image:
        """Return the picture of what the network takes, to be looked at.

        Parameters
        ----------
        x : torch.Tensor
            (channels, H, W), or (1, channels, H, W). Values that are no colour are clipped.

        Returns
        -------
        PIL.Image.Image
            "L" for fewer than 3 channels, otherwise "RGB"; further channels are left out.

        Raises
        ------
        InputError
            If the shape is another one.
        """
        single = x[0] if x.ndim == 4 and len(x) == 1 else x
        if single.ndim != 3 or len(single) != self.channels:
            raise InputError(f"One input of {self.channels} channels is needed, not {x.shape}.")
        values = self.denormalise(single.detach().float().cpu())
        shown = values[:3] if self.channels >= 3 else values[:1]
        pixels = shown.mul(255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).numpy()
        return Image.fromarray(pixels if self.channels >= 3 else pixels[..., 0])

    def for_channels(self, channels: int) -> ImageFrontend:
        """Return the same front end for another number of channels.

        One channel gets the luminance of the mean and the mean std; channels beyond the known ones
        get the averages of mean and std.
        """
        if channels == self.channels:
            return self
        mean, std = list(self.mean), list(self.std)
        if channels < 3 <= self.channels:
            mean = [0.299 * mean[0] + 0.587 * mean[1] + 0.114 * mean[2]]
            std = [sum(std[:3]) / 3]
        elif self.channels < 3 <= channels:
            mean, std = [mean[0]] * 3, [std[0]] * 3
        mean, std = mean[:channels], std[:channels]
        mean += [sum(mean) / len(mean)] * (channels - len(mean))
        std += [sum(std) / len(std)] * (channels - len(std))
        return ImageFrontend(
            self.resize, self.crop, tuple(mean), tuple(std), self.interpolation, channels
        )

    def _visible(self, picture: Image.Image) -> Image.Image:
        mode = "RGB" if self.channels >= 3 else "L"
        return picture if picture.mode == mode else picture.convert(mode)

    def _fit(self, picture: Image.Image) -> Image.Image:
        from torchvision.transforms import InterpolationMode
        from torchvision.transforms import functional as F

        self.resized(picture.size)
        kind = InterpolationMode(self.interpolation)
        fitted = F.resize(picture, [self.resize], interpolation=kind, antialias=True)
        cropped: Image.Image = F.center_crop(fitted, list(self.crop))
        return cropped

    def _column(self, values: Sequence[float], like: torch.Tensor) -> torch.Tensor:
        return torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 1, 1)


def checked(image: object) -> Image.Image:
    """Return the picture itself, if it is one that can be turned into 8-bit colours.

    Raises
    ------
    InputError
        If it is not a PIL image or has more than 8 bits a channel.
    """
    if not isinstance(image, Image.Image):
        raise InputError(
            f"This network takes a picture, not {type(image).__name__}; choose an image file."
        )
    if image.mode not in CONVERTIBLE:
        raise InputError(
            f"Pictures of mode {image.mode} are not supported here; open the file with read_image."
        )
    return image


def crop_corner(size: int, crop: int) -> int:
    """First position of a centred crop; negative where the picture is padded to reach its size."""
    if crop > size:
        return -((crop - size) // 2)
    return round((size - crop) / 2.0)
