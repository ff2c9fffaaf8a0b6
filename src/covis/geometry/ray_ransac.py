"""A pose from directions, for cameras that PoseLib does not know: panoramas and many fisheyes."""

from __future__ import annotations

import math

import numpy as np
import poselib

from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose import Pose
from covis.geometry.pose_fit import reprojection_errors
from covis.types import Matrix

SURE = 0.9999
"""How probable it must be that one of the samples had no outlier."""


def pose_from_rays(
    x: Matrix,
    places: Matrix,
    camera: CalibratedCamera,
    *,
    threshold: float,
    seed: int,
    max_iterations: int,
    min_iterations: int,
) -> Pose | None:
    """The pose that most points (N, 2), the surest first, agree with; None where there is none.

    RANSAC with samples of three; the first ones come from the surest points.
    """
    rays = camera.rays(x)
    usable = np.flatnonzero(np.isfinite(rays).all(axis=1))
    if len(usable) < 3:
        return None
    x, places, rays = x[usable], places[usable], rays[usable]
    rng = np.random.default_rng(seed)
    best, least, needed = None, math.inf, max_iterations
    for tried in range(max_iterations):
        if tried >= max(needed, min_iterations):
            break
        among = min(len(x), 10 + tried)
        sample = rng.choice(among, 3, replace=False)
        for found in poselib.p3p(rays[sample], places[sample]):
            pose = Pose(np.array(found.R), np.array(found.t))
            errors = np.minimum(reprojection_errors(pose, camera, x, places), threshold)
            if (cost := float((errors**2).sum())) < least:
                best, least = pose, cost
                share = float((errors < threshold).mean()) ** 3
                needed = math.ceil(math.log(1 - SURE) / math.log1p(-min(share, 1 - 1e-9) - 1e-12))
    return best
