"""What a picture's EXIF says of how it was taken."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import PIL.Image
from PIL.ExifTags import GPS, IFD, Base

from covis.errors import ImageError
from covis.images.memory import decoding
from covis.images.opened import opened
from covis.images.orientation import UPRIGHT, Orientation

_FULL_FRAME_DIAGONAL = math.hypot(36, 24)
ASPECT_ROOM = 0.01
"""By what share of the longer side the shorter one may differ from the aspect in EXIF."""
_UNITS_IN_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}


Place = tuple[float, float, float | None]


@dataclass(frozen=True)
class PhotoInfo:
    """What a photo's file says of how it was taken.

    size: (width, height) of the file's pixels. body: make, model and lens; empty where EXIF does
    not tell. focal: in pixels, None where it does not tell, or nothing that can be; ignored: why,
    in words, where it tells something that is not used. place: latitude and longitude in
    degrees, altitude in metres or None where it is not known. orientation: what makes the file's
    pixels upright.
    """

    size: tuple[int, int]
    body: str = ""
    focal: float | None = None
    place: Place | None = None
    orientation: Orientation = UPRIGHT
    ignored: str = ""


def read_photo_info(path: str | os.PathLike[str], focal: float | None) -> PhotoInfo:
    """Read a photo's header. focal: as `load_image` found it, in pixels. Raises ImageError."""
    try:
        with opened(path) as (_, picture):
            size, exif = stored_size(picture), _exif_of_file(picture, path)
            tags, gps = _block(exif, IFD.Exif), _block(exif, IFD.GPSInfo)
    except ImageError:
        if os.path.exists(path):
            raise
        raise ImageError(f"{os.fspath(path)} cannot be read any more; was it moved?") from None
    named = (exif.get(Base.Make), exif.get(Base.Model), tags.get(Base.LensModel))
    body = " ".join(str(name).strip("\0 ") for name in named if name)
    if focal is not None and not plausible_focal(focal, size):  # As older stores have it.
        focal = None
    ignored = focal_length(exif, size)[1] if focal is None else ""
    return PhotoInfo(size, body, focal, _place(gps), orientation(exif), ignored)


def read_size(path: str | os.PathLike[str]) -> tuple[int, int]:
    """(width, height) of the upright picture in pixels, from its header. Raises ImageError."""
    with opened(path) as (_, picture):
        return orientation(_exif_of_file(picture, path)).of_size(stored_size(picture))


def exif_of(picture: PIL.Image.Image) -> PIL.Image.Exif:
    """A picture's EXIF; an empty one where it cannot be read, which harms no pixel."""
    try:
        exif = picture.getexif()
        dict(exif)
    except Exception:  # Whatever Pillow trips over in it.
        return PIL.Image.Exif()
    return exif


def exif_with(picture: PIL.Image.Image) -> PIL.Image.Exif:
    """The same of a picture that is not loaded yet, which a PNG then is: in it EXIF may follow the
    pixels."""
    if picture.format == "PNG":
        picture.load()
    return exif_of(picture)


def _exif_of_file(picture: PIL.Image.Image, path: str | os.PathLike[str]) -> PIL.Image.Exif:
    if picture.format != "PNG":
        return exif_of(picture)
    with decoding(picture, os.fspath(path)):
        return exif_with(picture)


def _block(exif: PIL.Image.Exif, which: IFD) -> Mapping[int, Any]:
    try:
        return exif.get_ifd(which)
    except Exception:  # As above.
        return {}


def orientation(exif: PIL.Image.Exif) -> Orientation:
    """What makes the file's pixels upright."""
    return Orientation.from_exif(exif.get(Base.Orientation))


def plausible_focal(focal: float, size: tuple[int, int]) -> bool:
    """Whether a lens can have that focal length in pixels, in a picture of (width, height)."""
    return 0.1 * max(size) <= focal <= 10 * max(size)


def focal_length(exif: PIL.Image.Exif, size: tuple[int, int]) -> tuple[float | None, str]:
    """In pixels of the full size, None where EXIF does not tell; and why it was ignored, in words.

    size: (width, height) as stored.

    The 35 mm equivalent is taken as the standard (CIPA DCG-001) defines it: the same angle of
    view along the diagonal. Without it, the length in millimetres and the sensor's resolution
    are used, scaled where the picture no longer has the size the camera wrote, turned or not.
    Ignored are lengths that no lens has, and those of a picture of another aspect: it was cropped.
    """
    tags = _block(exif, IFD.Exif)
    taken = _positive(tags.get(Base.ExifImageWidth)), _positive(tags.get(Base.ExifImageHeight))
    equivalent = _positive(tags.get(Base.FocalLengthIn35mmFilm))
    length = _positive(tags.get(Base.FocalLength))
    resolution = _positive(tags.get(Base.FocalPlaneXResolution))
    unit = _UNITS_IN_MM.get(tags.get(Base.FocalPlaneResolutionUnit, 2))
    if equivalent is not None:
        focal = equivalent / _FULL_FRAME_DIAGONAL * math.hypot(*size)
        words = f"EXIF's focal length ({equivalent:g} mm of 35 mm film)"
    elif length is not None and resolution is not None and unit is not None:
        focal = length * resolution / unit * _scale(size, taken)
        words = f"EXIF's focal length ({length:g} mm, {resolution:g} pixels in {unit:g} mm)"
    else:
        return None, ""
    if not plausible_focal(focal, size):
        return None, f"{words} cannot be, and is ignored"
    if not _same_aspect(size, taken):
        of = f"{taken[0]:g}x{taken[1]:g}"
        return None, f"{words} is of a picture of {of}, not {size[0]}x{size[1]}, and is ignored"
    return focal, ""


def _scale(size: tuple[int, int], taken: tuple[float | None, float | None]) -> float:
    """How many times as large a picture is as it was taken, turned or not."""
    width, height = taken
    if width is None:
        return 1.0
    if height is not None:
        return max(size) / max(width, height)
    return 1.0 if width in size else size[0] / width


def _same_aspect(size: tuple[int, int], taken: tuple[float | None, float | None]) -> bool:
    """Whether a picture may be all of what was taken, turned or not, at any scale."""
    width, height = taken
    if width is None or height is None:
        return True
    long, short = max(width, height), min(width, height)
    # Sides are whole numbers; some cameras write the sensor's, a few pixels larger.
    room = max(size) * ASPECT_ROOM + 1
    return abs(max(size) * short / long - min(size)) <= room


def stored_size(picture: PIL.Image.Image) -> tuple[int, int]:
    """Of the pixels in the file; Pillow gives that of a TIFF as if it were upright."""
    tags = getattr(picture, "tag_v2", None)
    return picture.size if tags is None else (int(tags[256]), int(tags[257]))


def _place(gps: Mapping[int, Any]) -> Place | None:
    try:
        angles = []
        for value, side, negative in (
            (GPS.GPSLatitude, GPS.GPSLatitudeRef, "S"),
            (GPS.GPSLongitude, GPS.GPSLongitudeRef, "W"),
        ):
            degrees, minutes, seconds = (float(part) for part in gps[value])
            angle = degrees + minutes / 60 + seconds / 3600
            angles.append(-angle if str(gps.get(side, "")).strip("\0 ") == negative else angle)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    if not all(math.isfinite(angle) for angle in angles):
        return None
    altitude = _positive(gps.get(GPS.GPSAltitude))  # 0 is written where it is not known.
    if altitude is not None and gps.get(GPS.GPSAltitudeRef) in (1, b"\x01"):
        altitude = -altitude
    return angles[0], angles[1], altitude


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
