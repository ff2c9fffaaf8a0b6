"""Places of photos in a map, made up by hand or rendered."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest

from covis.errors import ArgumentError, BundleError
from covis.evaluation.metrics.pose import rotation_error
from covis.geometry.pose import Pose
from covis.geometry.similarity import umeyama
from covis.images.decode import load_image
from covis.sfm.localise import Locator, _elected, locate


def test_the_point_with_most_votes_is_taken():
    votes = {(3, 10): 0.5, (3, 11): 0.8, (1, 7): 0.2, (3, 12): 0.1}
    keypoints, ids, scores = _elected(votes)
    assert keypoints.tolist() == [1, 3]
    assert ids.tolist() == [7, 11]
    assert scores.tolist() == pytest.approx([0.2, 0.8])
    tied = {(0, 5): 0.5, (0, 4): 0.5}
    assert _elected(tied)[1].tolist() == [4]
    assert _elected(dict(reversed(tied.items())))[1].tolist() == [4]
    assert len(_elected({})[0]) == 0


@pytest.fixture(scope="module")
def place(mapped, scene):
    """A locator in the rendered scene's map, and what takes the map to metres."""
    find = Locator(mapped[0], matcher="nearest", threads=1)
    images = [find.map.reconstruction.image(number) for number in find.map.names.values()]
    theirs = np.array([image.projection_center() for image in images])
    metres = umeyama(theirs, np.array([scene.centres[image.name] for image in images]))
    return find, metres


@pytest.fixture(scope="module")
def query(another):
    """A photo from between those of the map, and its true pose."""
    path, rotation, centre = another
    return path, Pose(rotation, -rotation @ centre)


def check(found, metres, truth, position, rotation):
    assert found.found, found.estimate.note
    pose = metres.pose(found.estimate.pose)
    assert np.linalg.norm(pose.position - truth.position) < position
    assert rotation_error(pose.rotation, truth.rotation) < rotation


def test_a_photo_is_placed(place, query):
    find, metres = place
    path, truth = query
    camera = find.camera_of("3.png")
    found = find(path, camera=camera)
    check(found, metres, truth, 0.03, 0.6)
    assert found.estimate.confidence > 0.9
    assert len(found.keypoints) == len(found.point_ids) == len(found.estimate.inliers)
    again = find(load_image(path), camera=camera)
    np.testing.assert_array_equal(found.estimate.pose.rotation, again.estimate.pose.rotation)
    assert sum(neighbour.inliers for neighbour in found.neighbours) >= found.estimate.inliers.sum()


def test_a_photo_is_placed_without_its_focal_length(place, query):
    find, metres = place
    found = find(load_image(query[0]).pixels[:, 30:])  # Of a size that the map has no camera of.
    check(found, metres, query[1], 0.3, 2.0)
    assert found.focal_source in ("estimated", "cropped")
    assert found.estimate.camera.focal == pytest.approx(420, rel=0.06)
    assert found.estimate.focal_deviation > 0


def test_the_maps_camera_is_taken_where_it_fits(place, query, tmp_path):
    find, metres = place
    found = find(query[0])
    assert found.focal_source == "map"
    check(found, metres, query[1], 0.03, 0.6)
    assert found.estimate.camera.focal == pytest.approx(420, rel=0.01)
    # The middle of the picture, enlarged to its former size: the map's camera does not fit.
    pixels = load_image(query[0]).pixels[90:270, 120:360]
    zoomed = find(cv2.resize(pixels, (480, 360), interpolation=cv2.INTER_CUBIC))
    assert zoomed.focal_source != "map"
    assert zoomed.estimate.camera.focal == pytest.approx(840, rel=0.06)
    check(zoomed, metres, query[1], 0.3, 2.0)


def test_exif_of_the_photo_before_it_was_cropped_does_not_count(place, query, tmp_path):
    from PIL import Image as Pillow

    find, metres = place
    exif = Pillow.Exif()
    exif.get_ifd(0x8769)[0xA405] = 30  # mm of 35 mm film: 420 of 480 pixels, 327 of 373.
    Pillow.open(query[0]).crop((53, 40, 427, 320)).save(tmp_path / "crop.jpg", exif=exif)
    found = find(tmp_path / "crop.jpg")
    assert found.focal_source == "estimated"
    assert found.estimate.camera.focal == pytest.approx(420, rel=0.06)
    assert any("perhaps the picture was cropped" in note for note in found.notes)
    check(found, metres, query[1], 0.2, 1.5)


def test_a_turned_photo_has_its_pose_in_the_files_pixels(place, query, tmp_path):
    """EXIF 6: the file's columns run down the picture; its camera is rolled by a quarter."""
    from PIL import Image as Pillow

    find, metres = place
    path, truth = query
    picture = Pillow.open(path).rotate(90, expand=True)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    picture.save(tmp_path / "turned.jpg", exif=exif, quality=98)
    found = find(tmp_path / "turned.jpg", focal=420.0)
    # The file shows (x, y) of the upright picture at (y, width - x).
    roll = np.array([[0, 1.0, 0], [-1, 0, 0], [0, 0, 1]])
    check(found, metres, Pose(roll @ truth.rotation, roll @ truth.translation), 0.05, 1.0)


def test_a_mirrored_file_has_the_pose_of_its_upright_picture(place, query, tmp_path):
    """EXIF 5: no camera sees the file's pixels as they are."""
    from PIL import Image as Pillow

    find, metres = place
    path, truth = query
    exif = Pillow.Exif()
    exif[0x0112] = 5
    picture = Pillow.open(path).transpose(Pillow.Transpose.TRANSPOSE)
    picture.save(tmp_path / "mirrored.png", exif=exif)
    check(find(tmp_path / "mirrored.png", focal=420.0), metres, truth, 0.05, 1.0)


def test_an_unrelated_photo_cannot_be_placed(place, texture):
    find, _ = place
    for focal in (None, 420.0):
        found = find(texture, focal=focal)
        assert not found.found
        assert found.estimate.note.startswith("cannot say")
        told = json.loads(json.dumps(found.to_dict()))
        assert told["located"] is False
        assert told["cam_from_world"] is told["position"] is None
    assert not find(np.zeros((64, 64), np.uint8)).found


def test_json_follows_colmap(place, query):
    find, _ = place
    found = find(query[0], focal=420.0)
    told = json.loads(json.dumps(found.to_dict()))
    pose = Pose.from_quaternion(
        told["cam_from_world"]["quaternion_wxyz"], told["cam_from_world"]["translation"]
    )
    np.testing.assert_allclose(pose.rotation, found.estimate.pose.rotation, atol=1e-12)
    np.testing.assert_allclose(told["position"], pose.position)
    assert told["inliers"] == found.estimate.inliers.sum()
    assert told["camera"]["model"] == "SIMPLE_RADIAL"
    assert told["camera"]["params"][0] == 420
    assert told["camera"]["params"][1:] == pytest.approx([240, 180, 0], abs=5)
    assert set(told["seconds"]) == {"decode", "extract", "retrieve", "match", "pose"}


def test_picture(place, query, tmp_path):
    find, _ = place
    path = tmp_path / "place.png"
    picture = find(query[0], focal=420.0).draw(query[0], find.map, path)
    assert path.is_file()
    assert picture.dtype == np.uint8
    assert (picture == (255, 90, 90)).all(axis=2).any()
    nowhere = find(np.zeros((64, 64), np.uint8))
    assert nowhere.draw(np.zeros((64, 64), np.uint8), find.map).shape[2] == 3


def test_exceptions(mapped, place, tmp_path):
    find, _ = place
    with pytest.raises(ArgumentError, match="neighbours"):
        Locator(find.map, neighbours=0)
    with pytest.raises(ArgumentError, match="sparse"):
        Locator(find.map, matcher="semi-dense")
    with pytest.raises(ArgumentError, match=r"9\.png"):
        find.camera_of("9.png")
    with pytest.raises(ArgumentError, match="covis map"):
        locate("x.jpg", tmp_path)
    with pytest.raises(ArgumentError, match=r"has a COLMAP model, .* --model .*sparse/0"):
        shutil.copytree(mapped[0] / "sparse", tmp_path / "sparse")
        locate("x.jpg", tmp_path)
    with pytest.raises((ArgumentError, BundleError)):
        Locator(find.map, matcher="no such thing")


def test_command(mapped, query, tmp_path):
    from typer.testing import CliRunner

    from covis.cli import app

    def run(*arguments):
        return CliRunner().invoke(app, ["locate", *map(str, arguments), "--in", str(mapped[0])])

    path, output = query[0], tmp_path / "place.png"
    params = "PINHOLE,420,420,240,180"
    told = run(path, "--json", "--camera-params", params, "-o", output, "--matcher", "nearest")
    assert told.exit_code == 0, told.output
    assert json.loads(told.stdout)["located"]
    assert output.is_file()
    for camera in (("--focal", 420), ("--camera-of", "3.png")):
        said = run(path, path, *camera, "--matcher", "nearest")
        assert said.stdout.count("Camera at") == 2
    missing = run(tmp_path / "none.jpg", path, "--focal", 420, "--matcher", "nearest")
    assert missing.exit_code == 2
    assert missing.stdout.count("Camera at") == 1
    assert "no such file" in missing.stderr
    wrong = run(path, "--camera-params", "PINHOLE,1")
    assert wrong.exit_code == 2
    assert "4 parameters" in wrong.stderr


@pytest.mark.slow
def test_a_photo_is_placed_in_a_semi_dense_map(colmap, scene, known, query, tmp_path):
    from covis.sfm import MapOptions, build_map

    options = MapOptions(max_keypoints=2000, matcher="semi-dense", **known)
    build_map(scene.folder, tmp_path / "model", options=options)
    find = Locator(tmp_path / "model", matcher="nearest", threads=1)
    images = [find.map.reconstruction.image(number) for number in find.map.names.values()]
    theirs = np.array([image.projection_center() for image in images])
    metres = umeyama(theirs, np.array([scene.centres[image.name] for image in images]))
    check(find(query[0], focal=420.0), metres, query[1], 0.06, 1.2)


@pytest.mark.parametrize("turn", [90, 180, 270])
def test_a_query_on_its_side_is_placed(place, query, turn):
    """Without a word of it in EXIF: its camera is rolled by as much."""
    find, metres = place
    path, truth = query
    # The map has no camera of the turned picture's size; the true one is square and centred.
    pixels = np.ascontiguousarray(np.rot90(load_image(path).pixels, -turn // 90))
    angle = np.radians(turn)
    roll = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    found = Locator(find.map, threads=1)(pixels, focal=420.0)
    check(found, metres, Pose(roll @ truth.rotation, roll @ truth.translation), 0.05, 1.0)
    assert [each.view for each in found.tried] == ["as it is", f"turned by {360 - turn} degrees"]
    assert found.tried[1].inliers > 10 * found.tried[0].inliers
    assert found.to_dict()["tried"][1]["view"] == found.tried[1].view
    assert not Locator(find.map, effort="fast", threads=1)(pixels, focal=420.0).found


def test_a_thorough_effort_places_no_photo_of_another_place(place, texture):
    find, _ = place
    found = Locator(find.map, effort="thorough", threads=1)(texture, focal=420.0)
    assert not found.found
    assert found.estimate.note.startswith("cannot say")
    assert {each.view for each in found.tried} == {
        "as it is", *(f"turned by {turn} degrees" for turn in (90, 180, 270))
    }  # fmt: skip
    assert any("lightglue" in each.method for each in found.tried)
    with pytest.raises(ArgumentError, match="no effort 'all'"):
        Locator(find.map, effort="all")
