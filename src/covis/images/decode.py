"""Decode pictures: any common format, upright, 8-bit RGB, no larger than needed.

Pillow reads headers, reports damage, and decodes PNG, WebP and TIFF as fast as OpenCV does.
JPEGs go through OpenCV, twice as fast, and are decoded at 1/2, 1/4 or 1/8 where that is enough.
"""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.ExifTags import IFD, Base

from covis.errors import ArgumentError, ImageError
from covis.messages import not_there
from covis.types import BoolArray, Image

MAX_PIXELS = 300_000_000
"""Files that claim more pixels than this are refused before they are decoded."""

Source = str | os.PathLike[str] | PIL.Image.Image | NDArray[Any] | Image
MaskSource = str | os.PathLike[str] | NDArray[Any]

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"II*\0", b"MM\0*", b"BM")
_JPEG_END = b"\xff\xd9"
_JPEG_SCALES = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}
_FULL_FRAME_DIAGONAL = math.hypot(36, 24)
_UNITS_IN_MM = {2: 25.4, 3: 10.0, 4: 1.0, 5: 0.001}

# EXIF orientation: whether to transpose first, then which axes to flip (cv2.flip's code).
_UPRIGHT: dict[int, tuple[bool, int | None]] = {
    2: (False, 1),
    3: (False, -1),
    4: (False, 0),
    5: (True, None),
    6: (True, 1),
    7: (True, -1),
    8: (True, 0),
}

_pillow_limit = threading.Lock()


def load_image(
    source: Source, *, max_size: int | None = None, mask: MaskSource | None = None
) -> Image:
    """Load a picture from a file, a Pillow image or an array.

    source: a path; a Pillow image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB and
        upright, uint8, uint16 or float in 0..1 (a uint8 (H, W, 3) array is not copied); or an
        `Image`, which passes through, shrunk where needed.
    max_size: the longest side of `pixels` in pixels at most; None for full size. Never enlarges.
    mask: what to ignore, nonzero or True: a path or an array (h, w), of the upright picture's
        size or any size of the same aspect. Replaces the mask of an `Image`.

    Paths and Pillow images are turned upright after EXIF and give `focal_length` where EXIF
    tells it. Of several frames or pages the first is read. Transparent parts become white.
    Of 16 bits the upper eight are kept.

    Raises ImageError for a source or mask that cannot be used, ArgumentError for a max_size
    below 1 or a source of another type.
    """
    if max_size is not None and max_size < 1:
        raise ArgumentError(f"max_size is {max_size}; it must be at least 1, or None.")
    match source:
        case Image():
            image = source
        case PIL.Image.Image():
            image = _from_pillow(source)
        case np.ndarray():
            pixels = _rgb(source, "array")
            image = Image(pixels, pixels.shape[1], pixels.shape[0])
        case str() | os.PathLike():
            image = _from_file(os.fspath(source), max_size)
        case _:
            raise ArgumentError(
                f"Cannot load an image from {type(source).__name__}; pass a path, "
                "a NumPy array, a Pillow image or a covis Image."
            )
    if max_size is not None:
        image = _fit(image, max_size)
    if mask is not None:
        image = replace(image, mask=_load_mask(mask, image))
    return image


def check_picture(path: str | os.PathLike[str]) -> None:
    """Raise the ImageError of `load_image` for a file whose header already tells it; fast."""
    with _opened(os.fspath(path)):
        pass


def to_grey(image: Image) -> NDArray[np.float32]:
    """The mean of the three channels of `image.pixels`: (h, w) float32 in 0..1."""
    red, green, blue = cv2.split(image.pixels)
    total = cv2.add(red, green, dtype=cv2.CV_16U)
    total = cv2.add(total, blue, dtype=cv2.CV_16U)
    return np.multiply(total, np.float32(1 / 765), dtype=np.float32)


def _from_file(path: str, max_size: int | None) -> Image:
    with _opened(path) as (file, picture):
        size = picture.size
        if picture.format in ("JPEG", "MPO"):
            _check_jpeg_ends(file, path)
            pixels = _jpeg(file, picture, path, max_size)
        else:
            pixels = _rgb(_samples(picture, path), path)
            size = pixels.shape[1], pixels.shape[0]
        return _upright_image(pixels, size, picture.getexif(), path)


def _from_pillow(picture: PIL.Image.Image) -> Image:
    name = str(getattr(picture, "filename", "") or "Pillow image")
    if 0 in picture.size:
        raise ImageError(f"{name}: the picture has no pixels ({picture.width}x{picture.height}).")
    with _damage_reported(name):
        pixels = _rgb(_samples(picture, name), name)
        return _upright_image(pixels, (pixels.shape[1], pixels.shape[0]), picture.getexif(), name)


def _upright_image(
    pixels: NDArray[np.uint8], size: tuple[int, int], exif: PIL.Image.Exif, name: str
) -> Image:
    orientation = exif.get(Base.Orientation, 1)
    orientation = orientation if orientation in _UPRIGHT else 1
    width, height = size[::-1] if _UPRIGHT.get(orientation, (False, None))[0] else size
    return Image(
        pixels=_upright(pixels, orientation),
        width=width,
        height=height,
        name=name,
        focal_length=_focal_length(exif, size),
        orientation=orientation,
    )


def _upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    transpose, flip = _UPRIGHT.get(orientation, (False, None))
    if transpose:
        pixels = cv2.transpose(pixels)
    return pixels if flip is None else cv2.flip(pixels, flip)


@contextmanager
def _opened(path: str) -> Iterator[tuple[BinaryIO, PIL.Image.Image]]:
    """The file and its header as Pillow reads it; what goes wrong inside becomes ImageError."""
    try:
        file = open(path, "rb")  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise ImageError(not_there(path)) from None
    except IsADirectoryError:
        raise ImageError(f"{path} is a folder; give the path of a picture in it.") from None
    except PermissionError:
        raise ImageError(f"{path}: no permission to read it; change its rights.") from None
    except (OSError, ValueError) as error:
        raise ImageError(f"{path} cannot be opened: {error}.") from None
    with file, _damage_reported(path):
        if os.fstat(file.fileno()).st_size == 0:
            raise ImageError(f"{path} is empty (0 bytes); copy or download it again.")
        try:
            picture = _header(file)
        except PIL.UnidentifiedImageError:
            file.seek(0)
            if file.read(4).startswith(_SIGNATURES):
                raise
            raise ImageError(
                f"{path} is not a picture covis can read; convert it to JPEG or PNG."
            ) from None
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError(
                f"{path} claims {picture.width}x{picture.height} pixels, more than the "
                f"{MAX_PIXELS // 1_000_000} million covis decodes; make it smaller first."
            )
        with picture:
            yield file, picture


def _header(file: BinaryIO) -> PIL.Image.Image:
    """Open without Pillow's own, lower limit on pixels, which is a global of its module."""
    with _pillow_limit:
        limit, PIL.Image.MAX_IMAGE_PIXELS = PIL.Image.MAX_IMAGE_PIXELS, None
        try:
            return PIL.Image.open(file)
        finally:
            PIL.Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def _damage_reported(name: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged data, which can be anything, into ImageError."""
    try:
        yield
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ImageError(
            f"{name} is damaged or cut short ({reason}); copy or download it again."
        ) from error


def _check_jpeg_ends(file: BinaryIO, path: str) -> None:
    """Raise ImageError where no end marker follows the start of the scan.

    Decoders fill the missing part of a file with grey. Inside a scan the end marker cannot
    occur by chance; before it, it can: a thumbnail in EXIF has its own.
    """
    position = 2
    while True:
        file.seek(position)
        segment = file.read(4)
        if len(segment) < 4:
            raise ImageError(f"{path} is cut short: no picture data; copy or download it again.")
        if segment[1] == 0xDA:
            break
        is_filler = segment[0] != 0xFF or segment[1] in (0x00, 0x01, 0xFF)
        position += 1 if is_filler else 2 + int.from_bytes(segment[2:])
    if _JPEG_END not in file.read():
        raise ImageError(
            f"{path} is cut short: its end marker is missing; copy or download it again."
        )


def _jpeg(
    file: BinaryIO, picture: PIL.Image.Image, path: str, max_size: int | None
) -> NDArray[np.uint8]:
    """(h, w, 3), not yet upright: full size, or a smaller one from max_size up."""
    width, height = picture.size
    target = _fitted(width, height, max_size or max(width, height))
    scale = next(s for s in _JPEG_SCALES if s <= min(width // target[0], height // target[1]))
    if width % scale or height % scale:
        # Decoded sides are rounded up to whole pixels, which only Pillow's resize can allow for.
        picture.draft(None, target)
        coloured = picture if picture.mode == "RGB" else picture.convert("RGB")
        box = (0, 0, width / scale, height / scale)
        return np.asarray(coloured.resize(target, PIL.Image.Resampling.BILINEAR, box))
    if picture.mode in ("L", "RGB"):
        file.seek(0)
        flags = _JPEG_SCALES[scale] | cv2.IMREAD_IGNORE_ORIENTATION
        bgr: NDArray[Any] | None = cv2.imdecode(np.frombuffer(file.read(), np.uint8), flags)
        if bgr is not None:
            rgb: NDArray[Any] = cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB, dst=bgr)
            return rgb
    picture.draft(None, target)
    return _rgb(_samples(picture, path), path)


def _samples(picture: PIL.Image.Image, name: str) -> NDArray[Any]:
    """The picture as an array that `_rgb` takes, at the depth it has."""
    if picture.mode.startswith("I;16"):
        return np.asarray(picture).astype(np.uint16, copy=False)
    if picture.mode == "I":
        values = np.asarray(picture)
        if values.min() < 0 or values.max() > 65535:
            raise ImageError(f"{name} has 32-bit integer pixels; convert it to 16 or 8 bits.")
        return values.astype(np.uint16)
    if picture.has_transparency_data:
        return np.asarray(picture.convert("RGBA"))
    if picture.mode in ("L", "RGB", "F"):
        return np.asarray(picture)
    return np.asarray(picture.convert("L" if picture.mode == "1" else "RGB"))


def _rgb(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Any array that `load_image` takes -> (h, w, 3) uint8, transparency over white."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"{name} has shape {array.shape}; it must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
        )
    if array.size == 0:
        raise ImageError(f"{name} has no pixels (shape {array.shape}).")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    pixels = np.ascontiguousarray(_eight_bit(array, name))
    if pixels.ndim == 2:
        grey: NDArray[Any] = cv2.merge([pixels, pixels, pixels])
        return grey
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[:, :, 3:].astype(np.uint16)
    over_white = pixels[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((over_white + 127) // 255).astype(np.uint8)


def _eight_bit(array: NDArray[Any], name: str) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        return (array >> 8).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"{name} has dtype {array.dtype}; it must be uint8, uint16 or float in 0..1."
        )
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError(f"{name} has NaN or infinite values; replace them first.")
    if low < 0 or high > 1:
        raise ImageError(
            f"{name} has float values from {low:.4g} to {high:.4g}; scale them to 0..1 "
            "or pass uint8."
        )
    return np.rint(array * np.float32(255)).astype(np.uint8)


def _fitted(width: int, height: int, max_size: int) -> tuple[int, int]:
    """(width, height) with the longest side at most max_size, the shortest at least 1."""
    scale = min(1.0, max_size / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _fit(image: Image, max_size: int) -> Image:
    height, width = image.pixels.shape[:2]
    if max(width, height) <= max_size:
        return image
    size = _fitted(width, height, max_size)
    pixels: NDArray[Any] = cv2.resize(image.pixels, size, interpolation=cv2.INTER_AREA)
    mask = None if image.mask is None else _resized_mask(image.mask, size)
    return replace(image, pixels=pixels, mask=mask)


def _load_mask(source: MaskSource, image: Image) -> BoolArray:
    """(h, w) bool of the shape of `image.pixels`."""
    if isinstance(source, np.ndarray):
        name, mask = "mask", source != 0
    else:
        name = os.fspath(source)
        with _opened(name) as (_, picture):
            samples = _samples(picture, name)
            samples = samples if samples.dtype != np.uint8 else _rgb(samples, name).max(axis=2)
            mask = _upright(samples, picture.getexif().get(Base.Orientation, 1)) != 0
    if mask.ndim != 2 or mask.size == 0:
        raise ImageError(f"{name} has shape {mask.shape}; a mask must be (H, W) and not empty.")
    height, width = mask.shape
    rounding = (image.width + image.height) / 2
    if abs(width * image.height - height * image.width) > rounding:
        raise ImageError(
            f"{name} is {width}x{height}, which does not fit {image.name} of "
            f"{image.width}x{image.height}; a mask must have the aspect of the upright picture."
        )
    return _resized_mask(mask, (image.pixels.shape[1], image.pixels.shape[0]))


def _resized_mask(mask: BoolArray, size: tuple[int, int]) -> BoolArray:
    pixels = mask.astype(np.uint8)
    return cv2.resize(pixels, size, interpolation=cv2.INTER_NEAREST_EXACT).astype(np.bool_)


def _focal_length(exif: PIL.Image.Exif, size: tuple[int, int]) -> float | None:
    """In pixels of the full size; `size` is (width, height) as stored.

    The 35 mm equivalent is taken as the standard (CIPA DCG-001) defines it: the same angle of
    view along the diagonal. Without it, the length in millimetres and the sensor's resolution
    are used, scaled where the picture no longer has the width the camera wrote.
    """
    tags = exif.get_ifd(IFD.Exif)
    equivalent = _positive(tags.get(Base.FocalLengthIn35mmFilm))
    if equivalent is not None:
        return equivalent / _FULL_FRAME_DIAGONAL * math.hypot(*size)
    length = _positive(tags.get(Base.FocalLength))
    resolution = _positive(tags.get(Base.FocalPlaneXResolution))
    unit = _UNITS_IN_MM.get(tags.get(Base.FocalPlaneResolutionUnit, 2))
    if length is None or resolution is None or unit is None:
        return None
    camera_width = _positive(tags.get(Base.ExifImageWidth)) or size[0]
    return length * resolution / unit * size[0] / camera_width


def _positive(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return number if math.isfinite(number) and number > 0 else None
