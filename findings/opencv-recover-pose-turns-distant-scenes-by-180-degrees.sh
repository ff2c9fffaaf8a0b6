#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: cv2.recoverPose gives a rotation that is 180 degrees wrong where
# all points are more than 50 baselines away, from an exact essential matrix and exact points.
#
# Expected: `recoverPose(E, points0, points1, K)` returns the one pose of four that has the points in
#   front of both cameras, however far they are.
# Seen: at 45 baselines all 300 points count and the rotation is right; at 60 none counts, and the
#   first of the four candidates is returned. The form that takes one camera matrix leaves out points
#   beyond 50 baselines and cannot be told otherwise; the one with `distanceThresh` can: with 1e9
#   the same input is right. Aerial photos and frames of a video are often that far apart.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np

K = np.array([[800.0, 0, 320], [0, 800, 240], [0, 0, 1]])
R, _ = cv2.Rodrigues(np.array([0.02, 0.05, 0.01]))
t = np.array([1.0, 0, 0.1]) / np.hypot(1, 0.1)
E = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ R
rng = np.random.default_rng(0)


def pixels(points):
    return (points @ K.T)[:, :2] / points[:, 2:]


def degrees_off(rotation):
    return np.degrees(np.arccos(np.clip((np.trace(R.T @ rotation) - 1) / 2, -1, 1)))


for depth, right in ((45, True), (60, False)):
    scene = rng.uniform([-0.3, -0.25, 0.95], [0.3, 0.25, 1.05], (300, 3)) * depth
    seen = pixels(scene), pixels(scene @ R.T + t)
    count, found, _, _ = cv2.recoverPose(E, *seen, K)
    far = cv2.recoverPose(E, *seen, K, distanceThresh=1e9)
    print(f"OpenCV {cv2.__version__}, points at {depth} baselines:", end=" ")
    print(f"{count} of 300 points count, rotation {degrees_off(found):.2f} degrees off;", end=" ")
    print(f"with distanceThresh {far[0]}, {degrees_off(far[1]):.2f}")
    assert (count == 300 and degrees_off(found) < 0.01) == right
    assert right or (count == 0 and degrees_off(found) > 179)
    assert far[0] == 300 and degrees_off(far[1]) < 0.01
PYTHON
