"""A map as a picture: its points and cameras, seen from above and behind the cameras."""

from __future__ import annotations

from typing import Any

import numpy as np

from covis.draw.canvas import WIDEST, Colour, Pixels, blank, draw_path
from covis.sfm.exports import coloured_points
from covis.sfm.map import calibrated
from covis.types import Matrix

ELEVATION = 40.0
"""Degrees by which one looks down; 90 would be a map."""
_MARGIN = 0.04
_CAMERA: Colour = (255, 138, 61)


def draw_map(model: Any, *, width: int = 1600, height: int = 1000) -> Pixels:
    """A `pycolmap.Reconstruction` with a pose at least: (h, w, 3) uint8, RGB.

    Points have their colours, cameras are pyramids that open the way they look. What is up is
    told by the photos; far points at the edges are left out.
    """
    images = [image for image in model.images.values() if image.has_pose]
    rotations = np.array([image.cam_from_world().rotation.matrix() for image in images])
    centres = np.array([image.projection_center() for image in images])
    points, colours = coloured_points(model)
    axes = view_axes(rotations)
    places, eyes = points @ axes.T, centres @ axes.T
    frustums = _frustums(images, rotations, centres, places, eyes) @ axes.T
    low, high = _bounds(places, frustums.reshape(-1, 3))
    scale = (1 - 2 * _MARGIN) * min(width / (high[0] - low[0]), height / (high[1] - low[1]))
    middle = (low + high) / 2

    def pixels(where: Matrix) -> Matrix:
        return (where[..., :2] - middle) * scale + (width / 2, height / 2)

    picture = blank(height, width)
    at = np.floor(pixels(places)).astype(int)
    seen = ((at >= 1) & (at < (width - 1, height - 1))).all(axis=1)
    far_first = np.flatnonzero(seen)[np.argsort(-places[seen, 2], kind="stable")]
    for right in (-1, 0, 1):
        for down in (-1, 0, 1):
            picture[at[far_first, 1] + down, at[far_first, 0] + right] = colours[far_first]
    for eye, *corners in pixels(frustums):
        draw_path(picture, np.array(corners), _CAMERA, closed=True)
        for corner in corners:
            draw_path(picture, np.array([eye, corner]), _CAMERA)
    return picture


def view_axes(rotations: Matrix, elevation: float = ELEVATION) -> Matrix:
    """(3, 3), rows: right, down and forward of the view, in world coordinates.

    rotations: (N, 3, 3), of cam_from_world. elevation: degrees by which one looks down.
    """
    up = -rotations[:, 1].mean(axis=0)
    if np.linalg.norm(up) < 1e-3:
        up = -rotations[0, 1]
    up = up / np.linalg.norm(up)
    ahead = rotations[:, 2].mean(axis=0)
    ahead = ahead - (ahead @ up) * up
    if np.linalg.norm(ahead) < 1e-3:
        ahead = np.cross(rotations[0, 0], up)
    if np.linalg.norm(ahead) < 1e-3:
        ahead = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    ahead /= np.linalg.norm(ahead)
    tilt = np.radians(elevation)
    forward = np.cos(tilt) * ahead - np.sin(tilt) * up
    right = np.cross(ahead, up)
    return np.array([right, np.cross(forward, right), forward])


def _frustums(
    images: list[Any], rotations: Matrix, centres: Matrix, places: Matrix, eyes: Matrix
) -> Matrix:
    """(N, 5, 3): the eye and the corners of each camera's picture, in world coordinates."""
    low, high = _bounds(places, eyes)
    depth = 0.06 * float(np.linalg.norm(high - low))
    frustums = []
    for image, rotation, centre in zip(images, rotations, centres, strict=True):
        camera = calibrated(image.camera)
        x, y = (min(side / 2 / camera.focal, WIDEST) for side in (camera.width, camera.height))
        corners = np.array([[-x, -y, 1], [x, -y, 1], [x, y, 1], [-x, y, 1], [0, 0, 0]])
        frustums.append(np.roll(corners * depth @ rotation + centre, 1, axis=0))
    return np.array(frustums)


def _bounds(places: Matrix, eyes: Matrix) -> tuple[Matrix, Matrix]:
    """The rectangle that all cameras and most of the points lie in."""
    low, high = eyes[:, :2].min(axis=0), eyes[:, :2].max(axis=0)
    if len(places):
        near, far = np.percentile(places[:, :2], (5, 95), axis=0)
        low = np.minimum(low, near - 0.2 * (far - near))
        high = np.maximum(high, far + 0.2 * (far - near))
    return low, np.maximum(high, low + 1e-9)
