"""SIFT from OpenCV, as root-SIFT: the classical features to compare with."""

from __future__ import annotations

import cv2
import numpy as np

from covis.features.registry import OneByOne
from covis.types import Features, Image


class Sift(OneByOne):
    """SIFT on images."""

    THRESHOLD = 0.0
    BYTES = 210  # A pixel, at full size.

    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """See `extract_sift`."""
        return extract_sift(image, max_keypoints, threshold)


def extract_sift(image: Image, max_keypoints: int, threshold: float = 0.0) -> Features:
    """Detect and describe with SIFT; descriptors (N, 128) are square-rooted and of unit length.

    Scores are OpenCV's responses; only those above the threshold stay.

    Scales are OpenCV's diameters, twice the deviation of the Gaussian, and orientations its angles.
    """
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    mask = None if image.mask is None else np.where(image.mask, 0, 255).astype(np.uint8)
    # Without the precise upscale OpenCV places everything a quarter of a pixel too far right and
    # down.
    sift = cv2.SIFT_create(  # type: ignore[attr-defined]
        nfeatures=max_keypoints, enable_precise_upscale=True
    )
    found, vectors = sift.detectAndCompute(grey, mask)
    strong = [i for i, keypoint in enumerate(found) if keypoint.response > threshold]
    order = sorted(strong, key=lambda i: -found[i].response)[:max_keypoints]
    if vectors is None:
        vectors = np.empty((0, 128), np.float32)
    height, width = grey.shape
    factor = np.array([image.width / width, image.height / height])
    # OpenCV puts the top-left pixel's centre at (0, 0).
    points = np.array([found[i].pt for i in order]).reshape(-1, 2) + 0.5
    root = np.sqrt(vectors[order] / np.maximum(vectors[order].sum(axis=1, keepdims=True), 1e-12))
    return Features(
        keypoints=(points * factor).astype(np.float32),
        scores=np.array([found[i].response for i in order], np.float32),
        descriptors=root.astype(np.float32),
        width=image.width,
        height=image.height,
        model="sift",
        scales=np.array([found[i].size for i in order], np.float32) * np.float32(factor.mean()),
        orientations=np.radians([found[i].angle for i in order]).astype(np.float32),
    )
