#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: the inlier masks of `estimateAffine2D`, `estimateAffinePartial2D`,
#   `findHomography(..., cv2.RHO)` and `solvePnPRansac` belong to another model than the one returned.
#
# Expected: the mask says which points the returned model brings within the threshold, as the mask of
#   `findHomography(..., cv2.RANSAC)` does, to the point.
# Seen: the model is refined on its inliers, the mask stays that of the sample before. Of the points
#   within 3 pixels of the returned affine map up to a fifth are missing from the mask (155 of 197);
#   of RHO's homography up to a tenth; of solvePnPRansac's pose by P3P up to a seventh. Who counts or
#   draws inliers, or refines once more on them, should look for them anew with the returned model.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np

cv2.setNumThreads(1)
THRESHOLD, SIZE = 3.0, 1000
CAMERA = np.array([[800, 0, 500], [0, 800, 500], [0, 0, 1.0]])
print("OpenCV", cv2.__version__)


def spoilt(points, right, rng):
    """The points, a pixel of noise on the right ones, the others anywhere."""
    points = points.copy()
    points[:right] += rng.normal(0, 1, (right, 2))
    points[right:] = rng.uniform(0, SIZE, (len(points) - right, 2))
    return points


def homography(method):
    def errors_and_mask(rng):
        true = np.array([[1.02, 0.03, 5], [-0.02, 0.98, 8], [1e-5, 2e-5, 1]])
        source = rng.uniform(0, SIZE, (2000, 2))
        target = spoilt(cv2.perspectiveTransform(source[None], true)[0], 1000, rng)
        found, mask = cv2.findHomography(source, target, method, THRESHOLD)
        return cv2.perspectiveTransform(source[None], found)[0] - target, mask

    return errors_and_mask


def affine(estimate):
    def errors_and_mask(rng):
        source = rng.uniform(0, SIZE, (400, 2))
        target = spoilt(source @ [[1.02, -0.03], [0.03, 1.02]] + [5, 8], 200, rng)
        found, mask = estimate(source, target, ransacReprojThreshold=THRESHOLD)
        return source @ found[:, :2].T + found[:, 2] - target, mask

    return errors_and_mask


def pose(rng):
    points = rng.uniform(-1, 1, (300, 3)) + [0, 0, 4]
    seen = cv2.projectPoints(points, np.array([0.02, 0.1, 0.05]), np.array([0.5, 0.05, 0.1]), CAMERA, None)
    seen = spoilt(seen[0][:, 0], 200, rng)
    _, turn, shift, inliers = cv2.solvePnPRansac(
        points, seen, CAMERA, None, reprojectionError=THRESHOLD, flags=cv2.SOLVEPNP_P3P
    )
    mask = np.zeros(len(points))
    mask[inliers.ravel()] = 1
    return cv2.projectPoints(points, turn, shift, CAMERA, None)[0][:, 0] - seen, mask


methods = {
    "findHomography, RANSAC": (homography(cv2.RANSAC), 0.0),
    "findHomography, RHO": (homography(cv2.RHO), 0.05),
    "estimateAffine2D": (affine(cv2.estimateAffine2D), 0.1),
    "estimateAffinePartial2D": (affine(cv2.estimateAffinePartial2D), 0.03),
    "solvePnPRansac, P3P": (pose, 0.05),
}
for name, (errors_and_mask, least) in methods.items():
    worst = 0.0
    for seed in range(6):
        errors, mask = errors_and_mask(np.random.default_rng(seed))
        within = np.linalg.norm(errors, axis=1) < THRESHOLD
        worst = max(worst, (within & (mask.ravel() == 0)).sum() / within.sum())
    print(f"{name}: {100 * worst:.1f} % of the points within the threshold are missing from the mask")
    assert worst == 0 if least == 0 else worst >= least, name
PYTHON
echo "as described"
