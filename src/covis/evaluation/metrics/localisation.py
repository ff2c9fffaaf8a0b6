"""Localisation: how far estimated cameras are from the true ones.

A camera's position error is the distance between the two, its rotation error the angle of the
rotation between them. What could not be located counts as infinitely wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.metrics.pose import rotation_error
from covis.geometry.pose import Pose
from covis.geometry.similarity import umeyama
from covis.types import Matrix


@dataclass(frozen=True, eq=False)
class LocalisationResult:
    """Errors of several photos, in the order of `names`.

    position: (N,) in the world's unit. rotation: (N,) in degrees. Infinite where not located.
    """

    names: tuple[str, ...]
    position: Matrix
    rotation: Matrix

    @property
    def located(self) -> int:
        """How many have a pose, however wrong."""
        return int(np.isfinite(self.position).sum())

    @property
    def median_position(self) -> float:
        """Over all photos, those not located too."""
        return _median(self.position)

    @property
    def median_rotation(self) -> float:
        return _median(self.rotation)

    def share(self, position: float, rotation: float) -> float:
        """The share of photos at or below both errors, 0..1."""
        return float(np.mean((self.position <= position) & (self.rotation <= rotation)))


def localisation_errors(
    estimates: Mapping[str, Pose | None], truth: Mapping[str, Pose]
) -> LocalisationResult:
    """Compare estimated poses with the true ones, by name.

    estimates: a photo that is missing, or None, was not located; ones without a true pose do not
        count. Raises ArgumentError where there is no true pose.
    """
    if not truth:
        raise ArgumentError("no true poses to compare with.")
    position, rotation = [], []
    for name, true in truth.items():
        found = estimates.get(name)
        if found is None:
            position.append(math.inf)
            rotation.append(math.inf)
            continue
        position.append(float(np.linalg.norm(found.position - true.position)))
        rotation.append(rotation_error(found.rotation, true.rotation))
    return LocalisationResult(tuple(truth), np.array(position), np.array(rotation))


def aligned_position_errors(
    estimates: Mapping[str, Pose], truth: Mapping[str, Pose]
) -> dict[str, float]:
    """Distances between camera positions after the best similarity, in the true world's unit.

    By name, of the cameras that have both. Raises ArgumentError as `umeyama` does.
    """
    names = [name for name in truth if name in estimates]
    ours = np.array([estimates[name].position for name in names]).reshape(-1, 3)
    theirs = np.array([truth[name].position for name in names]).reshape(-1, 3)
    moved = umeyama(ours, theirs).points(ours)
    errors = np.linalg.norm(moved - theirs, axis=1)
    return {name: float(error) for name, error in zip(names, errors, strict=True)}


def chained_poses(steps: Sequence[tuple[str, str, Matrix, Matrix]]) -> dict[str, Pose]:
    """Poses in the first image's camera, from relative ones.

    steps: (image 0, image 1, rotation_1from0 (3, 3), translation_1from0 (3,) in one unit).

    Raises ArgumentError where an image hangs together with the first by none.
    """
    if not steps:
        raise ArgumentError("no relative poses to chain.")
    known = {steps[0][0]: Pose(np.eye(3), np.zeros(3))}
    left = list(steps)
    while left:
        waiting = []
        for name0, name1, rotation, translation in left:
            if name0 in known and name1 not in known:
                at = known[name0]
                known[name1] = Pose(rotation @ at.rotation, rotation @ at.translation + translation)
            elif name1 in known and name0 not in known:
                at = known[name1]
                back = rotation.T
                known[name0] = Pose(back @ at.rotation, back @ (at.translation - translation))
            elif name0 not in known:
                waiting.append((name0, name1, rotation, translation))
        if len(waiting) == len(left):
            raise ArgumentError(f"no relative pose leads from {steps[0][0]} to {waiting[0][0]}.")
        left = waiting
    return known


def _median(errors: Matrix) -> float:
    # Between a finite and an infinite error NumPy's median would be NaN-free, but warn.
    ordered = np.sort(errors)
    low, high = ordered[(len(ordered) - 1) // 2], ordered[len(ordered) // 2]
    return float(high if math.isinf(high) else (low + high) / 2)
