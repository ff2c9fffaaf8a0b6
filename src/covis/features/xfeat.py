"""XFeat: sparse features (section 3.2 of the paper) and semi-dense ones (XFeat*, section 3.3).

The network sees the image resized to multiples of 32. A pixel i of its input is the point
i + 0.5 there, and (i + 0.5) * W / W' in the full image of width W. The official code reports
i * W / W' instead: its keypoints are ours less half of W / W'.

A picture above `tiles.LARGE` pixels is seen in tiles, normalised by the mean and variance of the
whole: its keypoints and descriptors are those of the whole to rounding. Its global descriptor is
that of the picture shrunk to the default size, for which it was trained.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.features.network import Network, batches
from covis.features.nms import best_first, mask_at, weighted_rows
from covis.features.tiles import LARGE, Best, Grey, Pixels, Resized, Tile, statistics, tiles, whole
from covis.images.decode import resampled, to_grey
from covis.options import DEFAULT_MAX_SIZE
from covis.types import BoolArray, Features, FloatArray, Image

SIZE_MULTIPLE = 32
CELL = 8
NMS_WINDOW = np.ones((5, 5), np.uint8)
SEMI_DENSE_SCALES = ((0.6, 0.2), (1.3, 0.8))
"""Scale of the image and share of the features, for each pass of the semi-dense extraction."""
GLOBAL, GLOBAL_DIMENSION = "global", "global_dimension"
"""The output of a bundle that also describes images as a whole, and the setting that says so."""
STATISTICS = "statistics"
"""The input of a bundle's graph for the mean and variance of the picture that a tile is part of,
and the setting that says there is one: bundles of earlier versions have none."""
MARGIN = 224
"""Pixels around a tile: the network sees 192, and a descriptor is sampled from two cells beyond."""
TILE = 4_200_000
"""Pixels of a tile, at some 70 bytes each."""


class XFeat(Network):
    """The XFeat of one bundle, on images."""

    THRESHOLD = 0.05

    def configure(self, settings: Mapping[str, Any]) -> None:
        """See `Network`."""
        if not settings.get(STATISTICS):
            self.BYTES = 110  # A pixel: not in tiles, each would be normalised by itself.

    def sparse(
        self, images: Sequence[Image], max_keypoints: int, threshold: float
    ) -> list[Features]:
        """Detect and describe; images of one network size go through it a few together."""
        small = [index for index, image in enumerate(images) if not self._in_tiles(image)]
        outputs = ["keypoints", "features", "reliability"]
        if GLOBAL_DIMENSION in self.bundle.settings:
            outputs.append(GLOBAL)
        results: dict[int, Features] = {}
        for members, batch in batches([fit(to_grey(images[index])) for index in small]):
            made = self.graphs["detect"](outputs, image=batch)
            for member, heat, maps, reliability, *overall in zip(members, *made, strict=True):
                image = images[small[member]]
                xy, scores = peaks(heat, reliability, max_keypoints, threshold, image.mask)
                descriptors = sample_descriptors(maps, xy, heat.shape)
                results[small[member]] = self.features(
                    image, heat.shape, xy, scores, descriptors, *overall
                )
        for index in set(range(len(images))) - set(small):
            results[index] = self._sparse_in_tiles(images[index], max_keypoints, threshold)
        return [results[index] for index in range(len(images))]

    def _in_tiles(self, image: Image) -> bool:
        """Whether it is too large to be seen as a whole."""
        rows, columns = image.pixels.shape[:2]
        return rows * columns > LARGE and bool(self.bundle.settings.get(STATISTICS))

    def _sparse_in_tiles(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        seen, best = _fitted(Grey(image)), Best(max_keypoints)
        outputs = ["keypoints", "features", "reliability"]
        for tile, heat, maps, reliability in self._tiles(seen, outputs):
            xy, scores = peaks(heat, reliability, max_keypoints, threshold, image.mask, tile)
            some = best.promising(scores)
            xy, scores = xy[some], scores[some]
            best.add(xy, scores, sample_descriptors(maps, xy, tile.whole, tile))
        overall = []
        if GLOBAL_DIMENSION in self.bundle.settings:
            grey = fit(to_grey(_shrunk(image)))
            overall = [each[0] for each in self.graphs["detect"]([GLOBAL], image=grey[None, None])]
        return self.features(image, seen.shape, best.xy, best.scores, *best.more, *overall)

    def _tiles(self, seen: Pixels, outputs: Sequence[str]) -> Iterator[tuple[Any, ...]]:
        """The tiles of a network's input, each with some of its maps."""
        given = np.array(statistics(seen), np.float32)
        for tile in tiles(seen.shape, MARGIN, TILE):
            part = seen.crop(*tile.seen)[None, None]
            made = self.graphs["detect"](outputs, image=part, **{STATISTICS: given})
            yield tile, *(each[0] for each in made)

    def semi_dense(self, image: Image, max_keypoints: int) -> Features:
        """The most reliable cells at two scales, to be matched and then refined."""
        height, width = image.pixels.shape[:2]
        parts = []
        for scale, share in SEMI_DENSE_SCALES:
            inner = (max(int(height * scale), 1), max(int(width * scale), 1))
            shape, seen = self._at_scale(image, scale, inner)
            # From a pixel of the network's input to the full image: back through both resizes.
            # A side of one pixel stays one at every scale.
            across = min(inner[1] / scale, width) / shape[1]
            down = min(inner[0] / scale, height) / shape[0]
            step = np.array(
                [across * image.width / width, down * image.height / height], np.float32
            )
            best = Best(max(int(max_keypoints * share), 1))
            for tile, maps, reliability in seen:
                left_out = _left_out(image, tile, step)
                cells, scores = best_cells(reliability, best.count, left_out)
                best.add(cells + tile.origin // CELL, scores, maps[cells[:, 1], cells[:, 0]])
            parts.append(
                (
                    (best.xy * CELL + np.float32(0.5)).astype(np.float32) * step,
                    best.scores,
                    *best.more,
                    np.broadcast_to(step, (len(best.xy), 2)),
                )
            )
        keypoints, scores, descriptors, steps = (
            np.concatenate(part) for part in zip(*parts, strict=True)
        )
        order = best_first(scores, max_keypoints)
        return Features(
            keypoints=keypoints[order],
            scores=scores[order],
            descriptors=descriptors[order],
            width=image.width,
            height=image.height,
            model=self.bundle.name,
            pixel_sizes=steps[order],
        )

    def _at_scale(
        self, image: Image, scale: float, inner: tuple[int, int]
    ) -> tuple[tuple[int, ...], Iterable[tuple[Any, ...]]]:
        """The size of the network's input for `inner` pixels of a scaled image, and its tiles, one
        where it is small, each with features and reliability."""
        outputs = ["features", "reliability"]
        if self._in_tiles(image):
            seen = _fitted(Resized(Grey(image), inner, scale))
            return seen.shape, self._tiles(seen, outputs)
        scaled = cv2.resize(
            to_grey(image), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR
        )
        fitted = fit(np.asarray(scaled[: inner[0], : inner[1]], np.float32))
        made = self.graphs["detect"](outputs, image=fitted[None, None])
        return fitted.shape, [(whole(fitted.shape), *(each[0] for each in made))]


def _left_out(image: Image, tile: Tile, step: FloatArray) -> BoolArray | None:
    """Of a tile's cells (h, w), those that are another's or masked; None where there are none.

    step: (x, y), full-size pixels in one of the network's input.
    """
    if image.mask is None and tile.own == tile.seen:
        return None
    cells = tile.in_cells(CELL)
    left_out = np.zeros(cells.shape, np.bool_)
    if image.mask is not None:
        # Rounded as the keypoints are, which may lie on the edge of a pixel.
        columns, rows = (
            (((first + np.arange(n)) * CELL + 0.5) * size).astype(np.float32).astype(np.float64)
            for first, n, size in zip(cells.origin, cells.shape[::-1], step, strict=True)
        )
        left_out = mask_at(image.mask, columns, rows, (image.height, image.width))
    inside = np.ones(cells.shape, np.bool_)
    cells.leave_out(inside)
    return left_out | ~inside


def _shape(shape: Sequence[int]) -> tuple[int, int]:
    """Multiples of 32 that are not above the sides (h, w), unless these are shorter than that."""
    height, width = (max(side // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE for side in shape)
    return height, width


def fit(grey: FloatArray) -> FloatArray:
    """Resize (h, w) down to multiples of 32, up only where a side is shorter than that."""
    shape = _shape(grey.shape)
    if grey.shape == shape:
        return grey
    return np.asarray(cv2.resize(grey, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _fitted(pixels: Pixels) -> Pixels:
    """The same of pixels that are not at hand."""
    shape = _shape(pixels.shape)
    return pixels if pixels.shape == shape else Resized(pixels, shape)


def _shrunk(image: Image) -> Image:
    """The image at the default size."""
    height, width = image.pixels.shape[:2]
    factor = DEFAULT_MAX_SIZE / max(height, width)
    size = max(round(width * factor), 1), max(round(height * factor), 1)
    return resampled(image, size, cv2.INTER_AREA)


def peaks(
    heat: FloatArray,
    reliability: FloatArray,
    max_keypoints: int,
    threshold: float,
    mask: BoolArray | None = None,
    tile: Tile | None = None,
) -> tuple[NDArray[np.intp], FloatArray]:
    """The pixels of the (H, W) heat map that are the largest of their 5x5 neighbourhood.

    Returns (N, 2) integer pixels (x, y) and their scores, best first: heat times the
    reliability (H/8, W/8) there. Ties go to the upper, then the left pixel. A mask of any
    size says with True where nothing is to be found. tile: whose maps these are; its own pixels
    alone are looked at, and counted in the whole, which the mask covers.
    """
    tile = tile or whole(heat.shape)
    found = (heat == cv2.dilate(heat, NMS_WINDOW)) & (heat > threshold)
    if mask is not None:
        columns, rows = (
            first + np.arange(size) + 0.5
            for first, size in zip(tile.origin, heat.shape[::-1], strict=True)
        )
        found &= ~mask_at(mask, columns, rows, tile.whole)
    tile.leave_out(found)
    flat = np.flatnonzero(found)
    xy = np.column_stack([flat % heat.shape[1], flat // heat.shape[1]]) + tile.origin
    taps, weights = _taps(xy, tile, reliability.shape, _linear)
    parts = reliability.ravel().take(taps, mode="clip") * weights
    scores = heat.ravel()[flat] * (parts[:, 0] + parts[:, 1] + parts[:, 2] + parts[:, 3])
    order = best_first(scores, max_keypoints)
    return xy[order], scores[order]


def best_cells(
    reliability: FloatArray, count: int, mask: BoolArray | None = None
) -> tuple[NDArray[np.intp], FloatArray]:
    """The `count` most reliable cells of (h, w): (N, 2) as (column, row), and reliabilities.

    mask: (h, w), True for the cells to leave out.
    """
    scores = reliability.ravel()
    candidates = np.arange(len(scores))
    if mask is not None:
        candidates = np.flatnonzero(~mask)
    order = candidates[best_first(scores[candidates], count)]
    width = reliability.shape[1]
    return np.column_stack([order % width, order // width]), scores[order]


def sample_descriptors(
    maps: FloatArray, xy: NDArray[np.intp], shape: tuple[int, int], tile: Tile | None = None
) -> FloatArray:
    """Descriptors at pixels of the network's input: (h, w, D), (N, 2), (H, W) -> (N, D), unit.

    Bicubic over the cells' unit descriptors, nothing beyond the border, then unit length. tile:
    whose maps these are; pixels are counted in the whole.
    """
    rows = maps.reshape(-1, maps.shape[-1])
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    taps, weights = _taps(xy, tile or whole(shape), maps.shape[:2], _cubic)
    weights /= np.maximum(lengths, 1e-12).take(taps, mode="clip")
    sampled = weighted_rows(rows, taps, weights)
    lengths = np.sqrt(np.einsum("nd,nd->n", sampled, sampled))
    sampled /= np.maximum(lengths, 1e-12)[:, None]
    return sampled


Kernel = Callable[[FloatArray], tuple[int, FloatArray]]


def _linear(t: FloatArray) -> tuple[int, FloatArray]:
    """First tap and (N, 2) weights of linear interpolation at fraction t."""
    return 0, np.stack([1 - t, t], axis=1)


def _cubic(t: FloatArray, a: float = -0.75) -> tuple[int, FloatArray]:
    """First tap and (N, 4) weights of cubic convolution at fraction t, a as in PyTorch."""
    far0, near0, near1, far1 = 1 + t, t, 1 - t, 2 - t

    def near(d: FloatArray) -> FloatArray:
        return ((a + 2) * d - (a + 3)) * d * d + 1

    def far(d: FloatArray) -> FloatArray:
        return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a

    return -1, np.stack([far(far0), near(near0), near(near1), far(far1)], axis=1)


def _taps(
    xy: NDArray[np.intp],
    tile: Tile,
    coarse: tuple[int, ...],
    kernel: Kernel,
) -> tuple[NDArray[np.intp], FloatArray]:
    """Where to read a tile's (h, w) map for pixels of the whole, and with which weights.

    Returns (N, K) indices into the flattened map and (N, K) weights, 0 beyond the whole's border.
    The official code places pixel x at x * w / (W - 1) - 0.5; so does this.
    """
    axes = []
    for axis in range(2):
        fine, cell = tile.whole[1 - axis], tile.shape[1 - axis] // coarse[1 - axis]
        table, weights = _axis(fine, fine // cell, kernel)
        near = table.take(xy[:, axis], axis=0)
        if tile.shape != tile.whole:
            near = np.clip(near - tile.origin[axis] // cell, 0, coarse[1 - axis] - 1)
        axes.append((near, weights.take(xy[:, axis], axis=0)))
    (columns, across), (rows, down) = axes
    taps = (rows * coarse[1])[:, :, None] + columns[:, None, :]
    weights = down[:, :, None] * across[:, None, :]
    shape = len(xy), taps.shape[1] * taps.shape[2]
    return taps.reshape(shape), weights.reshape(shape)


@lru_cache(maxsize=64)
def _axis(fine: int, coarse: int, kernel: Kernel) -> tuple[NDArray[np.intp], FloatArray]:
    """The same along one axis, for each of its pixels: (fine, K) cells, and their weights."""
    position = np.arange(fine, dtype=np.float32) * np.float32(coarse / (fine - 1)) - 0.5
    base = np.floor(position)
    first, weights = kernel(position - base)
    index = base.astype(np.intp)[:, None] + np.arange(first, first + weights.shape[1])
    weights = np.where((index >= 0) & (index < coarse), weights, 0)
    return np.clip(index, 0, coarse - 1), weights.astype(np.float32)
