"""What every extractor and every matcher must keep to, and toy ones that a test registers."""

from __future__ import annotations

import cv2
import numpy as np

from covis.features.registry import OneByOne
from covis.matching.registry import Pairs
from covis.types import Features

ARRAYS = ("keypoints", "scores", "descriptors", "pixel_sizes", "scales", "orientations")


def assert_sound(features, image, limit):
    """What `Features` promises of any extraction."""
    assert len(features) <= limit
    assert features.keypoints.shape == (len(features), 2)
    assert features.scores.shape == (len(features),)
    for name in ARRAYS:
        array = getattr(features, name)
        if array is not None:
            assert len(array) == len(features), name
            assert array.dtype == np.float32, name
            assert array.flags.c_contiguous, name
            assert np.isfinite(array).all(), name
    assert (features.width, features.height) == (image.width, image.height)
    assert (features.keypoints >= 0).all()
    assert (features.keypoints < [image.width, image.height]).all()
    assert (np.diff(features.scores) <= 0).all()


def assert_same_features(one, two):
    """To the last bit."""
    for name in (*ARRAYS, "global_descriptor"):
        left, right = getattr(one, name), getattr(two, name)
        assert (left is None) == (right is None), name
        if left is not None:
            np.testing.assert_array_equal(left, right, err_msg=name)
    assert (one.width, one.height, one.model) == (two.width, two.height, two.model)


class Patches(OneByOne):
    """A toy: corners, described by the patch of 8x8 pixels around each."""

    THRESHOLD = 1e-4

    def extract(self, image, max_keypoints, threshold):
        grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
        corners = cv2.cornerMinEigenVal(grey, 3)
        found = (corners == cv2.dilate(corners, np.ones((5, 5)))) & (corners > threshold)
        if image.mask is not None:
            found &= ~image.mask
        y, x = np.nonzero(found)
        order = np.argsort(-corners[y, x], kind="stable")[:max_keypoints]
        y, x = y[order], x[order]
        padded = np.pad(grey, 4, mode="edge")
        near = np.arange(8)
        patches = padded[y[:, None, None] + near[:, None], x[:, None, None] + near]
        rows = patches.reshape(len(x), 64) - patches.mean(axis=(1, 2))[:, None]
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)
        factor = np.array([image.width, image.height]) / grey.shape[::-1]
        return Features(
            keypoints=((np.column_stack([x, y]) + 0.5) * factor).astype(np.float32),
            scores=corners[y, x].astype(np.float32),
            descriptors=rows.astype(np.float32),
            width=image.width,
            height=image.height,
            model="patches",
        )


class InOrder:
    """A toy: the first feature with the first, the second with the second."""

    name, bundle = "in-order", None

    def __init__(self, model, options, runtime):
        self.options = options

    def __call__(self, features0, features1):
        count = min(len(features0), len(features1))
        return Pairs(np.column_stack([np.arange(count)] * 2), np.ones(count, np.float32))
