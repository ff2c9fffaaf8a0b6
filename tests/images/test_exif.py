"""What EXIF says of a photo."""

from __future__ import annotations

from pathlib import Path

import PIL.Image
import pytest
from PIL.TiffImagePlugin import IFDRational

from covis.errors import ImageError
from covis.images.exif import PhotoInfo, read_photo_info, read_size
from covis.images.orientation import Orientation


def test_shots_say_what_exif_says(tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[271], exif[272] = "Maker", "Model X"
    gps = exif.get_ifd(0x8825)
    gps.update({1: "S", 2: (48.0, 30.0, 36.0), 3: "W", 4: (11.0, 0.0, 0.0), 5: b"\x00", 6: 520.5})
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "b.jpg")
    shot = read_photo_info(tmp_path / "a.jpg", 9.0)
    assert (shot.size, shot.body, shot.focal) == ((8, 6), "Maker Model X", 9.0)
    assert shot.place == pytest.approx((-48.51, -11.0, 520.5))
    assert read_photo_info(tmp_path / "b.jpg", None) == PhotoInfo((8, 6))
    with pytest.raises(ImageError, match="was it moved"):
        read_photo_info(tmp_path / "c.jpg", None)


@pytest.mark.parametrize("altitude", [{}, {6: 0.0}, {6: IFDRational(0, 0)}])
def test_altitudes_that_are_not_known(tmp_path: Path, altitude: dict[int, float]) -> None:
    """Missing, 0 (as some cameras write) and 0/0; a photo keeps its latitude and longitude."""
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 30.0, 0.0), 3: "E", 4: (11.0, 0, 0), **altitude})
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    assert read_photo_info(tmp_path / "a.jpg", None).place == (48.5, 11.0, None)


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
def test_sizes_before_and_after_exif(suffix: str, tmp_path: Path) -> None:
    exif = PIL.Image.Exif()
    exif[274] = 7
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / f"a.{suffix}", exif=exif)
    shot = read_photo_info(tmp_path / f"a.{suffix}", None)
    assert (shot.size, shot.orientation) == ((8, 6), Orientation(90, mirrored=True))
    assert read_size(tmp_path / f"a.{suffix}") == (6, 8)


def test_pillows_limit_does_not_apply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a photo of 200 megapixels could be added to a store, but not mapped."""
    PIL.Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 10)
    assert read_photo_info(tmp_path / "a.png", None).size == read_size(tmp_path / "a.png")
    monkeypatch.setattr("covis.images.opened.MAX_PIXELS", 10)
    for read in (read_size, lambda path: read_photo_info(path, None)):
        with pytest.raises(ImageError, match="8x6 pixels, more than"):
            read(tmp_path / "a.png")
