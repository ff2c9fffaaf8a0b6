#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: USAC_MAGSAC gives worse or useless models when points and
# threshold are divided by the focal length, or by the picture's width.
#
# Expected: points in pixels, and points and threshold divided by one number, are the same problem
#   with the same answer.
# Seen: with RANSAC they are, and with USAC_DEFAULT nearly. With USAC_MAGSAC `findHomography` returns
#   a matrix that is 180 pixels off and has no inlier, without an error, and `findEssentialMat`
#   with the identity for K, as papers' protocols call it since the two cameras may differ, keeps 9
#   in 10 and turns the camera four times as far off. Scaled to pixels first both are good.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np

FOCAL, THRESHOLD = 800.0, 1.0


def scene(seed):
    """A rotation, and 400 matches in camera coordinates, half a pixel off; half are wrong."""
    rng = np.random.default_rng(seed)
    rotation, _ = cv2.Rodrigues(rng.normal(0, 0.15, 3))
    step = rng.normal(size=3)
    points = rng.uniform([-2, -1.5, 4], [2, 1.5, 8], (400, 3))
    moved = points @ rotation.T + step / np.linalg.norm(step)
    seen = [p[:, :2] / p[:, 2:] + rng.normal(0, 0.5 / FOCAL, (400, 2)) for p in (points, moved)]
    seen[1][200:] = rng.uniform([-0.4, -0.3], [0.4, 0.3], (200, 2))
    return rotation, seen


def solve(method, focal, rotation, seen):
    """Inliers, and how many degrees the rotation is off."""
    K = np.diag([focal, focal, 1.0])
    points = [focal * each for each in seen]
    E, mask = cv2.findEssentialMat(
        *points, K, method=method, prob=0.9999, threshold=THRESHOLD * focal / FOCAL
    )
    inliers = int(mask.sum())
    found = cv2.recoverPose(E[:3], *points, K, distanceThresh=1e9, mask=mask)[1]
    return inliers, np.degrees(np.arccos(np.clip((np.trace(rotation.T @ found) - 1) / 2, -1, 1)))


def plane_inliers(method, scale, seed):
    """How many inliers a homography has among 300 matches, half of them wrong, and its error."""
    rng = np.random.default_rng(seed)
    points0 = rng.uniform(0, [640, 480], (300, 2))
    points1 = cv2.perspectiveTransform(points0[None], HOMOGRAPHY)[0] + rng.normal(0, 0.7, (300, 2))
    points1[150:] = rng.uniform(0, [640, 480], (150, 2))
    found, mask = cv2.findHomography(
        points0 * scale, points1 * scale, method, 2.0 * scale, maxIters=3000, confidence=0.9999
    )
    corners = np.array([[[0, 0], [640, 0], [640, 480], [0, 480]]], float)
    back = cv2.perspectiveTransform(corners * scale, found) / scale
    right = cv2.perspectiveTransform(corners, HOMOGRAPHY)
    return int(mask.sum()), np.linalg.norm(back - right, axis=2).mean()


HOMOGRAPHY = np.array([[1.1, 0.05, 20], [0.03, 0.95, -10], [1e-4, 5e-5, 1]])
scenes = [scene(seed) for seed in range(60)]
for name in ("RANSAC", "USAC_DEFAULT", "USAC_MAGSAC"):
    in_pixels, normalised = (
        np.median([solve(getattr(cv2, name), focal, *each) for each in scenes], axis=0)
        for focal in (FOCAL, 1.0)
    )
    for where, (inliers, error) in (("pixels", in_pixels), ("camera coordinates", normalised)):
        print(f"OpenCV {cv2.__version__} {name} in {where}: {inliers:.0f} inliers, {error:.2f} degrees")
    planes = {
        scale: np.median([plane_inliers(getattr(cv2, name), scale, n) for n in range(40)], axis=0)
        for scale in (1, 1 / 640)
    }
    for scale, (inliers, error) in planes.items():
        print(f"    homography, pixels x {scale:.4f}: {inliers:.0f} inliers, {error:.2f} pixels off")
    if name == "USAC_MAGSAC":
        assert planes[1 / 640][0] < 0.5 * planes[1][0] and planes[1 / 640][1] > 5 > 1 > planes[1][1]
        assert normalised[1] > 2.5 * in_pixels[1] and normalised[0] < 0.95 * in_pixels[0]
    else:
        assert abs(normalised[1] / in_pixels[1] - 1) < 0.2 and normalised[0] == in_pixels[0]
        assert abs(planes[1 / 640] - planes[1]).max() < 1
PYTHON
