"""Similarities between worlds and pictures, and those that bring points onto others."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from covis.errors import ArgumentError
from covis.geometry.pose import Pose
from covis.types import BoolArray, FloatArray, Matrix


@dataclass(frozen=True, eq=False)
class Similarity:
    """x -> scale * rotation @ x + shift, from one world to another."""

    scale: float
    rotation: Matrix
    shift: Matrix

    def points(self, points: Matrix) -> Matrix:
        """(N, 3) -> (N, 3)."""
        moved: Matrix = self.scale * points @ self.rotation.T + self.shift
        return moved

    def pose(self, pose: Pose) -> Pose:
        """The same camera in the other world."""
        rotation = pose.rotation @ self.rotation.T
        position = self.points(pose.position[None])[0]
        return Pose(rotation, -rotation @ position)


def umeyama(source: Matrix, target: Matrix) -> Similarity:
    """The similarity that takes points (N, 3) nearest to others, least squares (Umeyama, 1991).

    Raises ArgumentError for fewer than three points, or for points on one line: they leave the
    rotation undetermined.
    """
    if source.shape != target.shape or source.shape[1:] != (3,):
        raise ArgumentError(f"two times (N, 3) points are aligned, not {source.shape}.")
    middle, aim = source.mean(axis=0), target.mean(axis=0)
    from_middle, from_aim = source - middle, target - aim
    u, values, v = np.linalg.svd(from_aim.T @ from_middle)
    if len(source) < 3 or not values[1] > 1e-9 * values[0]:
        raise ArgumentError("to align, at least three points that are not on one line are needed.")
    mirror = np.array([1, 1, np.linalg.det(u) * np.linalg.det(v)])
    rotation = u * mirror @ v
    scale = float((values * mirror).sum() / (from_middle**2).sum())
    return Similarity(scale, rotation, aim - scale * rotation @ middle)


def similarity_of_pictures(
    points0: FloatArray, points1: FloatArray, *, threshold: float = 3.0, mirrored: bool = False
) -> tuple[Matrix, BoolArray] | None:
    """(3, 3) that turns, scales and moves most points of picture 0 (N, 2) to those of picture 1,
    and which ones; None where none does.

    threshold: in pixels. mirrored: whether picture 1 is; then it is turned over as well.
    """
    side = np.diag([-1.0 if mirrored else 1.0, 1.0, 1.0])
    affine, moved = cv2.estimateAffinePartial2D(
        points0, points1 * side.diagonal()[:2], ransacReprojThreshold=threshold
    )
    if affine is None:
        return None
    return side @ np.vstack([affine, [0, 0, 1]]), moved[:, 0] > 0
