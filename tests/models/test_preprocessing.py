"""The image front end against torchvision's presets, and its geometry."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cnnvis_core.errors import InputError, ModelError
from cnnvis_core.models import ImageFrontend
from cnnvis_core.models.catalogue import blueprint
from cnnvis_core.models.zoo import default_weights

IMAGENET = ImageFrontend(256, (224, 224))


def picture(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    values = np.random.default_rng(seed).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(values[..., 0] if bands == 1 else values, mode)


@pytest.mark.parametrize("size", [(500, 375), (333, 500), (64, 64), (31, 17), (256, 256), (3, 200)])
@pytest.mark.parametrize(
    "name", ["vgg16", "resnet50", "efficientnet_b0", "efficientnet_v2_l", "inception_v3"]
)
def test_equals_the_preset_of_torchvision_bit_for_bit(name: str, size: tuple[int, int]) -> None:
    image = picture(*size)
    ours = blueprint(name).frontend(image)
    assert torch.equal(ours[0], default_weights(name).transforms()(image))


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGBA", "LA", "1", "YCbCr"])
def test_other_modes_are_seen_as_their_rgb_picture(mode: str) -> None:
    image = picture(80, 60).convert(mode)
    assert torch.equal(IMAGENET(image), IMAGENET(image.convert("RGB")))


@pytest.mark.parametrize("item", [None, "cat.jpg", np.zeros((8, 8, 3), np.uint8), torch.zeros(3)])
def test_anything_but_a_picture_is_refused(item: object) -> None:
    with pytest.raises(InputError, match="takes a picture"):
        IMAGENET(item)


def test_pictures_of_more_than_8_bits_are_refused() -> None:
    with pytest.raises(InputError, match="read_image"):
        IMAGENET(Image.fromarray(np.full((9, 9), 40000, np.uint16)))


def test_a_long_strip_is_refused_before_it_becomes_gigabytes() -> None:
    with pytest.raises(InputError, match="too long and narrow"):
        IMAGENET(Image.new("L", (30000, 2)))


def test_one_channel_is_luminance() -> None:
    frontend = IMAGENET.for_channels(1)
    image = picture(300, 300)
    red, green, blue = (np.asarray(frontend.view(b), float) for b in image.split())
    luminance = frontend.denormalise(frontend(image))[0, 0].numpy() * 255
    assert (
        np.abs(luminance - (0.299 * red + 0.587 * green + 0.114 * blue)).max() < 2.1
    )  # three roundings
    assert frontend.mean[0] == pytest.approx(0.299 * 0.485 + 0.587 * 0.456 + 0.114 * 0.406)


def test_depth_comes_from_alpha_and_leaves_the_colours_alone() -> None:
    frontend = IMAGENET.for_channels(4)
    image = picture(310, 240, "RGBA")
    x = frontend(image)
    assert torch.equal(x[:, :3], IMAGENET(image.convert("RGB")))
    depth = np.asarray(IMAGENET.for_channels(1).view(image.getchannel("A")), np.float32) / 255
    assert np.allclose(frontend.denormalise(x)[0, 3].numpy(), depth, atol=1e-6)


@pytest.mark.parametrize(("channels", "known"), [(2, 1), (4, 3), (7, 3)])
def test_channels_that_the_picture_lacks_are_zero(channels: int, known: int) -> None:
    x = IMAGENET.for_channels(channels)(picture(300, 260))
    assert x.shape == (1, channels, 224, 224)
    assert not x[:, known:].any()
    assert x[:, :known].flatten(2).std(-1).min() > 0.1


@pytest.mark.parametrize("size", [(500, 375), (375, 500), (64, 64), (1000, 250)])
@pytest.mark.parametrize("crop", [(224, 224), (100, 180), (300, 200)])
def test_crop_box_is_where_the_network_looks(size: tuple[int, int], crop: tuple[int, int]) -> None:
    # A ramp tells at every output pixel which original pixel it came from.
    frontend = ImageFrontend(256, crop)
    across = np.linspace(40, 240, size[0])[None].repeat(size[1], 0)
    down = np.linspace(40, 240, size[1])[:, None].repeat(size[0], 1)
    left, top, right, bottom = frontend.crop_box(size)
    for values, low, high, length, axis in (
        (across, left, right, size[0], 0),
        (down, top, bottom, size[1], 1),
    ):
        seen = np.asarray(frontend.view(Image.fromarray(values.astype(np.uint8))), float)
        line = seen[..., 0].max(axis)
        cells = low + (np.arange(len(line)) + 0.5) * (high - low) / len(line)
        inside = (cells > 8) & (cells < length - 8)
        expected = 40 + 200 * (cells - 0.5) / (length - 1)
        assert np.abs(line - expected)[inside].max() < 3.0
        outside = (cells < -3) | (cells > length + 3)
        assert not line[outside].any()


def test_the_crop_box_reaches_beyond_a_picture_that_is_padded() -> None:
    assert ImageFrontend(100, (200, 100)).crop_box((50, 50)) == (0.0, -25.0, 50.0, 75.0)


def test_view_and_to_image_show_the_same() -> None:
    for channels in (1, 3, 4):
        frontend = IMAGENET.for_channels(channels)
        image = picture(280, 250)
        assert frontend.view(image).tobytes() == frontend.to_image(frontend(image)).tobytes()


def test_to_image_refuses_another_number_of_channels() -> None:
    with pytest.raises(InputError, match="channels"):
        IMAGENET.to_image(torch.zeros(1, 224, 224))


def test_normalise_and_denormalise_are_inverse() -> None:
    values = torch.rand(2, 3, 5, 7)
    x = IMAGENET.normalise(values)
    assert torch.allclose(x[:, 1], (values[:, 1] - 0.456) / 0.224)
    assert torch.allclose(IMAGENET.denormalise(x), values, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"resize": 0},
        {"crop": (0, 3)},
        {"mean": (0.5,)},
        {"std": (0.0, 1.0, 1.0)},
        {"interpolation": "lanczos"},
    ],
)
def test_contradicting_settings_are_refused(options: dict[str, object]) -> None:
    with pytest.raises(ModelError):
        ImageFrontend(**{"resize": 8, "crop": (8, 8), **options})  # type: ignore[arg-type]
