"""Every row on pictures of the table of hostile and unusual files, with files made here."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin

from cnnvis_core.errors import InputError
from cnnvis_core.inputs import Picture, decode_image, read_image
from cnnvis_core.inputs.images import FORMATS, MAX_SIDE
from cnnvis_core.inputs.pixels import to_rgb

LOSSLESS = ("PNG", "BMP", "TIFF")


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def noise(width: int = 80, height: int = 60, seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def smooth(width: int = 80, height: int = 60) -> Image.Image:
    rows, columns = np.mgrid[:height, :width]
    pixels = np.stack([255 * rows / height, 255 * columns / width, 0 * rows + 90], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def refusal(data: bytes) -> str:
    """The message with which a file is refused, checked to be one plain sentence."""
    with pytest.raises(InputError) as caught:
        decode_image(data)
    message = str(caught.value)
    assert message[0].isupper()
    assert message.endswith(".")
    assert "\n" not in message
    assert ". " not in message
    assert "Error" not in message
    assert "Traceback" not in message
    assert "BytesIO" not in message
    return message


def png_chunk(name: bytes, body: bytes) -> bytes:
    check = zlib.crc32(name + body)
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)


def png_claiming(width: int, height: int) -> bytes:
    """A PNG whose header claims a size and which holds almost no pixels."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", header)
        + png_chunk(b"IDAT", zlib.compress(bytes(1000)))
        + png_chunk(b"IEND", b"")
    )


def tiff(entries: list[tuple[int, int, int, int]], body: bytes = b"") -> bytes:
    """A little-endian TIFF of one directory; entries are (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + packed + bytes(4) + body


# What loads as it is.


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_loads_without_a_note(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    source = smooth().quantize(64).convert("RGB") if kind == "GIF" else smooth()
    picture = decode_image(encode(source, kind, **options))
    assert isinstance(picture, Picture)
    assert picture.image.mode == "RGB"
    assert picture.image.size == (80, 60)
    assert picture.notes == ()
    difference = np.abs(np.asarray(picture.image, float) - np.asarray(source, float))
    if kind == "JPEG":
        assert difference.mean() < 6
    else:
        assert difference.max() == 0


def test_read_image_is_the_picture_alone() -> None:
    data = encode(noise(), "PNG")
    assert np.array_equal(np.asarray(read_image(data)), np.asarray(noise()))


def test_the_result_carries_nothing_of_the_file() -> None:
    exif = Image.Exif()
    exif[0x010F] = "a camera that says where somebody lives"
    image = read_image(encode(noise(), "JPEG", exif=exif, comment=b"private"))
    assert not image.info
    assert not dict(image.getexif())


def test_bytearray_and_memoryview_are_bytes() -> None:
    data = encode(noise(), "PNG")
    for kind in (bytearray, memoryview):
        assert read_image(kind(data)).size == (80, 60)


def test_a_path_is_not_bytes() -> None:
    assert "bytes" in refusal("photo.png")  # type: ignore[arg-type]


# Incomplete and foreign files.


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("part", [0.95, 0.5, 0.2])
def test_a_truncated_file_is_incomplete(kind: str, part: float) -> None:
    data = encode(noise(), kind)
    assert "file is incomplete" in refusal(data[: int(part * len(data))])


def test_verify_would_have_passed_the_truncated_file() -> None:
    data = encode(noise(), "JPEG")[:3000]
    Image.open(io.BytesIO(data)).verify()
    assert "file is incomplete" in refusal(data)


@pytest.mark.parametrize(
    ("data", "looks"),
    [
        (b"", "empty"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<?xml version='1.0'?>\n<svg></svg>", "SVG"),
        (b"<!DOCTYPE html><html></html>", "web page"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript"),
        (b"%PDF-1.7\n", "PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIC"),
        (np.random.default_rng(1).bytes(4000), ""),
        (b"P6 9 9 255 " + bytes(243), ""),
        (b"RIFF\x24\0\0\0WAVEfmt ", ""),
        (b"hello", ""),
    ],
)
def test_what_is_no_picture_is_not_supported(data: bytes, looks: str) -> None:
    message = refusal(data)
    assert "not a supported image" in message
    assert looks in message
    assert "JPEG, PNG, WebP, GIF, BMP or TIFF" in message


def test_an_eps_file_never_starts_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    def started(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    monkeypatch.setattr("subprocess.Popen", started)
    monkeypatch.setattr("subprocess.check_call", started)
    monkeypatch.setattr("os.system", started)
    eps = encode(noise(), "EPS")
    assert "not a supported image" in refusal(eps)


# Sizes.


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("width", "height", "words"),
    [
        (9999, 9999, "100 megapixels (9999 × 9999)"),
        (10_000, 6_001, "at most 60"),
        (60_000, 60_000, "megapixels"),
        (2**31 - 1, 2**31 - 1, "megapixels"),
    ],
)
def test_over_sixty_megapixels_is_refused_before_decoding(
    width: int, height: int, words: str
) -> None:
    data = png_claiming(width, height)
    tracemalloc.start()
    try:
        message = refusal(data)
        assert tracemalloc.get_traced_memory()[1] < 2**22
    finally:
        tracemalloc.stop()
    assert words in message
    assert "smaller" in message


def test_sixty_megapixels_are_refused_for_their_pixels_only() -> None:
    assert "incomplete" in refusal(png_claiming(10_000, 6_000))


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_a_phone_photo_of_48_megapixels_loads_reduced(kind: str) -> None:
    size = (8064, 5952)
    colour = (200, 30, 10)
    source = Image.new("RGB", size, colour)
    if kind == "PNG":  # A palette makes 48 megapixels quick to write.
        source = Image.new("P", size, 0)
        source.putpalette(colour)
    picture = decode_image(encode(source, kind))
    assert picture.image.size == (4032, 2976)
    assert max(picture.image.size) <= MAX_SIDE
    (note,) = picture.notes
    assert "reduced" in note
    assert "8064 × 5952" in note
    assert np.abs(np.asarray(picture.image.resize((8, 6)), int) - colour).max() <= 2


def test_a_large_jpeg_is_never_decoded_at_full_size(monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = []
    prepare = Image.core.new
    monkeypatch.setattr(
        Image.core, "new", lambda mode, size: sizes.append(size) or prepare(mode, size)
    )
    data = encode(Image.new("L", (8000, 6000), 100), "JPEG")
    sizes.clear()
    decode_image(data)
    assert sizes
    assert max(width * height for width, height in sizes) <= 4000 * 3000


@pytest.mark.parametrize("factor", [2, 3])
def test_reducing_averages_whole_squares(factor: int) -> None:
    source = noise(1511, 1403, seed=2)
    expected = np.asarray(source.reduce(factor), int)
    reduced = to_rgb(source, -(-1511 // factor), [])
    assert reduced.size == (expected.shape[1], expected.shape[0])
    assert np.abs(np.asarray(reduced, int) - expected).max() <= 1


def test_the_longest_side_that_is_kept_is_not_reduced() -> None:
    picture = decode_image(encode(Image.new("RGB", (MAX_SIDE, 300)), "PNG"))
    assert picture.image.size == (MAX_SIDE, 300)
    assert picture.notes == ()


@pytest.mark.parametrize("size", [(1, 1), (7, 100), (100, 7), (30_000, 2)])
def test_tiny_pictures_are_explained(size: tuple[int, int]) -> None:
    message = refusal(encode(Image.new("RGB", size), "PNG"))
    assert f"{size[0]} × {size[1]}" in message
    assert "at least 8 pixels" in message


def test_extreme_aspects_are_explained() -> None:
    message = refusal(encode(Image.new("RGB", (401, 20)), "PNG"))
    assert "401 × 20" in message
    assert "20 times" in message
    assert read_image(encode(Image.new("RGB", (400, 20)), "PNG")).size == (400, 20)
    assert read_image(encode(Image.new("RGB", (8, 160)), "PNG")).size == (8, 160)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what is broken.
def test_pillows_global_limit_is_left_alone() -> None:
    before = Image.MAX_IMAGE_PIXELS
    refusal(png_claiming(9999, 9999))
    read_image(encode(noise(), "PNG"))
    assert before == Image.MAX_IMAGE_PIXELS


# Modes.


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str) -> None:
    source = Image.new("RGB", (40, 40), (220, 40, 60)).convert("CMYK")
    picture = decode_image(encode(source, kind))
    assert np.abs(np.asarray(picture.image, int) - (220, 40, 60)).max() <= 4
    assert any("CMYK" in note for note in picture.notes)


def half_transparent(mode: str) -> Image.Image:
    """Black at the left, nothing (black with alpha 0) at the right."""
    pixels = np.zeros((20, 40, 4), np.uint8)
    pixels[:, :20, 3] = 255
    image = Image.fromarray(pixels)
    if mode == "P":
        palette = Image.new("P", (40, 20), 0)
        palette.putpalette([0, 0, 0, 10, 20, 30])
        palette.paste(1, (20, 0, 40, 20))
        return palette
    return image.convert(mode)


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("P", "PNG"),
        ("RGBA", "WEBP"),
        ("P", "GIF"),
        ("RGBA", "TIFF"),
    ],
)
def test_transparent_parts_lie_on_white(mode: str, kind: str) -> None:
    options: dict[str, object] = {"transparency": 1} if mode == "P" else {}
    if kind == "WEBP":
        options = {"lossless": True}
    picture = decode_image(encode(half_transparent(mode), kind, **options))
    pixels = np.asarray(picture.image)
    assert (pixels[:, :20] == 0).all()
    assert (pixels[:, 20:] == 255).all()
    assert picture.notes == ("Transparent parts were laid on white.",)


def test_a_palette_with_graded_alpha_is_blended() -> None:
    image = Image.new("P", (20, 20), 1)
    image.putpalette([0, 0, 0, 200, 100, 0])
    picture = decode_image(encode(image, "PNG", transparency=bytes([255, 128])))
    expected = np.array([200, 100, 0]) * 128 / 255 + 255 * 127 / 255
    assert np.abs(np.asarray(picture.image)[0, 0] - expected).max() <= 1


def test_one_transparent_colour_of_an_rgb_picture_is_honoured() -> None:
    image = Image.new("RGB", (20, 20), (1, 2, 3))
    image.paste((9, 9, 9), (0, 0, 10, 20))
    pixels = np.asarray(read_image(encode(image, "PNG", transparency=(1, 2, 3))))
    assert (pixels[:, 10:] == 255).all()
    assert (pixels[:, :10] == 9).all()


def test_an_opaque_alpha_channel_is_no_news() -> None:
    picture = decode_image(encode(noise().convert("RGBA"), "PNG"))
    assert picture.notes == ()
    assert np.array_equal(np.asarray(picture.image), np.asarray(noise()))


@pytest.mark.parametrize("mode", ["1", "L", "P"])
def test_simple_modes_keep_their_values(mode: str) -> None:
    source = noise().convert(mode)
    picture = decode_image(encode(source, "PNG"))
    assert np.array_equal(np.asarray(picture.image), np.asarray(source.convert("RGB")))
    assert picture.notes == ()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
@pytest.mark.parametrize(
    ("brightest", "full_scale"),
    [(200, 255), (1000, 1023), (4000, 4095), (16000, 16383), (40000, 65535), (65535, 65535)],
)
def test_sixteen_bits_are_scaled_and_never_clipped(
    kind: str, brightest: int, full_scale: int
) -> None:
    values = np.linspace(0, brightest, 60 * 80).reshape(60, 80).astype(np.uint16)
    picture = decode_image(encode(Image.fromarray(values), kind))
    expected = values.astype(float) * 255 / full_scale
    for channel in range(3):
        assert np.abs(np.asarray(picture.image)[..., channel] - expected).max() <= 0.5 + 1e-6
    if full_scale == 255:
        assert picture.notes == ()
    else:
        assert str(full_scale) in picture.notes[0]


def test_sixteen_bit_colours_are_reduced_and_told() -> None:
    rows = b"".join(b"\0" + struct.pack(">HHH", 40000, 20000, 1000) * 20 for _ in range(20))
    data = (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 20, 16, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(rows))
        + png_chunk(b"IEND", b"")
    )
    picture = decode_image(data)
    expected = np.array([40000, 20000, 1000]) / 257
    assert np.abs(np.asarray(picture.image)[0, 0] - expected).max() <= 1
    assert "16 bits" in picture.notes[0]


@pytest.mark.parametrize(
    ("low", "high"), [(0.0, 1.0), (0.2, 0.7), (-3.0, 9.0), (0.0, 255.0), (100.0, 1e6)]
)
def test_floats_are_scaled_by_their_range(low: float, high: float) -> None:
    values = np.linspace(low, high, 60 * 80, dtype=np.float32).reshape(60, 80)
    picture = decode_image(encode(Image.fromarray(values), "TIFF"))
    bottom, top = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    expected = (values.astype(float) - bottom) / (top - bottom) * 255
    assert np.abs(np.asarray(picture.image)[..., 1] - expected).max() <= 0.51
    assert "scaled" in " ".join(picture.notes) or (low, high) == (0.0, 255.0)


def test_signed_integers_are_stretched() -> None:
    values = np.linspace(-1000, 100_000, 60 * 80).reshape(60, 80).astype(np.int32)
    pixels = np.asarray(read_image(encode(Image.fromarray(values), "TIFF")))
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_a_flat_float_picture_loads() -> None:
    values = np.full((20, 20), 7.5, np.float32)
    pixels = np.asarray(read_image(encode(Image.fromarray(values), "TIFF")))
    assert len(np.unique(pixels)) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(bad: float) -> None:
    values = np.ones((20, 20), np.float32)
    values[3, 4] = bad
    assert "not finite" in refusal(encode(Image.fromarray(values), "TIFF"))


# Frames and orientation.


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "TIFF", "PNG"])
def test_the_first_frame_is_used_and_told(kind: str) -> None:
    first, second = Image.new("RGB", (30, 20), "red"), Image.new("RGB", (30, 20), "blue")
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(first, kind, save_all=True, append_images=[second], **options)
    picture = decode_image(data)
    assert picture.image.getpixel((5, 5)) == (255, 0, 0)
    assert picture.notes == (f"Only the first frame of this {kind} file is used.",)


def test_a_phones_second_picture_is_no_animation() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(smooth(), "MPO", save_all=True, append_images=[smooth(40, 30)], exif=exif)
    picture = decode_image(data)
    assert picture.image.size == (60, 80)
    assert len(picture.notes) == 1
    assert "upright" in picture.notes[0]


def corners(image: Image.Image) -> list[int]:
    grey = np.asarray(image.convert("L"), int)
    return [grey[4, 4], grey[4, -5], grey[-5, -5], grey[-5, 4]]


# EXIF 2.32: where the first row and column of the stored picture belong.
UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.T,
    6: lambda a: np.rot90(a, -1),
    7: lambda a: np.rot90(a, 2).T,
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_applied_once(kind: str, orientation: int) -> None:
    stored = np.kron(np.array([[0, 80], [240, 160]], np.uint8), np.ones((24, 32), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = decode_image(encode(Image.fromarray(stored).convert("RGB"), kind, exif=exif))
    expected = Image.fromarray(np.ascontiguousarray(UPRIGHT[orientation](stored)))
    assert picture.image.size == expected.size
    assert np.abs(np.subtract(corners(picture.image), corners(expected))).max() <= 8
    assert len(picture.notes) == (orientation != 1)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what is broken.
def test_broken_exif_data_is_ignored() -> None:
    data = encode(smooth(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    picture = decode_image(data)
    assert picture.image.size == (80, 60)
    assert picture.notes == ()


# Colour profiles.


def swapped_profile() -> bytes:
    """An RGB profile that takes red for green: sRGB's with two of its colourant tags renamed."""
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    icc = icc.replace(b"rXYZ", b"????", 1).replace(b"gXYZ", b"rXYZ", 1).replace(b"????", b"gXYZ", 1)
    return icc.replace("sRGB".encode("utf-16-be"), "GRBx".encode("utf-16-be"))


def test_an_embedded_profile_is_converted_to_srgb() -> None:
    source = Image.new("RGB", (20, 20), (220, 10, 10))
    picture = decode_image(encode(source, "PNG", icc_profile=swapped_profile()))
    red, green, _ = picture.image.getpixel((3, 3))
    assert green > 200
    assert red < 60
    assert "profile" in picture.notes[0]
    assert "GRB" in picture.notes[0]


def test_a_profile_of_a_transparent_picture_keeps_its_alpha() -> None:
    source = half_transparent("RGBA")
    picture = decode_image(encode(source, "PNG", icc_profile=swapped_profile()))
    pixels = np.asarray(picture.image)
    assert (pixels[:, :20] <= 2).all()
    assert (pixels[:, 20:] == 255).all()
    assert len(picture.notes) == 2


def test_an_srgb_profile_is_no_news() -> None:
    icc = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = decode_image(encode(noise(), "PNG", icc_profile=icc))
    assert picture.notes == ()
    assert np.array_equal(np.asarray(picture.image), np.asarray(noise()))


@pytest.mark.parametrize("icc", [b"nonsense", b"", bytes(200)])
def test_a_broken_profile_is_ignored(icc: bytes) -> None:
    picture = decode_image(encode(noise(), "PNG", icc_profile=icc))
    assert picture.notes == ()
    assert np.array_equal(np.asarray(picture.image), np.asarray(noise()))


def test_a_profile_for_other_colours_is_ignored() -> None:
    picture = decode_image(encode(noise().convert("L"), "PNG", icc_profile=swapped_profile()))
    assert picture.notes == ()


# Hostile headers.


def test_a_png_with_a_huge_text_is_refused() -> None:
    bomb = b"comment\0\0" + zlib.compress(bytes(5_000_000))
    plain = encode(noise(), "PNG")
    data = plain[:33] + png_chunk(b"zTXt", bomb) + plain[33:]
    assert "PNG" in refusal(data)


def test_a_png_with_much_plain_text_loads() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 100_000)
    assert read_image(encode(noise(), "PNG", pnginfo=info)).size == (80, 60)


@pytest.mark.parametrize("tag", [273, 324])
def test_a_tiff_in_a_million_pieces_is_refused_at_once(tag: int) -> None:
    data = tiff([(256, 4, 1, 100), (257, 4, 1, 100), (tag, 4, 1_000_000, 8)], bytes(4_000_000))
    assert "pieces" in refusal(data)


@pytest.mark.parametrize("compression", [1, 2, 5, 6, 7, 8, 32773, 34712, 34925, 50000, 65535])
def test_a_tiff_of_hostile_compression_is_refused(compression: int) -> None:
    entries = [
        (256, 4, 1, 5000),
        (257, 4, 1, 5000),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1),
        (273, 4, 1, 8),
        (277, 3, 1, 1),
        (278, 4, 1, 2**32 - 1),
        (279, 4, 1, 2**32 - 1),
    ]
    refusal(tiff(entries, bytes(100)))


def test_a_tiff_of_hostile_size_is_refused() -> None:
    entries = [(256, 4, 1, 2**31), (257, 4, 1, 2**31), (258, 3, 1, 8), (273, 4, 1, 8)]
    refusal(tiff(entries))


def test_a_tiff_whose_directories_form_a_ring_is_read() -> None:
    data = bytearray(encode(smooth(), "TIFF"))
    with Image.open(io.BytesIO(bytes(data))) as image:
        assert isinstance(image, TiffImagePlugin.TiffImageFile)
        start = struct.unpack_from("<I", data, 4)[0]
        end = start + 2 + 12 * struct.unpack_from("<H", data, start)[0]
    struct.pack_into("<I", data, end, start)
    assert decode_image(bytes(data)).image.size == (80, 60)


def test_a_jpeg_of_countless_scans_is_refused() -> None:
    data = bytearray(encode(Image.new("L", (64, 64), 90), "JPEG", progressive=True))
    size = data.index(b"\xff\xc2") + 5
    struct.pack_into(">HH", data, size, 7000, 7000)
    scan = data[data.rindex(b"\xff\xda") : -2]
    assert "times over" in refusal(bytes(data[:-2] + scan * 60 + data[-2:]))


def test_a_progressive_jpeg_of_usual_scans_loads() -> None:
    assert read_image(encode(noise(), "JPEG", progressive=True)).size == (80, 60)


# Anything else.


def sources() -> list[bytes]:
    image = smooth(40, 30)
    icc = swapped_profile()
    exif = Image.Exif()
    exif[0x0112] = 8
    grey16 = Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 40)
    return [
        encode(image, "JPEG", exif=exif, icc_profile=icc),
        encode(image, "JPEG", progressive=True),
        encode(image.convert("CMYK"), "JPEG"),
        encode(image, "MPO", save_all=True, append_images=[image]),
        encode(image, "PNG", exif=exif, icc_profile=icc),
        encode(image.quantize(16), "PNG", transparency=3),
        encode(grey16, "PNG"),
        encode(image.convert("RGBA"), "WEBP", exif=exif),
        encode(image, "WEBP", save_all=True, append_images=[noise(40, 30)]),
        encode(image, "GIF", save_all=True, append_images=[noise(40, 30)]),
        encode(image, "BMP"),
        encode(image, "TIFF", exif=exif),
        encode(image, "TIFF", compression="tiff_lzw"),
        encode(image, "TIFF", compression="tiff_deflate"),
        encode(image, "TIFF", compression="jpeg"),
        encode(grey16, "TIFF"),
        encode(image, "TIFF", save_all=True, append_images=[image], big_tiff=True),
    ]


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    kind = rng.integers(4)
    if kind == 0:
        return bytes(out[: rng.integers(len(out))])
    if kind == 1:  # Flip bits of the header, where sizes and counts are.
        for place in rng.integers(0, min(len(out), 120), 3):
            out[place] ^= 1 << int(rng.integers(8))
    elif kind == 2:  # Overwrite anywhere.
        for place in rng.integers(0, len(out), 8):
            out[place] = int(rng.integers(256))
    else:  # Cut a piece out.
        start = int(rng.integers(len(out)))
        del out[start : start + int(rng.integers(1, 60))]
    return bytes(out)


@pytest.mark.filterwarnings("ignore")  # Pillow warns of what is broken.
def test_mutated_files_load_or_are_refused() -> None:
    rng = np.random.default_rng(2024)
    files = sources()
    for data in files:
        assert decode_image(data).image.mode == "RGB"
    loaded = refused = 0
    for trial in range(340):
        data = mutated(files[trial % len(files)], rng)
        try:
            picture = decode_image(data)
        except InputError:
            refused += 1
        else:
            assert picture.image.mode == "RGB"
            assert min(picture.image.size) >= 8
            loaded += 1
    assert loaded > 30
    assert refused > 30


def test_real_photographs_load(data_dir: Path) -> None:
    paths = sorted((data_dir / "images").glob("*.JPEG"))
    assert paths
    for path in paths[::6]:
        image = read_image(path.read_bytes())
        with Image.open(path) as direct:
            assert image.size in (direct.size, direct.size[::-1])
            assert image.mode == "RGB"
