"""`load_image` over formats, orientations, sizes, masks and everything that can go wrong."""

from __future__ import annotations

import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import features
from PIL.ExifTags import IFD, Base

from covis.errors import ArgumentError, ImageError
from covis.images.decode import load_image, read_labels, read_samples, to_grey
from covis.types import Image

Pixels = NDArray[np.uint8]

LOSSLESS = [
    ("png", {}),
    ("tif", {}),
    ("tif", {"compression": "tiff_lzw"}),
    ("tif", {"compression": "tiff_deflate"}),
    ("bmp", {}),
    ("webp", {"lossless": True}),
    ("ppm", {}),
]
LOSSY = ["jpg", "webp", *(["avif"] if features.check("avif") else [])]

# What a picture must go through so that a viewer who honours the tag sees it upright.
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.transpose(1, 0, 2),
    6: lambda a: np.rot90(a),
    7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
    8: lambda a: np.rot90(a, -1),
}


def scene(height: int = 60, width: int = 80, seed: int = 0) -> Pixels:
    """Smooth colours, other in every corner, so that JPEG keeps them and any flip shows."""
    corners = np.random.default_rng(seed).integers(0, 256, (3, 4, 3)).astype(np.uint8)
    return cv2.resize(corners, (width, height), interpolation=cv2.INTER_LINEAR)


def detailed(height: int, width: int) -> Pixels:
    noise = np.random.default_rng(1).integers(0, 256, (height // 8, width // 8, 3))
    return cv2.resize(noise.astype(np.uint8), (width, height), interpolation=cv2.INTER_CUBIC)


def saved(path: Path, pixels: NDArray[np.generic], **options: object) -> Path:
    PIL.Image.fromarray(np.ascontiguousarray(pixels)).save(path, **options)
    return path


def with_exif(**tags: object) -> PIL.Image.Exif:
    exif = PIL.Image.Exif()
    for name, value in tags.items():
        if name == "Orientation":
            exif[Base.Orientation] = value
        else:
            exif.get_ifd(IFD.Exif)[Base[name]] = value
    read_back = PIL.Image.Exif()  # Pillow writes the inner tags to TIFF only from such a one.
    read_back.load(exif.tobytes())
    return read_back


def difference(a: Pixels, b: Pixels) -> float:
    return float(np.abs(a.astype(float) - b.astype(float)).mean())


# Formats


@pytest.mark.parametrize(("suffix", "options"), LOSSLESS)
def test_lossless_file_and_array_give_the_same_pixels(tmp_path, suffix, options):
    path = saved(tmp_path / f"a.{suffix}", scene(), **options)
    for max_size in (None, 33):
        from_file = load_image(path, max_size=max_size)
        from_array = load_image(scene(), max_size=max_size)
        np.testing.assert_array_equal(from_file.pixels, from_array.pixels)
        assert (from_file.width, from_file.height) == (80, 60)
    assert from_file.name == str(path)
    assert from_array.name == "array"


@pytest.mark.parametrize("suffix", LOSSY)
def test_lossy_file_is_close_to_the_array(tmp_path, suffix):
    path = saved(tmp_path / f"a.{suffix}", scene(), quality=95)
    image = load_image(path)
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (60, 80, 3)
    assert difference(image.pixels, scene()) < 3


def test_jpeg_reads_as_pillow_reads_it(tmp_path):
    path = saved(tmp_path / "a.jpg", scene(), quality=95)
    with PIL.Image.open(path) as picture:
        assert difference(load_image(path).pixels, load_image(picture).pixels) < 1


def test_path_may_be_a_string(tmp_path):
    path = saved(tmp_path / "a.png", scene())
    np.testing.assert_array_equal(load_image(str(path)).pixels, scene())


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "bmp", "webp"])
def test_grey_file_has_three_equal_channels(tmp_path, suffix):
    options = {"lossless": True} if suffix == "webp" else {}
    image = load_image(saved(tmp_path / f"a.{suffix}", scene()[:, :, 0], **options))
    assert difference(image.pixels, np.repeat(scene()[:, :, :1], 3, axis=2)) < 2
    assert np.ptp(image.pixels, axis=2).max() == 0


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_grey_keeps_the_upper_eight_bits(tmp_path, suffix):
    deep = scene()[:, :, 0].astype(np.uint16) * 257
    path = saved(tmp_path / f"a.{suffix}", deep)
    np.testing.assert_array_equal(load_image(path).pixels[:, :, 1], scene()[:, :, 0])
    np.testing.assert_array_equal(load_image(path).pixels, load_image(deep).pixels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_rgb_keeps_the_upper_eight_bits(tmp_path, suffix):
    deep = np.random.default_rng(0).integers(0, 65536, (20, 30, 3)).astype(np.uint16)
    path = tmp_path / f"a.{suffix}"
    assert cv2.imwrite(str(path), deep[:, :, ::-1])
    np.testing.assert_array_equal(load_image(path).pixels, deep >> 8)
    np.testing.assert_array_equal(load_image(deep).pixels, deep >> 8)


def test_float_tiff_is_read_as_zero_to_one(tmp_path):
    path = saved(tmp_path / "a.tif", scene()[:, :, 0].astype(np.float32) / 255)
    np.testing.assert_array_equal(load_image(path).pixels[:, :, 0], scene()[:, :, 0])


def test_32_bit_integers_beyond_16_bits_are_refused(tmp_path):
    path = saved(tmp_path / "a.tif", np.full((4, 4), 70_000, np.int32))
    with pytest.raises(ImageError, match="32-bit"):
        load_image(path)


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
def test_transparent_parts_become_white(tmp_path, suffix):
    rgba = np.dstack([scene(), np.full((60, 80), 255, np.uint8)])
    rgba[:30, :, 3] = 0
    options = {"lossless": True} if suffix == "webp" else {}
    from_file = load_image(saved(tmp_path / f"a.{suffix}", rgba, **options))
    from_array = load_image(rgba)
    for image in (from_file, from_array):
        assert (image.pixels[:30] == 255).all()
        np.testing.assert_array_equal(image.pixels[30:], scene()[30:])


def test_half_transparent_black_over_white_is_mid_grey():
    rgba = np.zeros((2, 2, 4), np.uint8)
    rgba[:, :, 3] = 128
    assert (load_image(rgba).pixels == 127).all()


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette(tmp_path, suffix):
    picture = PIL.Image.fromarray(scene()).quantize(64)
    picture.save(tmp_path / f"a.{suffix}")
    expected = np.asarray(picture.convert("RGB"))
    np.testing.assert_array_equal(load_image(tmp_path / f"a.{suffix}").pixels, expected)
    np.testing.assert_array_equal(load_image(picture).pixels, expected)


@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palette_transparency_becomes_white(tmp_path, suffix):
    indices = np.zeros((10, 10), np.uint8)
    indices[5:] = 1
    picture = PIL.Image.fromarray(indices).convert("P")
    picture.putpalette([255, 0, 0, 0, 0, 255])
    picture.save(tmp_path / f"a.{suffix}", transparency=0)
    pixels = load_image(tmp_path / f"a.{suffix}").pixels
    assert (pixels[:5] == 255).all()
    assert (pixels[5:] == (0, 0, 255)).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_one_bit(tmp_path, suffix):
    bits = scene()[:, :, 0] > 128
    path = saved(tmp_path / f"a.{suffix}", bits)
    np.testing.assert_array_equal(load_image(path).pixels[:, :, 2], bits * np.uint8(255))


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
@pytest.mark.parametrize("max_size", [None, 80])
def test_cmyk(tmp_path, suffix, max_size):
    path = tmp_path / f"a.{suffix}"
    PIL.Image.fromarray(scene(120, 160)).convert("CMYK").save(path)
    image = load_image(path, max_size=max_size)
    assert difference(image.pixels, load_image(scene(120, 160), max_size=max_size).pixels) < 5


@pytest.mark.parametrize(
    ("array", "value"),
    [
        (np.full((4, 5), 51, np.uint8), 51),
        (np.full((4, 5, 1), 51, np.uint8), 51),
        (np.full((4, 5, 3), 51 * 257, np.uint16), 51),
        (np.full((4, 5, 3), 0.2, np.float16), 51),
        (np.full((4, 5, 3), 0.2, np.float32), 51),
        (np.full((4, 5), 0.2, np.float64), 51),
        (np.full((4, 5), 1.0, np.float32), 255),
    ],
)
def test_arrays(array, value):
    image = load_image(array)
    assert image.pixels.shape == (4, 5, 3)
    assert image.pixels.dtype == np.uint8
    assert (image.pixels == value).all()


def test_strided_array():
    view = scene()[::-2, ::3]
    np.testing.assert_array_equal(load_image(view).pixels, view)
    load_image(view, max_size=10)


def test_image_passes_through():
    image = load_image(scene())
    assert load_image(image) is image
    assert load_image(image, max_size=80) is image


def test_image_is_shrunk_with_its_mask():
    image = load_image(scene(), mask=np.arange(80)[None] * np.ones((60, 1)) < 40)
    small = load_image(image, max_size=40)
    assert small.pixels.shape == (30, 40, 3)
    assert (small.width, small.height) == (80, 60)
    np.testing.assert_array_equal(small.mask, np.arange(40)[None] * np.ones((30, 1)) < 20)


# Orientation and EXIF


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("suffix", "options"), [*LOSSLESS[:3], ("webp", {"lossless": True})])
def test_every_orientation_lossless(tmp_path, suffix, options, orientation):
    path = tmp_path / f"a.{suffix}"
    exif = with_exif(Orientation=orientation)
    saved(path, STORED[orientation](scene()), exif=exif, **options)
    image = load_image(path)
    np.testing.assert_array_equal(image.pixels, scene())
    assert (image.width, image.height) == (80, 60)
    with PIL.Image.open(path) as picture:
        np.testing.assert_array_equal(load_image(picture).pixels, scene())


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("max_size", [None, 70, 40, 16])
def test_every_orientation_jpeg(tmp_path, orientation, max_size):
    exif = with_exif(Orientation=orientation)
    path = saved(tmp_path / "a.jpg", STORED[orientation](scene(120, 160)), exif=exif, quality=95)
    image = load_image(path, max_size=max_size)
    expected = load_image(scene(120, 160), max_size=max_size).pixels
    assert image.pixels.shape == expected.shape
    assert difference(image.pixels, expected) < 3
    assert (image.width, image.height) == (160, 120)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_every_orientation_avif(tmp_path, orientation):
    exif = with_exif(Orientation=orientation)
    path = saved(tmp_path / "a.avif", STORED[orientation](scene()), exif=exif, quality=95)
    image = load_image(path)
    assert (image.width, image.height) == (80, 60)
    assert difference(image.pixels, scene()) < 3


def test_unknown_orientation_is_upright(tmp_path):
    path = saved(tmp_path / "a.png", scene(), exif=with_exif(Orientation=99))
    np.testing.assert_array_equal(load_image(path).pixels, scene())


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_focal_length_from_35mm_equivalent(tmp_path, suffix):
    exif = with_exif(FocalLengthIn35mmFilm=50, Orientation=6)
    path = saved(tmp_path / f"a.{suffix}", scene(300, 400), exif=exif)
    focal = load_image(path, max_size=50).focal_length
    assert focal == pytest.approx(50 * 500 / np.hypot(36, 24))


def test_focal_length_from_the_sensor(tmp_path):
    # 20 mm behind pixels of 5 micrometres: 4000 pixels, in a picture since halved.
    exif = with_exif(
        FocalLength=20.0,
        FocalPlaneXResolution=2000.0,
        FocalPlaneResolutionUnit=3,
        ExifImageWidth=800,
    )
    path = saved(tmp_path / "a.jpg", scene(300, 400), exif=exif)
    assert load_image(path).focal_length == pytest.approx(2000)


@pytest.mark.parametrize(
    "tags",
    [
        {},
        {"FocalLengthIn35mmFilm": 0},
        {"FocalLength": 20.0},
        {"FocalLength": 20.0, "FocalPlaneXResolution": 0.0},
    ],
)
def test_focal_length_unknown(tmp_path, tags):
    path = saved(tmp_path / "a.jpg", scene(), exif=with_exif(**tags))
    assert load_image(path).focal_length is None


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"FocalLengthIn35mmFilm": 1}, "cannot be"),
        ({"FocalLengthIn35mmFilm": 65535}, "cannot be"),
        ({"FocalLength": 20.0, "FocalPlaneXResolution": 2.0}, "cannot be"),
        (
            {"FocalLengthIn35mmFilm": 50, "ExifImageWidth": 4000, "ExifImageHeight": 2000},
            "is of a picture of 4000x2000, not 400x300",
        ),
    ],
)
def test_focal_length_that_is_none(tmp_path, tags, words):
    image = load_image(saved(tmp_path / "a.jpg", scene(300, 400), exif=with_exif(**tags)))
    assert image.focal_length is None
    assert words in image.focal_ignored


@pytest.mark.parametrize("taken", [{}, {"ExifImageHeight": 300}])
def test_focal_length_of_a_picture_that_a_viewer_turned(tmp_path, taken):
    """The file has 300x400 pixels, the camera wrote 400x300."""
    tags = {"FocalLength": 20.0, "FocalPlaneXResolution": 508.0, "ExifImageWidth": 400}
    path = saved(tmp_path / "a.jpg", scene(400, 300), exif=with_exif(**tags, **taken))
    assert load_image(path).focal_length == pytest.approx(400)


# Sizes


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 300),
    height=st.integers(1, 300),
    max_size=st.integers(1, 400),
    as_jpeg=st.booleans(),
)
def test_size_after_max_size(tmp_path_factory, width, height, max_size, as_jpeg):
    source = np.zeros((height, width, 3), np.uint8)
    if as_jpeg:
        source = saved(tmp_path_factory.getbasetemp() / "size.jpg", source)
    image = load_image(source, max_size=max_size)
    small_height, small_width = image.pixels.shape[:2]
    assert (image.width, image.height) == (width, height)
    assert max(small_width, small_height) == min(max_size, max(width, height))
    scale = max(small_width, small_height) / max(width, height)
    assert small_width == pytest.approx(width * scale, abs=0.5) or small_width == 1
    assert small_height == pytest.approx(height * scale, abs=0.5) or small_height == 1


@pytest.mark.parametrize(("width", "height"), [(1001, 707), (1007, 755), (1024, 768)])
@pytest.mark.parametrize("max_size", [500, 250, 125, 90])
def test_reduced_decoding_does_not_move_the_picture(tmp_path, width, height, max_size):
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    waves = np.sin(x / 23) + np.sin(y / 19) + np.sin((x + y) / 31)
    path = saved(tmp_path / "a.jpg", (127 + 40 * waves).astype(np.uint8), quality=95)
    reduced = to_grey(load_image(path, max_size=max_size)).astype(float)
    full = to_grey(load_image(load_image(path), max_size=max_size)).astype(float)
    far_corner = slice(reduced.shape[0] // 2, -2), slice(reduced.shape[1] // 2, -2)
    slopes = np.stack([g[far_corner].ravel() for g in np.gradient(full)], axis=1)
    shift = np.linalg.lstsq(slopes, (reduced - full)[far_corner].ravel())[0]
    assert np.abs(shift).max() < 0.05


@pytest.mark.parametrize("max_size", [-5, 2.5, "9"])
def test_exception_max_size(max_size):
    with pytest.raises(ArgumentError, match="max_size"):
        load_image(scene(), max_size=max_size)


@pytest.mark.parametrize("max_size", [None, 0])
def test_full_size_is_the_default(max_size):
    assert load_image(scene(), max_size=max_size).pixels.shape == load_image(scene()).pixels.shape


# Masks


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(2, 200),
    height=st.integers(2, 200),
    factor=st.floats(0.3, 3),
    max_size=st.integers(2, 200),
)
def test_mask_of_the_same_aspect_is_resized_to_the_pixels(width, height, factor, max_size):
    shape = max(1, round(height * factor)), max(1, round(width * factor))
    for value in (False, True):
        image = load_image(
            np.zeros((height, width), np.uint8), max_size=max_size, mask=np.full(shape, value)
        )
        assert image.mask.dtype == np.bool_
        assert image.mask.shape == image.pixels.shape[:2]
        assert (image.mask == value).all()


def test_mask_of_full_size_is_kept_exactly():
    mask = np.random.default_rng(0).random((60, 80)) < 0.5
    np.testing.assert_array_equal(load_image(scene(), mask=mask).mask, mask)
    np.testing.assert_array_equal(load_image(scene(), mask=mask * 7.0).mask, mask)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16])
def test_mask_file_any_nonzero_value_counts(tmp_path, dtype):
    mask = np.zeros((60, 80), dtype)
    mask[10:20, 30:50] = 1
    path = saved(tmp_path / "mask.png", mask)
    np.testing.assert_array_equal(load_image(scene(), mask=path).mask, mask != 0)


def test_mask_lies_on_the_upright_picture(tmp_path):
    exif = with_exif(Orientation=6)
    path = saved(tmp_path / "a.jpg", STORED[6](scene(120, 160)), exif=exif)
    mask = np.zeros((120, 160), bool)
    mask[:60] = True
    image = load_image(path, max_size=40, mask=mask)
    assert image.mask[:15].all()
    assert not image.mask[15:].any()


@pytest.mark.parametrize("shape", [(80, 60), (60, 60), (60, 80, 3), (60,), (0, 0)])
def test_exception_mask_that_does_not_fit(shape):
    with pytest.raises(ImageError, match="mask"):
        load_image(scene(), mask=np.zeros(shape, np.uint8))


def test_exception_mask_file_missing(tmp_path):
    with pytest.raises(ImageError, match=r"none\.png.*no such file"):
        load_image(scene(), mask=tmp_path / "none.png")


# Errors


def assert_one_line(error: pytest.ExceptionInfo[Exception], *parts: str) -> None:
    message = str(error.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_exception_missing_file(tmp_path):
    for path in (tmp_path / "none.jpg", saved(tmp_path / "a.png", scene()) / "b.png"):
        with pytest.raises(ImageError) as error:
            load_image(path)
        assert_one_line(error, str(path), "no such file")


def test_exception_folder(tmp_path):
    with pytest.raises(ImageError) as error:
        load_image(tmp_path)
    assert_one_line(error, str(tmp_path), "folder")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no chmod 0")
def test_exception_no_permission(tmp_path):
    if os.geteuid() == 0:
        pytest.skip("root may read every file")
    path = saved(tmp_path / "a.png", scene())
    path.chmod(0)
    with pytest.raises(ImageError, match="permission"):
        load_image(path)


def test_exception_no_permission_as_the_system_reports_it(tmp_path, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    path = saved(tmp_path / "a.png", scene())
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError) as error:
        load_image(path)
    assert_one_line(error, "a.png", "permission")


def test_exception_path_with_a_null_byte():
    with pytest.raises(ImageError, match="cannot be opened"):
        load_image("a\0.png")


def test_exception_empty_file(tmp_path):
    path = tmp_path / "a.jpg"
    path.touch()
    with pytest.raises(ImageError) as error:
        load_image(path)
    assert_one_line(error, str(path), "empty")


@pytest.mark.parametrize("content", [b"x", b"hello, world\n" * 100, bytes(1000)])
def test_exception_not_an_image(tmp_path, content):
    path = tmp_path / "a.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError) as error:
        load_image(path)
    assert_one_line(error, str(path), "not a picture")


@pytest.mark.filterwarnings("ignore:.*(Truncated|Corrupt).*:UserWarning")
@pytest.mark.parametrize("max_size", [None, 300, 60])
@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9, 0.995])
@pytest.mark.parametrize("kind", ["jpg", "progressive", "png", "webp", "bmp", "tif"])
def test_exception_truncated(tmp_path, capfd, kind, kept, max_size):
    suffix, options = ("jpg", {"progressive": True}) if kind == "progressive" else (kind, {})
    whole = saved(tmp_path / f"whole.{suffix}", detailed(480, 640), **options).read_bytes()
    path = tmp_path / f"cut.{suffix}"
    path.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ImageError) as error:
        load_image(path, max_size=max_size)
    assert_one_line(error, str(path), "cut short")
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("max_size", [None, 60])
def test_exception_jpeg_whose_end_was_never_written(tmp_path, max_size):
    whole = saved(tmp_path / "whole.jpg", detailed(480, 640)).read_bytes()
    half = len(whole) // 2
    path = tmp_path / "zeros.jpg"
    path.write_bytes(whole[:half] + bytes(len(whole) - half))
    with pytest.raises(ImageError, match="cut short"):
        load_image(path, max_size=max_size)


@pytest.mark.parametrize("max_size", [None, 60])
def test_exception_truncated_jpeg_with_a_whole_thumbnail(tmp_path, max_size):
    thumbnail = saved(tmp_path / "thumbnail.jpg", scene()).read_bytes()
    whole = saved(
        tmp_path / "whole.jpg", detailed(480, 640), exif=b"Exif\0\0" + thumbnail
    ).read_bytes()
    load_image(tmp_path / "whole.jpg", max_size=max_size)
    path = tmp_path / "cut.jpg"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ImageError, match="cut short"):
        load_image(path, max_size=max_size)


def test_jpeg_with_bytes_after_its_end_is_whole(tmp_path):
    path = saved(tmp_path / "a.jpg", scene())
    expected = load_image(path).pixels
    path.write_bytes(path.read_bytes() + bytes(5000))
    np.testing.assert_array_equal(load_image(path).pixels, expected)


def test_exception_damaged_png(tmp_path):
    path = saved(tmp_path / "a.png", detailed(480, 640))
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 200] = bytes(200)
    path.write_bytes(content)
    with pytest.raises(ImageError, match="damaged"):
        load_image(path)


def test_exception_decompression_bomb(tmp_path):
    """A header alone that claims 20000x20000 pixels: refused before anything is decoded."""
    path = tmp_path / "bomb.png"
    header = b"IHDR" + (20_000).to_bytes(4) * 2 + bytes([8, 2, 0, 0, 0])
    chunks = [header, b"IDAT" + zlib.compress(b""), b"IEND"]
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join((len(c) - 4).to_bytes(4) + c + zlib.crc32(c).to_bytes(4) for c in chunks)
    )
    with pytest.raises(ImageError) as error:
        load_image(path)
    assert_one_line(error, str(path), "20000x20000")


@pytest.mark.parametrize(("suffix", "options"), LOSSLESS)
def test_pillows_lower_limit_does_not_apply_and_is_left_alone(
    tmp_path, monkeypatch, suffix, options
):
    path = saved(tmp_path / f"a.{suffix}", scene(), **options)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    with ThreadPoolExecutor(4) as pool:
        assert [image.width for image in pool.map(load_image, [path] * 8)] == [80] * 8
    assert PIL.Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr("covis.images.opened.MAX_PIXELS", 10)
    with pytest.raises(ImageError, match="80x60"):
        load_image(path)


@pytest.mark.parametrize("shape", [(0, 10), (10, 0, 3), (0, 0, 3)])
def test_exception_empty_array(shape):
    with pytest.raises(ImageError, match="no pixels"):
        load_image(np.zeros(shape, np.uint8))


def test_exception_empty_pillow_image():
    with pytest.raises(ImageError, match="no pixels"):
        load_image(PIL.Image.new("RGB", (0, 5)))


@pytest.mark.parametrize("shape", [(5,), (5, 5, 2), (3, 5, 5), (1, 5, 5, 3), ()])
def test_exception_array_shape(shape):
    with pytest.raises(ImageError, match="shape"):
        load_image(np.zeros(shape, np.uint8))


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint32, np.bool_, np.complex64, object])
def test_exception_array_dtype(dtype):
    with pytest.raises(ImageError, match="dtype"):
        load_image(np.zeros((5, 5), dtype))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_exception_array_not_finite(value):
    array = np.zeros((5, 5), np.float32)
    array[2, 3] = value
    with pytest.raises(ImageError, match="NaN or infinite"):
        load_image(array)


@pytest.mark.parametrize("value", [-0.1, 1.5, 255.0])
def test_exception_float_array_out_of_range(value):
    with pytest.raises(ImageError, match=r"0\.\.1"):
        load_image(np.full((5, 5), value))


@pytest.mark.parametrize("source", [None, 3, b"a.png", [[0, 1], [1, 0]]])
def test_exception_unsupported_source(source):
    with pytest.raises(ArgumentError, match=type(source).__name__):
        load_image(source)


# Grey


def test_to_grey_is_the_mean_of_the_channels():
    pixels = np.random.default_rng(0).integers(0, 256, (31, 47, 3)).astype(np.uint8)
    grey = to_grey(load_image(pixels))
    assert grey.dtype == np.float32
    np.testing.assert_allclose(grey, pixels.mean(axis=2) / 255, atol=1e-6)


def test_to_grey_spans_zero_to_one():
    assert to_grey(Image(np.zeros((2, 2, 3), np.uint8), 2, 2)).max() == 0
    assert to_grey(Image(np.full((2, 2, 3), 255, np.uint8), 2, 2)).min() == pytest.approx(1)


# As stored


@pytest.mark.parametrize("suffix", ["png", "tif", "ppm"])
def test_samples_keep_their_depth_and_stay_as_stored(tmp_path, suffix):
    exif = with_exif(Orientation=6)
    depth = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000
    for array in (depth, scene(20, 30), scene(20, 30)[:, :, 0]):
        path = saved(tmp_path / f"a.{suffix}", array, exif=exif)
        found = read_samples(path)
        np.testing.assert_array_equal(found, array)
        assert found.dtype == array.dtype


def test_labels_are_the_indices_of_a_palette(tmp_path):
    labels = np.arange(12, dtype=np.uint8).reshape(3, 4) % 3
    picture = PIL.Image.fromarray(labels)
    picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(tmp_path / "a.png")
    found = read_labels(tmp_path / "a.png")
    assert found is not None
    np.testing.assert_array_equal(found[0], labels)
    assert found[1][:9] == [0, 0, 0, 128, 0, 0, 0, 128, 0]
    assert read_labels(saved(tmp_path / "b.png", labels)) is None
    with pytest.raises(ImageError, match="no such file"):
        read_labels(tmp_path / "c.png")
