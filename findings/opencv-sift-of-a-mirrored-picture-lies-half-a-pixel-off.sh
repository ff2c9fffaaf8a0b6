#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 (4.12.0.88 alike): SIFT as it comes places every keypoint a
# quarter of a pixel too far right and down.
#
# Expected: the keypoints of a picture and of its mirror image, mirrored back, coincide.
# Seen: they lie half a pixel apart along x, and not at all along y: the picture is doubled first,
#   and the way back halves coordinates as if pixels were corners. Between two upright pictures the
#   error cancels; between turned or mirrored ones, against other detectors, in bundle adjustment
#   and in camera calibration it does not. `enable_precise_upscale=True`, which is off by default,
#   mends it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np

noise = np.random.default_rng(0).uniform(0, 255, (240, 320)).astype(np.float32)
picture = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 3), None, 0, 255, cv2.NORM_MINMAX)
picture = picture.astype(np.uint8)


def found(sift, pixels):
    return np.array([keypoint.pt for keypoint in sift.detect(pixels, None)])


def offset(**options):
    """(x, y): by how much a keypoint lies right of the one found in the mirror image."""
    sift = cv2.SIFT_create(**options)
    upright, mirrored = found(sift, picture), found(sift, picture[:, ::-1].copy())
    mirrored[:, 0] = picture.shape[1] - 1 - mirrored[:, 0]
    differences = upright[:, None] - mirrored[None]
    nearest = np.hypot(*np.moveaxis(differences, 2, 0)).argmin(axis=1)
    kept = differences[np.arange(len(upright)), nearest]
    return np.median(kept[np.hypot(*kept.T) < 2], axis=0)


plain, precise = offset(), offset(enable_precise_upscale=True)
print(f"OpenCV {cv2.__version__}: as it comes {plain.round(3)}, precise upscale {precise.round(3)}")
assert abs(plain[0] - 0.5) < 0.01 and abs(plain[1]) < 0.01
assert np.abs(precise).max() < 0.01
PYTHON
