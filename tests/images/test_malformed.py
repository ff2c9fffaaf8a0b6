"""Odd, malformed and huge files: a right picture, or one line, within bounds."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from covis.errors import ImageError
from covis.images import (
    check_picture,
    decode,
    load_image,
    memory,
    read_photo_info,
    read_samples,
    read_size,
)

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))
from malformed import cases, encoded, drawn, many_scans, png, write, zeros  # noqa: I001

A = drawn(np.random.default_rng(5), 120, 160)


def saved(tmp_path: Path, name: str, content: bytes) -> Path:
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def refused(path: Path) -> str:
    with pytest.raises(ImageError) as error:
        load_image(path, max_size=960)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_sample_of_the_benchmark(tmp_path: Path) -> None:
    found = cases(1, 130, with_huge=False)
    read, paths, told = {}, [], []
    for case in found:
        path = write(case, tmp_path)
        try:
            read[case.name] = load_image(path, max_size=200)
        except ImageError as error:
            told.append(str(error))
            paths.append(str(path))
    assert not any("\n" in line for line in told)
    assert all(path in line for path, line in zip(paths, told, strict=True))
    assert {case.name for case in found if case.good} <= set(read)
    assert len(told) > 20
    # One picture in many formats: in each of them it is the same.
    colours = load_image(tmp_path / "good-RGB.png", max_size=200).pixels.astype(float)
    for name in (
        "eight-in-sixteen.png", "ten-in-sixteen.tif", "sixteen.tif", "int32.tif", "float.tif",
    ):  # fmt: skip
        assert np.abs(read[name].pixels - colours[:, :, :1]).mean() < 12, name
    for name in ("broken-exif.png", "broken-exif.jpg", "good-RGB.tif", "good-P.png", "444.jpg"):
        assert np.abs(read[name].pixels - colours).mean() < 12, name


def test_exception_for_a_tiny_file_that_claims_a_huge_picture(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.png", png(17_000, 17_000, 8, 2, zeros(5)))
    assert "17000x17000 pixels, which take 1,156 MB" in refused(path)
    # A PNG's EXIF may follow its pixels, so that its header asks for them.
    for read in (read_size, lambda name: read_photo_info(name, None)):
        with pytest.raises(ImageError, match="1,156 MB"):
            read(path)


def test_a_large_jpeg_is_decoded_reduced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, "a.jpg", encoded(np.repeat(np.repeat(A, 8, 0), 8, 1), "JPEG"))
    monkeypatch.setattr(memory, "MEMORY", 200_000)
    assert load_image(path, max_size=160).pixels.shape == (120, 160, 3)
    with pytest.raises(ImageError, match="to decode"):
        load_image(path)


def test_exception_for_a_mask_that_takes_too_much(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, "a.jpg", encoded(A[:, :, 0], "JPEG", progressive=True))
    monkeypatch.setattr(memory, "MEMORY", 4 * 120 * 160)
    load_image(path)
    for read in (read_samples, lambda name: load_image(A, mask=name)):
        with pytest.raises(ImageError, match="to decode"):
            read(path)


def test_exception_for_scans_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = encoded(A, "JPEG", progressive=True)
    monkeypatch.setattr(memory, "SCANNED", 100 * A.shape[0] * A.shape[1])
    load_image(saved(tmp_path, "a.jpg", content))
    assert "too long" in refused(saved(tmp_path, "b.jpg", many_scans(content, 100)))


def test_a_progressive_jpeg_is_counted_by_its_coefficients(tmp_path: Path) -> None:
    path = saved(tmp_path, "a.jpg", encoded(A, "JPEG", progressive=True, subsampling=2))
    with path.open("rb") as file:
        assert memory.check_jpeg(file, str(path)) == 120 * 160 * 3 // 2 * 2
    path = saved(tmp_path, "b.jpg", encoded(A, "JPEG"))
    with path.open("rb") as file:
        assert memory.check_jpeg(file, str(path)) == 0


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "I;16"])
def test_bands_give_what_the_whole_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    pixels = A[:, :, 0].astype(np.uint16) * 4 if mode == "I;16" else A
    content = encoded(pixels, "PNG", "" if mode == "I;16" else mode)
    path = saved(tmp_path, "a.png", content)
    whole, small = load_image(path).pixels, load_image(path, max_size=40).pixels
    monkeypatch.setattr(decode, "_BAND", 160 * 7)
    np.testing.assert_array_equal(load_image(path).pixels, whole)
    monkeypatch.setattr(decode, "_LARGE", 1000)
    assert np.abs(load_image(path, max_size=40).pixels.astype(int) - small).mean() < 1


def test_bands_of_odd_sizes_do_not_move_the_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(tmp_path, "a.tif", encoded(A[:117, :151], "TIFF", tiffinfo={274: 6}))
    small = load_image(path, max_size=24)
    monkeypatch.setattr(decode, "_LARGE", 1000)
    found = load_image(path, max_size=24)
    assert found.pixels.shape == small.pixels.shape == (24, 19, 3)
    assert (found.width, found.height, found.orientation) == (117, 151, 6)
    assert np.abs(found.pixels.astype(int) - small.pixels).mean() < 4


def test_what_is_decoded_at_once_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path, "a.png", encoded(A, "PNG"))
    need = A.shape[0] * A.shape[1] * 4
    monkeypatch.setattr(memory, "MEMORY", need + 10)
    inside, most = [0], [0]
    bands = decode._in_bands

    def counted(*args):
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        found = bands(*args)
        inside[0] -= 1
        return found

    monkeypatch.setattr(decode, "_in_bands", counted)
    threads = [threading.Thread(target=load_image, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (most[0], inside[0]) == (1, 0)


def test_too_little_memory_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise MemoryError

    path = saved(tmp_path, "a.png", encoded(A, "PNG"))
    monkeypatch.setattr(PIL.Image.Image, "crop", full)
    monkeypatch.setattr(decode, "_BAND", 1000)
    assert "more memory than there is" in refused(path)


@pytest.mark.parametrize("top", [255, 1023, 4095, 65535])
def test_sixteen_bits_that_hold_fewer(tmp_path: Path, top: int) -> None:
    grey = np.linspace(0, top, 120 * 160).reshape(120, 160).astype(np.uint16)
    path = saved(tmp_path, "a.tif", encoded(grey, "TIFF"))
    expected = (grey.astype(int) * 256 // (top + 1)).astype(np.uint8)
    np.testing.assert_array_equal(load_image(path).pixels[:, :, 0], expected)
    np.testing.assert_array_equal(load_image(grey).pixels[:, :, 0], expected)


def test_floats_a_rounding_beyond_their_range() -> None:
    array = np.array([[0.0, -1e-7], [1.0000001, 0.2]], np.float64)
    assert load_image(array).pixels[:, :, 0].tolist() == [[0, 0], [255, 51]]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_exception_for_what_is_no_regular_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    for name in ("pipe.jpg", "device.jpg"):
        assert "is a pipe or a device" in refused(tmp_path / name)
        with pytest.raises(ImageError, match="is a pipe or a device"):
            check_picture(tmp_path / name)


def test_exception_for_a_file_beyond_all_bounds(tmp_path: Path) -> None:
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(30_000_000_000)
    assert "30,000,000,000 bytes" in refused(tmp_path / "a.jpg")


def test_exception_for_formats_that_are_not_on_the_list(tmp_path: Path) -> None:
    """Pillow hands PostScript to a program of its own."""
    page = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    assert "is not a picture covis can read" in refused(saved(tmp_path, "page.jpg", page))
    icon = encoded(A, "ICO")
    assert "is not a picture covis can read" in refused(saved(tmp_path, "icon.png", icon))


def test_libtiff_says_nothing_between_our_lines(tmp_path: Path) -> None:
    whole = encoded(A, "TIFF", compression="tiff_lzw")
    path = saved(tmp_path, "a.tif", whole[:100] + b"\xff" * 500 + whole[600:])
    code = (
        "import os, sys\nfrom covis.quiet import own_streams\nfrom covis.images import load_image\n"
        "def load():\n    try:\n        load_image(sys.argv[1])\n"
        "    except Exception as error:\n        print('refused', flush=True)\n"
        "load()\nos.write(2, b'before')\nown_streams()\nload()\n"
        "print('ours', file=sys.stderr)\nos.write(2, b'open again')"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True)
    before, _, after = done.stderr.partition("before")
    assert "Using code not yet in table" in before
    assert (done.stdout, after) == ("refused\nrefused\n", "ours\nopen again")
