#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: cv2.intersectConvexConvex gives half the area of two convex
# quadrilaterals that nearly coincide, without a word.
#
# Expected: two quadrilaterals of 1589 x 1929, whose corners differ by a third of a pixel at most,
#   share 99.9 % of their area.
# Seen: 50.0 %. One corner of either lies on an edge of the other to within a hundredth of a pixel,
#   and a triangle of the intersection is lost. Of random pairs with such corners one in 20,000 is
#   hit; overlaps of pictures with themselves, or of copies, are made of them.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet opencv-python-headless==5.0.0.93 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import cv2
import numpy as np

whole = np.array([[0, 0], [1589, 0], [1589, 1929], [0, 1929]], np.float32)
other = np.array(
    [
        [0, 0.0014303061179816723],
        [1588.76904296875, 0.04716664180159569],
        [1589, 1929.322265625],
        [0.002883747685700655, 1928.805419921875],
    ],
    np.float32,
)


def sides_of(polygon, points):
    """(4, N): how far points lie inside each edge of a polygon, in pixels."""
    edges = np.roll(polygon, -1, axis=0) - polygon
    normals = np.column_stack([-edges[:, 1], edges[:, 0]]) / np.linalg.norm(edges, axis=1)[:, None]
    return normals @ points.T - (normals * polygon).sum(1)[:, None]


# Counted on a grid, as a check that owes nothing to OpenCV.
grid = np.stack(np.meshgrid(np.arange(0.5, 1590), np.arange(0.5, 1930)), axis=-1).reshape(-1, 2)
inside = (sides_of(whole, grid) >= 0).all(0) & (sides_of(other, grid) >= 0).all(0)
found, _ = cv2.intersectConvexConvex(whole, other)
share = found / inside.sum()
convex = cv2.isContourConvex(whole) and cv2.isContourConvex(other)
print(f"OpenCV {cv2.__version__}: {found:.0f} square pixels where {inside.sum()} are: {share:.3f}")
assert convex and abs(share - 0.5) < 0.01
PYTHON
