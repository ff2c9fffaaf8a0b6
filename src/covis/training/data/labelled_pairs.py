"""Pairs of features with known answers: what a matcher is trained and judged on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.features import Extractor
from covis.images.decode import load_image
from covis.training.data.synthetic import CELL, Difficulty, Pair, render_pair
from covis.types import Features, FloatArray

UNKNOWN, NO_PARTNER = -2, -1
"""Instead of a partner's index: nobody knows, and there is none."""

MATCH_WITHIN, NO_MATCH_BEYOND = 3.0, 5.0
"""Pixels between a point and where its partner must lie, or must not (section 4)."""

IntArray = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class LabelledPair:
    """Two sets of N features and what belongs together.

    positions: (2, N, 2 or 4) float32, as `LightGlue.encode` takes them. descriptors: (2, N, D).
    points: (2, N, 2) float32, pixels, a pixel's centre at (0.5, 0.5).
    partners: (2, N) int64, index into the other image, NO_PARTNER or UNKNOWN.
    taught: (K, 2, N, d) float16, K states of a teacher that looked at them, where there is one.
    said: (2, N) int64, which it takes for partners: index or NO_PARTNER.
    """

    points: FloatArray
    positions: FloatArray
    descriptors: FloatArray
    partners: IntArray
    taught: NDArray[np.float16] | None = None
    said: IntArray | None = None

    def first(self, count: int) -> LabelledPair:
        """The pair of the first `count` features of both images."""

        def within(partners: IntArray) -> IntArray:
            kept = partners[:, :count]
            return np.where(kept < count, kept, NO_PARTNER)

        return LabelledPair(
            points=self.points[:, :count],
            positions=self.positions[:, :count],
            descriptors=self.descriptors[:, :count],
            partners=within(self.partners),
            taught=None if self.taught is None else self.taught[:, :, :count],
            said=None if self.said is None else within(self.said),
        )

    def judge(self, matches: IntArray) -> IntArray:
        """Of matches (K, 2): how many are right, how many are right or wrong for certain, and
        how many there are to find: (3,)."""
        partners = self.partners[0][matches[:, 0]]
        back = self.partners[1][matches[:, 1]]
        right = partners == matches[:, 1]
        certain = (partners != UNKNOWN) & (back != UNKNOWN)
        return np.array([right.sum(), certain.sum(), (self.partners[0] >= 0).sum()])


def positions(features: Features) -> FloatArray:
    """(N, 2 or 4): where the features lie, in half the longest side from the middle; then scale
    and orientation of those that have them."""
    size = np.array([features.width, features.height], np.float32)
    places = (features.keypoints - size / 2) / (size.max() / 2)
    if features.scales is not None and features.orientations is not None:
        places = np.column_stack([places, features.scales, features.orientations])
    return places.astype(np.float32)


@dataclass(frozen=True, eq=False)
class Views:
    """Two views of which it is known what they show in common.

    pictures: (H, W) or (H, W, 3) RGB uint8, in which features are to be found. clean: the same
    as they were before their light was changed. partners: takes points (2, N, 2), as
    `LabelledPair` has them, and says which belong together.
    """

    pictures: Sequence[NDArray[np.uint8]]
    clean: Sequence[NDArray[np.uint8]]
    partners: Callable[[FloatArray], IntArray]


def render_views(
    photos: list[Any], size: int, difficulty: Difficulty, rng: np.random.Generator
) -> Views:
    """Render a pair of `size` x `size` pixels; see `render_pair`."""
    pair = render_pair(photos, size, difficulty, rng)
    pictures, half = list(pair.views), np.float32(0.5)
    return Views(
        pictures, pictures, lambda points: partners(pair, points[0] - half, points[1] - half)
    )


def labelled(views: Views, extract: Extractor, keypoints: int) -> LabelledPair:
    """Find at most `keypoints` features in each view; both keep as many as the one with fewer.

    extract: at full size, as `Views.partners` counts in the pictures' own pixels.
    """
    found = extract.batch([load_image(picture) for picture in views.pictures])
    count = min(keypoints, *(len(features) for features in found))
    points = np.stack([f.keypoints[:count] for f in found])
    return LabelledPair(
        points=points,
        positions=np.stack([positions(f)[:count] for f in found]),
        descriptors=np.stack([f.descriptors[:count] for f in found]),
        partners=views.partners(points),
    )


def partners(pair: Pair, points0: FloatArray, points1: FloatArray) -> IntArray:
    """Which points show the same: (2, N) for N points of each view, a pixel's centre at 0.

    Partners are each other's nearest within MATCH_WITHIN pixels of view 0. Near the edges of
    what is visible the renderer's cells are too coarse to tell: UNKNOWN.
    """
    x, y = (points1 / CELL).astype(np.float32).T[:, :, None]
    truth, coarse = (
        cv2.remap(pair.points0, x, y, how)[:, 0] for how in (cv2.INTER_LINEAR, cv2.INTER_NEAREST)
    )
    seen = cv2.remap(pair.visible.astype(np.float32), x, y, cv2.INTER_LINEAR)[:, 0]
    # Between two planes an interpolated place belongs to neither.
    smooth = np.linalg.norm(truth - coarse, axis=1) < 2.5 * CELL
    certain = (seen > 0.999) & smooth
    hidden = seen < 0.001
    distance = np.linalg.norm(points0[:, None] - truth[None], axis=2)
    distance[:, hidden] = np.inf
    to1, to0 = distance.argmin(axis=1), distance.argmin(axis=0)
    nearest0, nearest1 = distance.min(axis=1), distance.min(axis=0)
    result = np.full((2, len(points0)), UNKNOWN, np.int64)
    result[0, nearest0 > NO_MATCH_BEYOND] = NO_PARTNER
    result[1, hidden | (certain & (nearest1 > NO_MATCH_BEYOND))] = NO_PARTNER
    found = np.flatnonzero(
        (to0[to1] == np.arange(len(points0))) & (nearest0 < MATCH_WITHIN) & certain[to1]
    )
    result[0, found], result[1, to1[found]] = to1[found], found
    return result
