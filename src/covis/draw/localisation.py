"""A picture of where a photo was taken: what it recognised, and the map from above."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from covis.draw.canvas import FONT, GAP, TEXT, WIDEST, Colour, Pixels, blank, draw_dot, draw_path
from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose import Pose
from covis.sfm.exports import coloured_points
from covis.types import Image, Matrix

if TYPE_CHECKING:
    from covis.sfm.localisation import Localisation
    from covis.sfm.map import Map

_RIGHT: Colour = (88, 214, 141)
_WRONG: Colour = (120, 124, 132)
_OTHER: Colour = (130, 136, 146)
_NEIGHBOUR: Colour = (245, 190, 80)
_QUERY: Colour = (255, 90, 90)


def draw_localisation(
    query: Image, model: Map, located: Localisation, *, height: int = 720
) -> Pixels:
    """The query with its inliers (green) and other points (grey), the map from above beside it.

    In the map the query's camera is red, its neighbours' cameras are yellow; around the query an
    ellipse shows three standard deviations. Up is where the map's photos have it.

    height: in pixels. Returns (h, w, 3) uint8, RGB.
    """
    caption = 34
    width = max(1, round(height * query.width / query.height))
    canvas = blank(height + caption, width + GAP + height * 4 // 3)
    shown = cv2.resize(query.pixels, (width, height), interpolation=cv2.INTER_AREA)
    canvas[:height, :width] = shown
    scale = np.array([width / query.width, height / query.height])
    inliers = located.estimate.inliers
    for mask, colour, radius in ((~inliers, _WRONG, 1.5), (inliers, _RIGHT, 2.5)):
        for point in located.keypoints[mask] * scale:
            draw_dot(canvas[:height, :width], point, radius, colour)
    _draw_map(canvas[:height, width + GAP :], model, located)
    words = f"{int(inliers.sum())} of {len(inliers)} points agree"
    words += f", confidence {located.estimate.confidence:.2f}" if located.found else ": cannot say"
    cv2.putText(canvas, words, (10, height + 24), FONT, 0.6, TEXT, 1, cv2.LINE_AA)
    return canvas


def _draw_map(canvas: Pixels, model: Map, located: Localisation) -> None:
    reconstruction = model.reconstruction
    cameras = {name: _camera(model, number) for name, number in model.names.items()}
    near = {neighbour.name for neighbour in located.neighbours if neighbour.inliers}
    own = located.estimate.pose
    axes = _from_above(np.array([pose.rotation for pose, _ in cameras.values()]), own)
    points, colours = coloured_points(reconstruction)
    flat = points @ axes.T
    stands = np.array([pose.position for pose, _ in cameras.values()]) @ axes.T
    if own is not None:
        stands = np.vstack([stands, axes @ own.position])
    low, high = stands.min(axis=0), stands.max(axis=0)
    if len(flat):
        low = np.minimum(low, np.percentile(flat, 2, axis=0))
        high = np.maximum(high, np.percentile(flat, 98, axis=0))
    size = np.array(canvas.shape[1::-1])
    span = np.maximum(high - low, 1e-9)
    scale = float(0.9 * np.min(size / span))
    reach = 0.04 * float(np.min(size)) / scale
    offset = size / 2 - scale * (low + high) / 2

    def place(world: Matrix) -> Matrix:
        return scale * (world @ axes.T) + offset

    pixels = np.floor(scale * flat + offset).astype(int)
    inside = ((pixels >= 0) & (pixels < size)).all(axis=1)
    canvas[pixels[inside, 1], pixels[inside, 0]] = colours[inside]
    for name, (pose, lens) in sorted(cameras.items(), key=lambda item: item[0] in near):
        colour = _NEIGHBOUR if name in near else _OTHER
        draw_path(canvas, place(_outline(pose, lens, reach)), colour)
    if own is None or located.estimate.covariance is None:
        return
    places = place(located.places[located.estimate.inliers])
    for point in places[(places >= 0).all(axis=1) & (places < size).all(axis=1)]:
        draw_dot(canvas, point, 1.5, _RIGHT)
    spread = axes @ own.rotation.T
    spread = spread @ located.estimate.covariance[3:, 3:] @ spread.T
    values, vectors = np.linalg.eigh(spread)
    sides = np.clip(3 * scale * np.sqrt(np.maximum(values, 0)), 0, 1e4)
    round_ = np.linspace(0, 2 * np.pi, 64)
    ellipse = place(own.position) + (np.column_stack([np.cos(round_), np.sin(round_)]) * sides) @ (
        vectors.T
    )
    draw_path(canvas, ellipse, _QUERY, closed=True)
    draw_path(canvas, place(_outline(own, located.estimate.camera, 1.6 * reach)), _QUERY, 2)


def _camera(model: Map, number: int) -> tuple[Pose, CalibratedCamera]:
    image = model.reconstruction.image(number)
    rigid = image.cam_from_world()
    pose = Pose(rigid.rotation.matrix(), np.array(rigid.translation))
    return pose, model.camera(image.camera_id)


def _from_above(rotations: Matrix, own: Pose | None) -> Matrix:
    """(2, 3), rows: right and down of the picture in the world; the map's photos look up in it."""
    up = -rotations[:, 1].mean(axis=0)
    up = up / max(float(np.linalg.norm(up)), 1e-9)
    ahead = rotations[:, 2].mean(axis=0)
    ahead = ahead - (ahead @ up) * up
    if np.linalg.norm(ahead) < 1e-3:
        other = rotations[0, 2] if own is None else own.rotation[2]
        ahead = other - (other @ up) * up
    if np.linalg.norm(ahead) < 1e-3:
        ahead = np.cross(up, np.eye(3)[np.argmin(np.abs(up))])
    ahead = ahead / np.linalg.norm(ahead)
    return np.array([np.cross(ahead, up), -ahead])


def _outline(pose: Pose, lens: CalibratedCamera, reach: float) -> Matrix:
    """(5, 3): the camera, the ends of its view, and a line the way it looks, in the world."""
    half = min(lens.width / 2 / lens.focal, WIDEST)
    local = np.array([[0, 0, 0], [-half, 0, 1], [half, 0, 1], [0, 0, 0], [0, 0, 1.7]]) * reach
    outline: Matrix = (local - pose.translation) @ pose.rotation
    return outline
