"""What pycolmap reads back, and which matches a pair's geometry keeps."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from covis.errors import CovisError
from covis.geometry.camera import MODELS
from covis.images.exif import PhotoInfo
from covis.sfm.database import Database
from covis.sfm.photo_cameras import make_camera
from covis.sfm.two_view_verification import Verified, sampson, verify_pair


@pytest.fixture
def two_views(colmap):
    """Two cameras with distortion, 300 right matches and 200 wrong ones, best first."""
    rng = np.random.default_rng(0)
    cameras = []
    for focal in (500.0, 650.0):
        photo = PhotoInfo((800, 600), "A", focal)
        cameras.append(make_camera(photo, "SIMPLE_RADIAL", (focal, 400, 300, -0.1)))
    points = rng.uniform((-2, -1.5, 4), (2, 1.5, 8), (300, 3))
    angle = 0.15
    rotation = np.array(
        [[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]]
    )
    translation = np.array([-0.8, 0.1, 0.2])
    x0 = cameras[0].img_from_cam(points)
    x1 = cameras[1].img_from_cam(points @ rotation.T + translation)
    wrong = rng.uniform(0, (800, 600), (2, 200, 2))
    keypoints = [np.concatenate([x, w]) for x, w in zip((x0, x1), wrong, strict=True)]
    indices = np.column_stack([np.arange(500), np.arange(500)])
    return cameras, keypoints, indices[rng.permutation(500)], rotation, translation


@pytest.mark.parametrize("model", MODELS)
def test_pairs_of_every_camera_model_are_verified(colmap, model):
    rng, (width, height) = np.random.default_rng(0), (800, 400)
    camera = colmap.Camera.create_from_model_name(0, model, 500.0, width, height)
    camera.has_prior_focal_length = True
    points = rng.uniform((-1.5, -0.7, 4), (1.5, 0.7, 8), (200, 3))
    x0, x1 = (camera.img_from_cam(points + shift) for shift in (np.zeros(3), [-0.8, 0.1, 0.2]))
    indices = np.column_stack([np.arange(200), np.arange(200)])
    found = verify_pair(x0, x1, indices, camera, camera, least=15)
    # A panorama has no plane to see its epipolar lines in; near its middle it nearly has one.
    panorama = model == "EQUIRECTANGULAR"
    assert found.kind == ("fundamental" if panorama else "essential")
    assert found.inliers.sum() > (30 if panorama else 190)


def test_calibrated_pairs_give_the_pose(two_views):
    (camera0, camera1), (x0, x1), indices, rotation, translation = two_views
    found = verify_pair(x0, x1, indices, camera0, camera1, least=15)
    assert found.kind == "essential"
    right = indices[:, 0] < 300
    assert (found.inliers & right).sum() >= 298
    assert (found.inliers & ~right).sum() < 20
    np.testing.assert_allclose(found.rotation_1from0, rotation, atol=2e-3)
    unit = translation / np.linalg.norm(translation)
    np.testing.assert_allclose(found.translation_1from0, unit, atol=1e-2)


def test_uncalibrated_pairs_give_a_fundamental_matrix(two_views, colmap):
    _, (x0, x1), indices, _, _ = two_views
    camera = make_camera(PhotoInfo((800, 600)), "SIMPLE_RADIAL", None)
    found = verify_pair(x0, x1, indices, camera, camera, least=15)
    assert found.kind == "fundamental"
    distances = sampson(x0[indices[:, 0]], x1[indices[:, 1]], found.matrix)
    np.testing.assert_array_equal(found.inliers, distances <= 2.0)
    assert (found.inliers & (indices[:, 0] < 300)).sum() > 200


def test_keypoints_of_small_pictures_are_coarse(two_views):
    """Their noise, half a pixel, is the same at any size."""
    _, keypoints, indices, _, _ = two_views
    noise = np.random.default_rng(3).normal(0, 0.5, (2, 500, 2))
    x0, x1 = (x * 0.3 + by for x, by in zip(keypoints, noise, strict=True))
    camera = make_camera(PhotoInfo((240, 180)), "SIMPLE_RADIAL", None)
    found = verify_pair(x0, x1, indices[indices[:, 0] < 300], camera, camera, least=15)
    assert found.inliers.sum() > 250


def test_unrelated_pairs_give_none(two_views):
    (camera0, camera1), (x0, x1), indices, _, _ = two_views
    wrong = indices[indices[:, 0] >= 300]
    found = verify_pair(x0, x1, wrong, camera0, camera1, least=15)
    assert (found.kind, found.matrix, found.inliers.any()) == ("none", None, False)
    assert verify_pair(x0, x1, indices[:10], camera0, camera1, least=15).kind == "none"


def test_sampson_distance_of_a_sideways_move():
    """Both rows are the same then; a match 3 pixels off its row is 3 / sqrt(2) from fitting."""
    fundamental = np.array([[0.0, 0, 0], [0, 0, -1], [0, 1, 0]])
    points0, points1 = np.array([[10.0, 20], [5, 7]]), np.array([[90.0, 20], [50, 10]])
    np.testing.assert_allclose(sampson(points0, points1, fundamental), (0, 3 / np.sqrt(2)))


def test_pycolmap_reads_it_back(two_views, colmap, tmp_path):
    (camera0, camera1), keypoints, indices, rotation, _ = two_views
    found = verify_pair(*keypoints, indices, camera0, camera1, least=15)
    path = tmp_path / "database.db"
    with Database(path) as database:
        with database.transaction():
            for name, camera, points in zip("ab", (camera0, camera1), keypoints, strict=True):
                database.add_photo(name, database.add_camera(camera))
                database.write_keypoints(name, points)
        database.write_pairs([("a", "b", found)])
        assert database.inliers() == {(1, 2): found.inliers.sum()}
    theirs = colmap.Database.open(str(path))
    images = {image.name: image for image in theirs.read_all_images()}
    camera = theirs.read_camera(images["b"].camera_id)
    assert (camera.model_name, camera.has_prior_focal_length) == ("SIMPLE_RADIAL", True)
    np.testing.assert_allclose(camera.params, (650, 400, 300, -0.1))
    ids = images["a"].image_id, images["b"].image_id
    read = theirs.read_keypoints(ids[1])[:, :2]
    np.testing.assert_allclose(read, keypoints[1].astype(np.float32))
    np.testing.assert_array_equal(theirs.read_matches(*ids), indices)
    geometry = theirs.read_two_view_geometry(*ids)
    np.testing.assert_array_equal(geometry.inlier_matches, indices[found.inliers])
    assert geometry.config == int(colmap.TwoViewGeometryConfiguration.CALIBRATED)
    np.testing.assert_allclose(geometry.E, found.matrix, atol=1e-12)
    np.testing.assert_allclose(geometry.cam2_from_cam1.rotation.matrix(), rotation, atol=2e-3)
    assert theirs.num_frames() == theirs.num_rigs() == 2
    theirs.close()


def test_pairs_named_in_the_other_order_are_turned(two_views, colmap, tmp_path):
    (camera0, camera1), keypoints, indices, rotation, _ = two_views
    found = verify_pair(*keypoints, indices, camera0, camera1, least=15)
    with Database(tmp_path / "database.db") as database:
        for name, camera in zip("ba", (camera1, camera0), strict=True):
            database.add_photo(name, database.add_camera(camera))
        database.write_pairs([("a", "b", found)])
    theirs = colmap.Database.open(str(tmp_path / "database.db"))
    geometry = theirs.read_two_view_geometry(1, 2)
    np.testing.assert_array_equal(geometry.inlier_matches, indices[found.inliers][:, ::-1])
    np.testing.assert_allclose(geometry.cam2_from_cam1.rotation.matrix(), rotation.T, atol=2e-3)
    theirs.close()


def test_a_pair_written_again_takes_the_place_of_the_first(two_views, tmp_path):
    (camera0, camera1), keypoints, indices, _, _ = two_views
    found = verify_pair(*keypoints, indices, camera0, camera1, least=15)
    none = Verified(indices[:20], np.zeros(20, bool))
    with Database(tmp_path / "database.db") as database:
        for name, camera in zip("ab", (camera0, camera1), strict=True):
            database.add_photo(name, database.add_camera(camera))
        database.write_pairs([("a", "b", none)])
        assert database.inliers() == {(1, 2): 0}
        database.write_pairs([("a", "b", found)])
        assert database.inliers() == {(1, 2): found.inliers.sum()}


def test_nothing_of_a_killed_transaction_is_there(two_views, tmp_path):
    (camera0, _), _, _, _, _ = two_views
    path = tmp_path / "database.db"
    with Database(path) as database:
        database.add_photo("a", database.add_camera(camera0))
    script = (
        "import os, sys; from pathlib import Path; from covis.sfm.database import Database\n"
        "with Database(Path(sys.argv[1])) as database, database.transaction():\n"
        "    database.add_photo('b', 1); os._exit(9)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", script, str(path)], env=environment)
    assert done.returncode == 9
    with Database(path) as database:
        assert list(database.images) == ["a"]


def test_exception_for_another_file(colmap, tmp_path):
    (tmp_path / "a.db").write_text("no database at all, just words" * 100)
    with pytest.raises(CovisError, match="not a COLMAP database"):
        Database(tmp_path / "a.db")


def test_knots_of_neighbours_are_no_evidence(two_views):
    """40 matches that agree, but in four knots: chance brings as many places."""
    (camera0, camera1), (x0, x1), indices, _, _ = two_views
    right = indices[indices[:, 0] < 300]
    verify = {"camera0": camera0, "camera1": camera1, "least": 15}
    assert verify_pair(x0, x1, right[:40], **verify).kind == "essential"
    rng = np.random.default_rng(1)
    knots = right[rng.choice(len(right), 4, replace=False)].repeat(10, axis=0)
    nearby = rng.uniform(-2, 2, (40, 2))
    keypoints = [np.concatenate([x, x[knots[:, at]] + nearby]) for at, x in enumerate((x0, x1))]
    wrong = indices[indices[:, 0] >= 300]
    places = np.column_stack([np.arange(500, 540)] * 2)
    found = verify_pair(*keypoints, np.concatenate([places, wrong]), **verify)
    assert (found.kind, found.inliers.any()) == ("none", False)


@pytest.fixture
def printed(two_views):
    """A bar of 150 keypoints along the lower edge, the same in both photos."""
    rng = np.random.default_rng(2)
    return two_views[0][0], rng.uniform((0, 560), (800, 600), (150, 2))


def test_what_is_printed_over_both_photos_joins_no_others(two_views, printed):
    _, keypoints, indices, _, _ = two_views
    camera, bar = printed
    x0, x1 = (np.concatenate([x, bar]) for x in keypoints)
    still = np.column_stack([np.arange(500, 650)] * 2)
    moving = still.copy()  # Letters are taken for others of their kind, too.
    moving[::2, 1] = np.roll(moving[::2, 1], 1)
    wrong = indices[indices[:, 0] >= 300]
    found = verify_pair(x0, x1, np.concatenate([still, wrong]), camera, camera, least=15)
    assert (found.kind, found.inliers.any()) == ("none", False)
    found = verify_pair(x0, x1, np.concatenate([moving, wrong]), camera, camera, least=15)
    assert (found.kind, found.inliers.any()) == ("none", False)


def test_what_is_printed_over_views_of_one_place_is_left_out(two_views, printed):
    (camera0, camera1), keypoints, indices, rotation, _ = two_views
    _, bar = printed
    x0, x1 = (np.concatenate([x, bar]) for x in keypoints)
    still = np.column_stack([np.arange(500, 650)] * 2)
    both = np.concatenate([still, indices])
    found = verify_pair(x0, x1, both, camera0, camera1, least=15)
    np.testing.assert_allclose(found.rotation_1from0, rotation, atol=2e-3)
    assert not found.inliers[:150].any()
    assert found.inliers.sum() > 250


def test_a_camera_that_stood_still_saw_one_place(two_views):
    (camera0, _), (x0, _), _, _, _ = two_views
    everything = np.column_stack([np.arange(500)] * 2)
    found = verify_pair(x0, x0 + 0.2, everything, camera0, camera0, least=15)
    assert found.inliers.sum() > 450
