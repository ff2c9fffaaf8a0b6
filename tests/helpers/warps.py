"""Homographies of pixels whose top-left one has its centre at (0.5, 0.5)."""

from __future__ import annotations

import cv2
import numpy as np

HALF = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])


def warp_points(matrix, points):
    """(N, 2) as the homography moves them."""
    return cv2.perspectiveTransform(points[:, None].astype(np.float64), matrix)[:, 0]


def warp_picture(picture, matrix, size):
    """The picture as the homography moves it; size (width, height)."""
    whole = np.linalg.inv(HALF) @ matrix @ HALF
    return cv2.warpPerspective(picture, whole, size, flags=cv2.INTER_CUBIC)
