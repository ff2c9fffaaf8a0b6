"""Keypoints that were put off are put right again."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from covis.errors import ImageError
from covis.sfm import Map
from covis.sfm.mapper import Mapping
from covis.sfm.refine_keypoints import align_keypoints


def test_keypoints_come_to_show_the_same_spot(mapped, scene):
    """By the true cameras: the angle between rays and the plane of both centres."""
    model = Map.open(mapped[0]).reconstruction
    rng = np.random.default_rng(0)
    for image in model.images.values():
        for point in image.points2D:
            point.xy = point.xy + rng.normal(0, 0.7, 2)
    before = ray_errors(model, scene)
    moved = align_keypoints(model, scene.folder, Mapping(refine=False))
    after = ray_errors(model, scene, moved)
    assert sum(len(places) for places, _ in moved.values()) > 0.5 * model.compute_num_observations()
    assert np.median(before) > 0.5
    assert np.median(after) < 0.12
    assert scene.error(model) < 0.005


def ray_errors(model, scene, only=None):
    """Pixels by which the observations of each point miss the true cameras' epipolar lines."""
    k = np.array([[420.0, 0, 240], [0, 420, 180], [0, 0, 1]])
    kept = {(name, int(place)) for name, (places, _) in (only or {}).items() for place in places}
    errors = []
    for point in model.points3D.values():
        seen = []
        for element in point.track.elements:
            image = model.image(element.image_id)
            if only is None or (image.name, element.point2D_idx) in kept:
                seen.append((image.name, np.append(image.points2D[element.point2D_idx].xy, 1)))
        for (name0, x0), (name1, x1) in itertools.pairwise(seen):
            if name0 == name1:
                continue
            r0, r1 = scene.rotations[name0], scene.rotations[name1]
            rotation = r1 @ r0.T
            t = r1 @ (scene.centres[name0] - scene.centres[name1])
            cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
            line = np.linalg.inv(k).T @ cross @ rotation @ np.linalg.inv(k) @ x0
            errors.append(abs(line @ x1) / np.linalg.norm(line[:2]))
    return np.array(errors)


def test_aligning_twice_gives_the_same(mapped, scene):
    found = []
    for _ in range(2):
        model = Map.open(mapped[0]).reconstruction
        found.append(align_keypoints(model, scene.folder, Mapping(refine=False, threads=1)))
    for name in found[0]:
        for one, other in zip(found[0][name], found[1][name], strict=True):
            np.testing.assert_array_equal(one, other)


def test_exception_for_a_photo_that_went_away(mapped, tmp_path):
    model = Map.open(mapped[0]).reconstruction
    with pytest.raises(ImageError, match="was it moved"):
        align_keypoints(model, tmp_path, Mapping())
