"""Decode pictures: any common format, upright, 8-bit RGB, no larger than needed.

Pillow decodes all of them; OpenCV is no faster, and prints what it thinks of a file. JPEGs are
decoded at 1/2, 1/4 or 1/8 where that is enough. What is large is brought to 8 bits and to its size
in bands of rows, so that of the whole there is Pillow's copy only, and `memory` bounds these.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import PIL.Image
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from covis.errors import ArgumentError, ImageError
from covis.images.exif import exif_of, exif_with, focal_length, orientation, stored_size
from covis.images.memory import check_jpeg, decoding
from covis.images.opened import damage_reported, opened
from covis.images.orientation import Orientation
from covis.images.tensors import from_tensor
from covis.options import size_limit
from covis.quiet import quiet
from covis.types import BoolArray, Image, MaskSource, Source

SMALL = 480
"""Pixels along the longer side that a picture is enlarged to before it is matched: of 12 photos
reduced to 240, 160, 128 or 96 pixels 1, 0, 0, 0 are found as they are, and all 12 enlarged."""
WHOLE = 3
"""Copies of a picture that there are while its samples are taken whole."""
_JPEG_SCALES = 8, 4, 2, 1
_BAND = 2_000_000
"""Pixels that are brought to 8 bits at a time."""
_LARGE = 8_000_000
"""Pixels from which on bands are reduced, too."""
_SLACK = 1e-3
"""How far float values may lie outside 0..1, where they are rounded back."""


def load_image(
    source: Source, *, max_size: int | None = None, mask: MaskSource | None = None
) -> Image:
    """Load a picture from a file, a Pillow image or an array.

    source: a path; a Pillow image; an array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4), RGB and
        upright, uint8, uint16 or float in 0..1 (a uint8 (H, W, 3) array is not copied); such a
        tensor of PyTorch's, (C, H, W) or (H, W, C); or an `Image`, which passes through, shrunk
        where needed.
    max_size: the longest side of `pixels` in pixels at most; None or 0 for full size.
        Never enlarges.
    mask: what to ignore, nonzero or True: a path or an array (h, w), of the upright picture's
        size or any size of the same aspect. Replaces the mask of an `Image`.

    Paths and Pillow images are turned upright after EXIF and give `focal_length` where EXIF
    tells it. Of several frames or pages the first is read. Transparent parts become white.
    Whole numbers above 255 are taken as 10, 12 or 16 bits, the least that hold all of the picture;
    the upper eight are kept.

    Raises ImageError for a source or mask that cannot be used, ArgumentError for a max_size
    below 0 or a source of another type.
    """
    max_size = size_limit(max_size, 0) or None
    match source:
        case Image():
            image = source
        case PIL.Image.Image():
            image = _from_pillow(source, max_size)
        case np.ndarray():
            pixels = _rgb(source, "array", _highest(source))
            image = Image(pixels, pixels.shape[1], pixels.shape[0])
        case str() | os.PathLike():
            image = _from_file(os.fspath(source), max_size)
        case _ if (array := from_tensor(source)) is not None:
            return load_image(array, max_size=max_size, mask=mask)
        case _:
            raise ArgumentError(
                f"Cannot load an image from {type(source).__name__}; pass a path, "
                "a NumPy array, a PyTorch tensor, a Pillow image or a covis Image."
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
    with _whole(os.fspath(path)) as picture:
        return _samples(picture, os.fspath(path))[0]


def read_labels(path: str | os.PathLike[str]) -> tuple[NDArray[np.uint8], list[int]] | None:
    """The labels (H, W) of a file with a palette, and that palette, 3 numbers a colour.

    None for a file without one. Raises ImageError as `read_samples` does.
    """
    with opened(path) as (_, picture):
        palette = picture.getpalette() if picture.mode == "P" else None
        if palette is None:
            return None
        with decoding(picture, os.fspath(path), copies=WHOLE):
            return np.array(picture), palette


def enlarged(image: Image) -> Image:
    """A small picture with `SMALL` pixels along its longer side; its full size stays as it is.

    Features are of a size in pixels: a thumbnail has few, and they match none of its original's.
    A picture that has more, or was shrunk, comes back as it is.
    """
    longest = max(image.width, image.height)
    if longest >= SMALL or max(image.pixels.shape[:2]) < longest:
        return image
    size = (
        max(1, round(image.width * SMALL / longest)),
        max(1, round(image.height * SMALL / longest)),
    )
    return resampled(image, size, cv2.INTER_CUBIC)


def resampled(image: Image, size: tuple[int, int], interpolation: int) -> Image:
    """A picture with (width, height) other pixels, and its mask; its full size stays as it is.

    interpolation: OpenCV's word for that of the pixels.
    """
    pixels = cv2.resize(image.pixels, size, interpolation=interpolation)
    mask = image.mask
    if mask is not None:
        resized = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
        mask = resized.astype(bool)
    return replace(image, pixels=np.asarray(pixels, np.uint8), mask=mask)


def to_grey(image: Image) -> NDArray[np.float32]:
    """The mean of the three channels of `image.pixels`: (h, w) float32 in 0..1."""
    red, green, blue = cv2.split(image.pixels)
    total = cv2.add(red, green, dtype=cv2.CV_16U)
    total = cv2.add(total, blue, dtype=cv2.CV_16U)
    return np.multiply(total, np.float32(1 / 765), dtype=np.float32)


@contextmanager
def _whole(path: str) -> Iterator[PIL.Image.Image]:
    """A picture whose samples are all wanted, at full size."""
    with opened(path) as (file, picture):
        buffered = check_jpeg(file, path) if picture.format in ("JPEG", "MPO") else 0
        with decoding(picture, path, copies=WHOLE, buffered=buffered):
            yield picture


def _from_file(path: str, max_size: int | None) -> Image:
    with opened(path) as (file, picture):
        buffered = check_jpeg(file, path) if picture.format in ("JPEG", "MPO") else 0
        return _upright_image(picture, path, max_size, buffered, picture.close)


def _from_pillow(picture: PIL.Image.Image, max_size: int | None) -> Image:
    name = str(getattr(picture, "filename", "") or "Pillow image")
    if 0 in picture.size:
        raise ImageError(f"{name}: the picture has no pixels ({picture.width}x{picture.height}).")
    with damage_reported(name):
        return _upright_image(picture, name, max_size)


def _upright_image(
    picture: PIL.Image.Image,
    name: str,
    max_size: int | None,
    buffered: int = 0,
    close: Callable[[], None] = lambda: None,
) -> Image:
    """buffered: bytes that a JPEG's decoder keeps of the whole picture. close: frees the picture.

    The pixels are of full size, or of a smaller one from max_size up.
    """
    size = width, height = stored_size(picture)
    target = _fitted(width, height, max_size or max(size))
    room = min(width // target[0], height // target[1])
    scale = 1
    if isinstance(picture, JpegImageFile) and picture.tile:
        scale = next(scale for scale in _JPEG_SCALES if scale <= room)
        picture.draft(None, target)
    with decoding(picture, name, buffered=buffered), quiet(picture.format == "TIFF"):
        exif = exif_with(picture)
        turned, (focal, ignored) = orientation(exif), focal_length(exif, size)
        picture.load()
        by_pillow = turned.then(orientation(exif_of(picture)).inverse)
        factor = max(1, room // scale // 2) if picture.width * picture.height > _LARGE else 1
        pixels = _in_bands(picture, name, factor)
        close()
    scale *= factor
    if width % scale or height % scale:
        # Reduced sides are rounded up to whole pixels, which only Pillow's resize can allow for.
        (across, down), target = by_pillow.of_size(size), by_pillow.of_size(target)
        reduced, box = PIL.Image.fromarray(pixels), (0, 0, across / scale, down / scale)
        pixels = np.asarray(reduced.resize(target, PIL.Image.Resampling.BILINEAR, box))
    upright = by_pillow.inverse.then(turned)  # Pillow turns TIFFs itself, and drops the tag.
    width, height = turned.of_size(size)
    return Image(
        pixels=upright.of_image(pixels),
        width=width,
        height=height,
        name=name,
        focal_length=focal,
        orientation=turned.exif,
        focal_ignored=ignored,
    )


def _in_bands(picture: PIL.Image.Image, name: str, factor: int) -> NDArray[np.uint8]:
    """A loaded picture's pixels (h, w, 3), each the mean of factor x factor of them."""
    width, height = picture.size
    rows = max(1, _BAND // width // factor) * factor
    tops = range(0, height, rows)

    def samples(top: int) -> NDArray[Any]:
        whole = len(tops) == 1
        band = picture if whole else picture.crop((0, top, width, min(top + rows, height)))
        return _loaded(band, name)

    highest = max(_highest(samples(top)) for top in tops) if picture.mode[0] == "I" else 0
    if len(tops) == 1 and factor == 1:
        return _rgb(samples(0), name, highest)
    pixels = np.empty((-(-height // factor), -(-width // factor), 3), np.uint8)
    for top in tops:
        band = PIL.Image.fromarray(_rgb(samples(top), name, highest))
        reduced = np.asarray(band.reduce(factor) if factor > 1 else band)
        pixels[top // factor : top // factor + len(reduced)] = reduced
    return pixels


def _samples(picture: PIL.Image.Image, name: str) -> tuple[NDArray[Any], Orientation]:
    """The pixels as stored, at the depth they have; and what makes them upright."""
    turned = orientation(exif_with(picture))
    with quiet(picture.format == "TIFF"):
        array = _loaded(picture, name)
    by_pillow = turned.then(orientation(exif_of(picture)).inverse)  # As in `_upright_image`.
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


def _rgb(array: NDArray[Any], name: str, highest: int = 0) -> NDArray[np.uint8]:
    """Any array that `load_image` takes -> (h, w, 3) uint8, transparency over white.

    highest: the highest value of the whole picture, where it has uint16.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3, 4)):
        raise ImageError(
            f"{name} has shape {array.shape}; it must be (H, W), (H, W, 1), (H, W, 3) or (H, W, 4)."
        )
    if array.size == 0:
        raise ImageError(f"{name} has no pixels (shape {array.shape}).")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    pixels = np.ascontiguousarray(_eight_bit(array, name, highest))
    if pixels.ndim == 2:
        grey: NDArray[Any] = cv2.merge([pixels, pixels, pixels])
        return grey
    if pixels.shape[2] == 3:
        return pixels
    alpha = pixels[:, :, 3:].astype(np.uint16)
    over_white = pixels[:, :, :3] * alpha + 255 * (255 - alpha)
    return ((over_white + 127) // 255).astype(np.uint8)


def _highest(samples: NDArray[Any]) -> int:
    """The highest value, of uint16 only."""
    return int(samples.max()) if samples.dtype == np.uint16 and samples.size else 0


def _eight_bit(array: NDArray[Any], name: str, highest: int) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    if array.dtype == np.uint16:
        depth = next(bits for bits in (8, 10, 12, 16) if highest < 1 << bits)
        return (array >> (depth - 8)).astype(np.uint8)
    if not np.issubdtype(array.dtype, np.floating):
        raise ImageError(
            f"{name} has dtype {array.dtype}; it must be uint8, uint16 or float in 0..1."
        )
    low, high = float(array.min()), float(array.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        raise ImageError(f"{name} has NaN or infinite values; replace them first.")
    if low < -_SLACK or high > 1 + _SLACK:
        raise ImageError(
            f"{name} has float values from {low:.4g} to {high:.4g}; scale them to 0..1 "
            "or pass uint8."
        )
    return np.rint(np.clip(array, 0, 1) * np.float32(255)).astype(np.uint8)


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
        with _whole(name) as picture:
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
