"""A map outlives what becomes of its photos: its content decides which is which, not its path."""

from __future__ import annotations

import os
import shutil

import cv2
import numpy as np
import pytest

from covis.errors import ArgumentError, CovisError
from covis.search import Index
from covis.sfm import Map, MapOptions, build_map
from covis.sfm.database import Database
from covis.sfm.photo_changes import PhotoRecord, find_changes

pytestmark = pytest.mark.usefixtures("colmap")

OPTIONS = {"max_keypoints": 800}


@pytest.fixture(scope="module")
def five(scene, known, tmp_path_factory):
    """Five of the scene's photos, and the map of them. Not to be changed."""
    folder = tmp_path_factory.mktemp("five")
    (folder / "photos").mkdir()
    for number in range(1, 6):
        shutil.copy2(scene.folder / f"{number}.png", folder / "photos")
    build_map(folder / "photos", folder / "model", options=MapOptions(**OPTIONS, **known))
    return folder


@pytest.fixture
def mine(five, known, tmp_path):
    """A copy of both, and what makes the map again."""
    shutil.copytree(five / "photos", tmp_path / "photos")
    shutil.copytree(five / "model", tmp_path / "model")

    def again(folder="photos", **options):
        given = MapOptions(**(known | options))
        return build_map(tmp_path / folder, tmp_path / "model", options=given)

    settings = tmp_path / "model" / "covis.json"
    settings.write_text(settings.read_text().replace(str(five), str(tmp_path)))
    index = Index(tmp_path / "model" / "features.covis")
    index.add([tmp_path / "photos"])
    index.remove([five / "photos"])
    assert again().registered == 5
    return tmp_path, again


def names_of(folder):
    """Of the database's photos, and of the largest model's."""
    with Database(folder / "database.db") as database:
        named = sorted(database.images)
    return named, sorted(Map.open(folder).names)


def position(folder, name):
    model = Map.open(folder)
    return model.reconstruction.image(model.names[name]).projection_center()


def test_a_deleted_photo_is_dropped_and_named(mine, scene):
    folder, again = mine
    (folder / "photos" / "3.png").unlink()
    summary = again()
    assert (summary.gone, summary.photos, summary.registered) == (["3.png"], 4, 4)
    assert (summary.new_pairs, summary.pairs) == (0, 6)
    four = ["1.png", "2.png", "4.png", "5.png"]
    assert names_of(folder / "model") == (four, four)
    assert len(Index(folder / "model" / "features.covis")) == 4
    shutil.copy2(scene.folder / "0.png", folder / "photos")
    more = again()
    assert (more.gone, more.registered, more.new_pairs) == ([], 5, 4)
    assert scene.error(Map.open(folder / "model").reconstruction) < 0.01


def test_a_photo_that_was_removed_from_the_store_is_found_again(mine):
    folder, again = mine
    (folder / "photos" / "2.png").unlink()
    Index(folder / "model" / "features.covis").remove([folder / "photos" / "2.png"])
    assert again().gone == ["2.png"]
    assert again().registered == 4


def test_a_renamed_photo_keeps_its_matches_and_its_pose(mine):
    folder, again = mine
    before = position(folder / "model", "3.png")
    (folder / "photos" / "deeper").mkdir()
    (folder / "photos" / "3.png").rename(folder / "photos" / "deeper" / "three.png")
    summary = again()
    assert summary.renamed == {"3.png": "deeper/three.png"}
    assert (summary.gone, summary.changed, summary.new_pairs) == ([], [], 0)
    assert summary.registered == 5
    np.testing.assert_array_equal(position(folder / "model", "deeper/three.png"), before)
    assert (Map.open(folder / "model").points("deeper/three.png") >= 0).any()


def swap_names(photos):
    """2.png becomes 4.png, and 4.png becomes 2.png."""
    (photos / "2.png").rename(photos / "x.png")
    (photos / "4.png").rename(photos / "2.png")
    (photos / "x.png").rename(photos / "4.png")


def test_two_photos_that_change_names_keep_their_poses(mine):
    folder, again = mine
    before = [position(folder / "model", name) for name in ("2.png", "4.png")]
    swap_names(folder / "photos")
    summary = again()
    assert summary.renamed == {"2.png": "4.png", "4.png": "2.png"}
    assert summary.new_pairs == 0
    after = [position(folder / "model", name) for name in ("4.png", "2.png")]
    np.testing.assert_array_equal(before, after)


def test_a_run_killed_amid_its_changes_goes_on(mine, monkeypatch):
    """Between the database, which has them, and the record, which has not."""
    folder, again = mine
    before = [position(folder / "model", name) for name in ("2.png", "4.png")]
    swap_names(folder / "photos")
    (folder / "photos" / "5.png").unlink()

    def killed(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(PhotoRecord, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        again()
    monkeypatch.undo()
    summary = again()
    assert (summary.changed, summary.renamed, summary.gone) == ([], {}, [])
    assert (summary.new_pairs, summary.registered) == (0, 4)
    after = [position(folder / "model", name) for name in ("4.png", "2.png")]
    np.testing.assert_array_equal(before, after)


def test_exception_for_a_damaged_record(mine):
    folder, again = mine
    (folder / "model" / "photos.json").write_text("{")
    with pytest.raises(CovisError, match=r"photos\.json is damaged"):
        again()
    (folder / "model" / "photos.json").unlink()
    assert again().registered == 5


def test_a_photo_of_another_size_gets_a_camera_of_its_own(mine, scene):
    folder, again = mine
    path = folder / "photos" / "3.png"
    cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), (360, 270)))
    summary = again(camera_model="SIMPLE_RADIAL", camera_params=None)
    assert (summary.changed, summary.registered, summary.new_pairs) == (["3.png"], 5, 4)
    model = Map.open(folder / "model")
    camera = model.reconstruction.image(model.names["3.png"]).camera
    assert (camera.width, camera.height) == (360, 270)
    assert scene.error(model.reconstruction) < 0.05


def test_a_photo_replaced_by_another_scene_loses_its_place(mine):
    folder, again = mine
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    cv2.imwrite(str(folder / "photos" / "3.png"), cv2.resize(noise, (480, 360)))
    summary = again()
    assert (summary.changed, summary.alone, summary.registered) == (["3.png"], ["3.png"], 4)
    assert "3.png" not in Map.open(folder / "model").names


@pytest.mark.parametrize("same_time", [False, True])
def test_a_retaken_photo_is_taken_up(mine, scene, same_time):
    """Another view under its name; also with the size and the time that the file had before."""
    folder, again = mine
    path, other = folder / "photos" / "3.png", folder / "photos" / "3.bmp"
    path.unlink()
    cv2.imwrite(str(other), cv2.imread(str(scene.folder / "3.png")))
    os.utime(other, ns=(10**18, 10**18))
    again()
    cv2.imwrite(str(other), cv2.imread(str(scene.folder / "6.png")))
    if same_time:
        os.utime(other, ns=(10**18, 10**18))
    summary = again()
    assert (summary.changed, summary.registered) == (["3.bmp"], 5)
    assert np.linalg.norm(
        position(folder / "model", "3.bmp") - position(folder / "model", "5.png")
    ) < np.linalg.norm(position(folder / "model", "3.bmp") - position(folder / "model", "2.png"))


def test_a_folder_may_be_renamed_and_renamed_back(mine):
    folder, again = mine
    before = position(folder / "model", "3.png")
    for old, new in (("photos", "pictures"), ("pictures", "photos")):
        (folder / old).rename(folder / new)
        summary = again(new)
        assert (summary.registered, summary.new_pairs, summary.gone) == (5, 0, [])
        assert summary.renamed == {}
        assert Map.open(folder / "model").settings.photos == str(folder / new)
        np.testing.assert_array_equal(position(folder / "model", "3.png"), before)
    assert len(Index(folder / "model" / "features.covis").failures()) == 0


def test_exception_none_of_the_photos_is_there(mine, scene):
    """A wrong folder must not cost the map."""
    folder, again = mine
    (folder / "photos").rename(folder / "away")
    (folder / "others").mkdir()
    for number in (0, 6):
        shutil.copy2(scene.folder / f"{number}.png", folder / "others")
    with pytest.raises(ArgumentError, match="none of the 5 photos"):
        again("others")
    (folder / "away").rename(folder / "photos")
    assert again().registered == 5
    assert "../others/0.png" not in names_of(folder / "model")[0]


def test_more_photos_from_another_folder_are_added(mine, scene):
    folder, again = mine
    (folder / "others").mkdir()
    shutil.copy2(scene.folder / "6.png", folder / "others")
    assert again("others").registered == 6
    assert names_of(folder / "model")[0][0] == "../others/6.png"


def test_when_too_few_are_left_the_model_goes(mine):
    folder, again = mine
    for number in (1, 2, 3):
        (folder / "photos" / f"{number}.png").unlink()
    summary = again()
    assert (summary.photos, summary.models, len(summary.gone)) == (2, [], 3)


def test_changes_are_told_by_content():
    before = {"a": "1", "b": "2", "c": "3", "d": None, "e": "5", "f": "6"}
    now = {"a": "1", "b": "9", "d": "4", "g": "5", "h": "6", "i": "6"}
    changes = find_changes(before, now)
    assert changes.gone == ["c"]
    assert changes.changed == ["b"]
    assert changes.renamed == {"e": "g", "f": "h"}
    swapped = find_changes({"a": "1", "b": "2"}, {"a": "2", "b": "1"})
    assert (swapped.renamed, swapped.changed) == ({"a": "b", "b": "a"}, [])
    taken = find_changes({"a": "1", "b": "2"}, {"b": "1"})
    assert (taken.renamed, taken.changed, taken.gone) == ({"a": "b"}, ["b"], [])
