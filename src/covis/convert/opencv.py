"""OpenCV's keypoints and matches. There the centre of the top-left pixel is (0, 0)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covis.convert.pairs import matches_of
from covis.errors import ArgumentError
from covis.types import Features, Matches

if TYPE_CHECKING:
    import cv2


def keypoints(features: Features) -> list[cv2.KeyPoint]:
    """`cv2.KeyPoint` of features, in their order; `features.descriptors` go with them as they are.

    `pt` is half a pixel less than the keypoint, `response` the score, `angle` in degrees. Without
    scales `size` is 1, without orientations `angle` is -1, OpenCV's word for none.
    """
    import cv2

    count = len(features)
    sizes = np.ones(count) if features.scales is None else features.scales
    angles = np.full(count, -1.0)
    if features.orientations is not None:
        angles = np.degrees(features.orientations) % 360
    rows = zip(features.keypoints - 0.5, sizes, angles, features.scores, strict=True)
    return [
        cv2.KeyPoint(float(x), float(y), float(size), float(angle), float(score))
        for (x, y), size, angle, score in rows
    ]


def features(
    keypoints: Sequence[cv2.KeyPoint],
    descriptors: NDArray[Any],
    width: int,
    height: int,
    model: str = "opencv",
) -> Features:
    """Features of `cv2.KeyPoint` and their descriptors (N, D), in their order.

    width, height: of the image in pixels. model: what made them; features of one model alone can
        be matched. Orientations are None where any keypoint has no angle.

    Raises ArgumentError where the descriptors are not as many, or not floats: those of ORB and
    BRISK are bits, which covis' matchers do not compare.
    """
    rows = [(*each.pt, each.response, each.size, each.angle) for each in keypoints]
    values = np.array(rows, np.float32).reshape(-1, 5)
    angles = values[:, 4]
    return Features(
        keypoints=values[:, :2] + np.float32(0.5),
        scores=values[:, 2].copy(),
        descriptors=descriptors,
        width=width,
        height=height,
        model=model,
        scales=values[:, 3].copy(),
        orientations=np.radians(angles) if (angles >= 0).all() else None,
    )


def dmatches(matches: Matches) -> list[cv2.DMatch]:
    """`cv2.DMatch` of matches, in their order.

    queryIdx is the place in image 0, trainIdx that in image 1, `distance` sqrt(2 - 2 score), which
    for nearest neighbours is the distance of unit descriptors.

    Raises ArgumentError for matches without indices: semi-dense ones, and those of turned images.
    """
    import cv2

    if matches.indices is None:
        raise ArgumentError(
            "these matches have no indices, since their points are no longer those of the "
            "features; take points0 and points1 instead."
        )
    distances = np.sqrt(2 - 2 * np.clip(matches.scores, 0, 1))
    return [
        cv2.DMatch(int(index0), int(index1), float(distance))
        for (index0, index1), distance in zip(matches.indices, distances, strict=True)
    ]


def matches(found: Sequence[cv2.DMatch], features0: Features, features1: Features) -> Matches:
    """Matches of `cv2.DMatch`, best first; the opposite of `dmatches`.

    The score is the cosine that the distance of unit descriptors tells, 0 where that is negative.

    Raises ArgumentError for an index that there is not.
    """
    indices = np.array([(each.queryIdx, each.trainIdx) for each in found], np.int64).reshape(-1, 2)
    distances = np.array([each.distance for each in found], np.float64)
    return matches_of(indices, 1 - distances**2 / 2, features0, features1)
