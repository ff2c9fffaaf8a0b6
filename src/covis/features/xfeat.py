"""XFeat: sparse features (section 3.2 of the paper) and semi-dense ones (XFeat*, section 3.3).

The network sees the image resized to multiples of 32. A pixel i of its input is the point
i + 0.5 there, and (i + 0.5) * W / W' in the full image of width W. The official code reports
i * W / W' instead: its keypoints are ours less half of W / W'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.features.network import Network, batches
from covis.features.nms import best_first, mask_at, weighted_rows
from covis.images.decode import to_grey
from covis.types import BoolArray, Features, FloatArray, Image

SIZE_MULTIPLE = 32
CELL = 8
NMS_WINDOW = np.ones((5, 5), np.uint8)
SEMI_DENSE_SCALES = ((0.6, 0.2), (1.3, 0.8))
"""Scale of the image and share of the features, for each pass of the semi-dense extraction."""
GLOBAL, GLOBAL_DIMENSION = "global", "global_dimension"
"""The output of a bundle that also describes images as a whole, and the setting that says so."""


class XFeat(Network):
    """The XFeat of one bundle, on images."""

    THRESHOLD = 0.05
    BYTES = 110  # A pixel, at full size.

    def sparse(
        self, images: Sequence[Image], max_keypoints: int, threshold: float
    ) -> list[Features]:
        """Detect and describe; images of one network size go through it a few together."""
        greys = [_fit(to_grey(image)) for image in images]
        outputs = ["keypoints", "features", "reliability"]
        if GLOBAL_DIMENSION in self.bundle.settings:
            outputs.append(GLOBAL)
        results: dict[int, Features] = {}
        for members, batch in batches(greys):
            made = self.graphs["detect"](outputs, image=batch)
            for index, heat, maps, reliability, *whole in zip(members, *made, strict=True):
                image = images[index]
                xy, scores = peaks(heat, reliability, max_keypoints, threshold, image.mask)
                descriptors = sample_descriptors(maps, xy, heat.shape)
                results[index] = self.features(image, heat.shape, xy, scores, descriptors, *whole)
        return [results[index] for index in range(len(images))]

    def semi_dense(self, image: Image, max_keypoints: int) -> Features:
        """The most reliable cells at two scales, to be matched and then refined."""
        grey = to_grey(image)
        height, width = grey.shape
        parts = []
        for scale, share in SEMI_DENSE_SCALES:
            inner = (max(int(height * scale), 1), max(int(width * scale), 1))
            scaled = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
            fitted = _fit(np.asarray(scaled[: inner[0], : inner[1]], np.float32))
            maps, reliability = self.graphs["detect"](
                ["features", "reliability"], image=fitted[None, None]
            )
            # From a pixel of the network's input to the full image: back through both resizes.
            # A side of one pixel stays one at every scale.
            across = min(inner[1] / scale, width) / fitted.shape[1]
            down = min(inner[0] / scale, height) / fitted.shape[0]
            step = np.array(
                [across * image.width / width, down * image.height / height], np.float32
            )
            mask = None
            if image.mask is not None:
                # Rounded as the keypoints are, which may lie on the edge of a pixel.
                columns, rows = (
                    ((np.arange(n) * CELL + 0.5) * size).astype(np.float32).astype(np.float64)
                    for n, size in zip(reliability.shape[:0:-1], step, strict=True)
                )
                mask = mask_at(image.mask, columns, rows, (image.height, image.width))
            count = max(int(max_keypoints * share), 1)
            cells, scores = best_cells(reliability[0], count, mask)
            parts.append(
                (
                    (cells * CELL + np.float32(0.5)).astype(np.float32) * step,
                    scores,
                    maps[0][cells[:, 1], cells[:, 0]],
                    np.broadcast_to(step, (len(cells), 2)),
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


def _fit(grey: FloatArray) -> FloatArray:
    """Resize (h, w) down to multiples of 32, up only where a side is shorter than that."""
    height, width = (max(side // SIZE_MULTIPLE, 1) * SIZE_MULTIPLE for side in grey.shape)
    if grey.shape == (height, width):
        return grey
    resized = cv2.resize(grey, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)


def peaks(
    heat: FloatArray,
    reliability: FloatArray,
    max_keypoints: int,
    threshold: float,
    mask: BoolArray | None = None,
) -> tuple[NDArray[np.intp], FloatArray]:
    """The pixels of the (H, W) heat map that are the largest of their 5x5 neighbourhood.

    Returns (N, 2) integer pixels (x, y) and their scores, best first: heat times the
    reliability (H/8, W/8) there. Ties go to the upper, then the left pixel. A mask of any
    size says with True where nothing is to be found.
    """
    found = (heat == cv2.dilate(heat, NMS_WINDOW)) & (heat > threshold)
    if mask is not None:
        rows, columns = (np.arange(size) + 0.5 for size in heat.shape)
        found &= ~mask_at(mask, columns, rows, heat.shape)
    flat = np.flatnonzero(found)
    xy = np.column_stack([flat % heat.shape[1], flat // heat.shape[1]])
    taps, weights = _taps(xy, heat.shape, reliability.shape, _linear)
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
    maps: FloatArray, xy: NDArray[np.intp], shape: tuple[int, int]
) -> FloatArray:
    """Descriptors at pixels of the network's input: (h, w, D), (N, 2), (H, W) -> (N, D), unit.

    Bicubic over the cells' unit descriptors, nothing beyond the border, then unit length.
    """
    rows = maps.reshape(-1, maps.shape[-1])
    lengths = np.sqrt(np.einsum("nd,nd->n", rows, rows))
    taps, weights = _taps(xy, shape, maps.shape[:2], _cubic)
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
    fine: tuple[int, ...],
    coarse: tuple[int, ...],
    kernel: Kernel,
) -> tuple[NDArray[np.intp], FloatArray]:
    """Where to read the (h, w) map for pixels of the (H, W) image, and with which weights.

    Returns (N, K) indices into the flattened map and (N, K) weights, 0 beyond the border.
    The official code places pixel x at x * w / (W - 1) - 0.5; so does this.
    """
    x, y = xy.T
    columns, across = (table.take(x, axis=0) for table in _axis(fine[1], coarse[1], kernel))
    rows, down = (table.take(y, axis=0) for table in _axis(fine[0], coarse[0], kernel))
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
