"""DELG over several scales of an image: one global descriptor and local features with boxes.

Section 4.3 of the paper. A local feature lies in the middle of what its cell of the map sees,
its receptive box; the bundle's settings say how large that is and where the first one starts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import BundleError
from covis.features.network import Network
from covis.features.registry import OneByOne
from covis.types import Features, FloatArray, Image

GLOBAL_SCALES = (2**-0.5, 1.0, 2**0.5)
LOCAL_SCALES = (0.25, 2**-1.5, 0.5, *GLOBAL_SCALES, 2.0)
MAX_OVERLAP = 0.9
"""Of two receptive boxes whose intersection over union is larger only the better one stays."""
LEAST_SIDE = 32
"""The network sees no image smaller than this, in pixels."""


class Delg(Network, OneByOne):
    """The DELG of one bundle, on images."""

    ROLES = ("delg",)
    BYTES = 150  # A pixel, at full size.

    def configure(self, settings: Mapping[str, Any]) -> None:
        """Raises BundleError when they are not DELG's."""
        try:
            field = settings["receptive_field"]
            self.field = tuple(int(field[key]) for key in ("size", "stride", "start"))
            self.THRESHOLD = float(settings.get("attention_threshold", 0.0))
            self.multiple = int(settings.get("multiple", 1))
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(f"{self.bundle.name}: the bundle does not say {error}.") from None

    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """Global and local features, the latter by attention, best first.

        `scales` of the features are the sides of their receptive boxes.
        """
        wholes, boxes, scores, descriptors = [], [], [], []
        for scale in LOCAL_SCALES:
            scaled = _scaled(image.pixels, scale, self.multiple)
            whole, local, attention = self.graphs["delg"](
                ["global", "local", "attention"], image=scaled.transpose(2, 0, 1)[None]
            )
            if scale in GLOBAL_SCALES:
                wholes.append(_unit(whole[0]))
            rows, columns = np.nonzero(attention[0] > threshold)
            factor = np.array([image.width, image.height]) / scaled.shape[1::-1]
            boxes.append(receptive_boxes(columns, rows, self.field) * np.tile(factor, 2))
            scores.append(attention[0, rows, columns])
            descriptors.append(local[0, rows, columns])
        box, score, descriptor = (np.concatenate(part) for part in (boxes, scores, descriptors))
        centres = (box[:, :2] + box[:, 2:]) / 2
        if image.mask is not None:
            shown = ~_masked(image, centres)
            box, score, descriptor = box[shown], score[shown], descriptor[shown]
            centres = centres[shown]
        kept = suppress(box, score, max_keypoints)
        sides = box[kept, 2:] - box[kept, :2]
        return Features(
            keypoints=centres[kept].astype(np.float32),
            scores=score[kept].astype(np.float32),
            descriptors=_unit(descriptor[kept]),
            width=image.width,
            height=image.height,
            model=self.bundle.name,
            scales=np.sqrt(sides.prod(axis=1)).astype(np.float32),
            global_descriptor=_unit(np.mean(wholes, axis=0)),
        )


def receptive_boxes(
    columns: NDArray[np.intp], rows: NDArray[np.intp], field: tuple[int, ...]
) -> NDArray[np.float64]:
    """What cells see: (N, 4) left, top, right, bottom in pixels of the network's input.

    field: size, stride and start of the map's receptive field, see `nets.delg`.
    """
    size, stride, start = field
    corners = start + stride * np.column_stack([columns, rows]).astype(np.float64)
    return np.hstack([corners, corners + size])


def suppress(
    boxes: NDArray[np.float64],
    scores: NDArray[Any],
    count: int,
    max_overlap: float = MAX_OVERLAP,
) -> NDArray[np.intp]:
    """Non-maximum suppression: indices of at most `count` boxes (N, 4), best first.

    A box goes where a better one is kept and their intersection over union is above
    `max_overlap`. Ties go to the earlier one.
    """
    order = np.argsort(-scores, kind="stable")
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[int] = []
    while len(order) and len(kept) < count:
        best, order = order[0], order[1:]
        kept.append(int(best))
        low = np.maximum(boxes[order, :2], boxes[best, :2])
        high = np.minimum(boxes[order, 2:], boxes[best, 2:])
        common = (high - low).clip(min=0).prod(axis=1)
        order = order[common <= max_overlap * (areas[order] + areas[best] - common)]
    return np.array(kept, np.intp)


def _scaled(pixels: NDArray[np.uint8], scale: float, multiple: int) -> FloatArray:
    """(h, w, 3) float32 in 0..1, sides times `scale`, then to the nearest multiple."""
    height, width = (
        max(round(side * scale / multiple) * multiple, LEAST_SIDE) for side in pixels.shape[:2]
    )
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    resized = cv2.resize(pixels, (width, height), interpolation=how)
    return np.asarray(resized, np.float32) / np.float32(255)


def _unit(vectors: NDArray[Any]) -> FloatArray:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return (vectors / np.maximum(lengths, 1e-12)).astype(np.float32)


def _masked(image: Image, points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of (N, 2) full-size pixels the mask covers."""
    assert image.mask is not None
    height, width = image.mask.shape
    x, y = (points * [width / image.width, height / image.height]).astype(np.intp).T
    return image.mask[y.clip(0, height - 1), x.clip(0, width - 1)]
