"""Decode pictures: any common format, upright, 8-bit RGB, no larger than needed.

Pillow reads headers, reports damage, and decodes PNG, WebP and TIFF as fast as OpenCV does.
JPEGs go through OpenCV, twice as fast, and are decoded at 1/2, 1/4 or 1/8 where that is enough.
"""

from __future__ import annotations

import math
import os
from dataclasses import replace
from typing import Any, BinaryIO

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray

from covis.errors import ArgumentError, ImageError
from covis.images.exif import focal_length, orientation
from covis.images.opened import damage_reported, opened
from covis.images.orientation import Orientation
from covis.options import size_limit
from covis.types import BoolArray, Image, MaskSource, Source

_JPEG_END = b"\xff\xd9"
_JPEG_SCALES = {
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


def load_image(
    source: Source, *, max_size: int | None = None, mask: MaskSource | None = None
) -> Image:
    """Load a picture from a file, a Pillow image or an array.

    source: a path; a Pillow image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB and
        upright, uint8, uint16 or float in 0..1 (a uint8 (H, W, 3) array is not copied); or an
        `Image`, which passes through, shrunk where needed.
    max_size: the longest side of `pixels` in pixels at most; None or 0 for full size.
        Never enlarges.
    mask: what to ignore, nonzero or True: a path or an array (h, w), of the upright picture's
        size or any size of the same aspect. Replaces the mask of an `Image`.

    Paths and Pillow images are turned upright after EXIF and give `focal_length` where EXIF
    tells it. Of several frames or pages the first is read. Transparent parts become white.
    Of 16 bits the upper eight are kept.

    Raises ImageError for a source or mask that cannot be used, ArgumentError for a max_size
    below 0 or a source of another type.
    """
    max_size = size_limit(max_size, 0) or None
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


def read_samples(path: str | os.PathLike[str]) -> NDArray[Any]:
    """A file's samples as they are, not turned upright: depths, masks and the like.

    (H, W), (H, W, 3) or, where there is transparency, (H, W, 4); uint8, uint16 or float32.
    Raises ImageError for a file that cannot be read, or has 32-bit integers beyond 16 bits.
    """
    with opened(path) as (_, picture):
        return _samples(picture, os.fspath(path))[0]


def read_labels(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], list[int]] | None:
    """The labels (H, W) of a file with a palette, and that palette, 3 numbers a colour.

    None for a file without one. Raises ImageError as `read_samples` does.
    """
    with opened(path) as (_, picture):
        palette = picture.getpalette() if picture.mode == "P" else None
        return None if palette is None else (np.array(picture), palette)


def to_grey(image: Image) -> NDArray[np.float32]:
    """The mean of the three channels of `image.pixels`: (h, w) float32 in 0..1."""
    red, green, blue = cv2.split(image.pixels)
    total = cv2.add(red, green, dtype=cv2.CV_16U)
    total = cv2.add(total, blue, dtype=cv2.CV_16U)
    return np.multiply(total, np.float32(1 / 765), dtype=np.float32)


def _from_file(path: str, max_size: int | None) -> Image:
    with opened(path) as (file, picture):
        if picture.format in ("JPEG", "MPO"):
            size, turned = picture.size, orientation(picture.getexif())
            _check_jpeg_ends(file, path)
            pixels = _jpeg(file, picture, path, max_size)
        else:
            samples, turned = _samples(picture, path)
            pixels = _rgb(samples, path)
            size = pixels.shape[1], pixels.shape[0]
        return _upright_image(pixels, size, turned, picture.getexif(), path)


def _from_pillow(picture: PIL.Image.Image) -> Image:
    name = str(getattr(picture, "filename", "") or "Pillow image")
    if 0 in picture.size:
        raise ImageError(f"{name}: the picture has no pixels ({picture.width}x{picture.height}).")
    with damage_reported(name):
        samples, turned = _samples(picture, name)
        pixels = _rgb(samples, name)
        size = pixels.shape[1], pixels.shape[0]
        return _upright_image(pixels, size, turned, picture.getexif(), name)


def _upright_image(
    pixels: NDArray[np.uint8],
    size: tuple[int, int],
    turned: Orientation,
    exif: PIL.Image.Exif,
    name: str,
) -> Image:
    """pixels, size: as stored, the latter of the full picture."""
    width, height = turned.of_size(size)
    focal, ignored = focal_length(exif, size)
    return Image(
        pixels=turned.of_image(pixels),
        width=width,
        height=height,
        name=name,
        focal_length=focal,
        orientation=turned.exif,
        focal_ignored=ignored,
    )


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
    return _rgb(_samples(picture, path)[0], path)


def _samples(picture: PIL.Image.Image, name: str) -> tuple[NDArray[Any], Orientation]:
    """The pixels as stored, at the depth they have, for `_rgb`; and what makes them upright."""
    turned = orientation(picture.getexif())
    array = _loaded(picture, name)
    # Pillow makes TIFFs upright as it loads them, and drops the tag.
    by_pillow = turned.then(orientation(picture.getexif()).inverse)
    return by_pillow.inverse.of_image(array), turned


def _loaded(picture: PIL.Image.Image, name: str) -> NDArray[Any]:
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
        with opened(name) as (_, picture):
            samples, turned = _samples(picture, name)
            samples = samples if samples.dtype != np.uint8 else _rgb(samples, name).max(axis=2)
            mask = turned.of_image(samples) != 0
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
