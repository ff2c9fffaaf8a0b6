"""COLMAP's database, written and read."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covis.convert import colmap
from covis.errors import ArgumentError, CovisError
from covis.types import Features, Matches

pycolmap = pytest.importorskip("pycolmap", reason="databases need pycolmap: covis[map]")

NAMES = "db/one.jpg", "query/two.jpg"


@pytest.mark.parametrize("shapes", [True, False])
def test_features_come_back(made, alike, tmp_path: Path, shapes: bool) -> None:
    truth = {NAMES[0]: made(6, shapes=shapes), NAMES[1]: made(5, shapes=shapes)}
    colmap.write(tmp_path / "database.db", truth)
    found = colmap.read_features(tmp_path / "database.db", "made-up")
    assert list(found) == sorted(truth)
    for name, features in found.items():
        alike(features, truth[name])
        np.testing.assert_array_equal(features.scores, 1)


def test_sift_is_kept_as_colmap_keeps_it(made, alike, tmp_path: Path) -> None:
    truth = made(model="sift")
    colmap.write(tmp_path / "database.db", {"a.jpg": truth})
    with pycolmap.Database.open(str(tmp_path / "database.db")) as rows:
        stored = rows.read_descriptors(rows.read_all_images()[0].image_id)
    assert (stored.type.name, stored.data.dtype) == ("SIFT", np.uint8)
    assert np.linalg.norm(stored.data.astype(float), axis=1) == pytest.approx(512, abs=2)
    alike(colmap.read_features(tmp_path / "database.db")["a.jpg"], truth, tolerance=2e-3)


def test_keypoints_are_where_colmap_has_them(made, tmp_path: Path) -> None:
    truth = made()
    colmap.write(tmp_path / "database.db", {"a.jpg": truth})
    with pycolmap.Database.open(str(tmp_path / "database.db")) as rows:
        (image,), (camera,) = rows.read_all_images(), rows.read_all_cameras()
        stored = rows.read_keypoints(image.image_id)
    np.testing.assert_array_equal(stored[:, :2], truth.keypoints)
    assert (camera.width, camera.height, camera.model.name) == (640, 480, "SIMPLE_RADIAL")


def test_matches_come_back(
    two: tuple[Features, Features], matched: Matches, same: Callable[..., None], tmp_path: Path
) -> None:
    features = dict(zip(NAMES, two, strict=True))
    path = tmp_path / "database.db"
    colmap.write(path, features, {NAMES: matched})
    found = colmap.read_matches(path, colmap.read_features(path))
    same(found[NAMES], replace(matched, scores=np.ones(3, np.float32)))
    assert colmap.read_matches(path, {NAMES[0]: two[0]}) == {}


def test_matches_given_the_other_way_round(two, matched, tmp_path: Path) -> None:
    """COLMAP knows a pair by the smaller of its ids first."""
    features = dict(zip(NAMES, two, strict=True))
    turned = Matches(
        matched.points1, matched.points0, matched.scores, indices=matched.indices[:, ::-1]
    )
    colmap.write(tmp_path / "database.db", features, {NAMES[::-1]: turned})
    ((pair, found),) = colmap.read_matches(tmp_path / "database.db", features).items()
    expected = {pair: matched, pair[::-1]: turned}[NAMES]
    np.testing.assert_array_equal(found.indices, expected.indices)


def test_features_are_added_and_not_replaced(two, matched, made, tmp_path: Path) -> None:
    features = dict(zip(NAMES, two, strict=True))
    path = tmp_path / "database.db"
    colmap.write(path, features, {NAMES: matched})
    colmap.write(path, {"c.jpg": made(4)})
    with pytest.raises(ArgumentError, match=r"has features of query/two\.jpg already"):
        colmap.write(path, {"d.jpg": made(9), NAMES[1]: made(9)})
    found = colmap.read_features(path)
    assert {name: len(each) for name, each in found.items()} == {
        "c.jpg": 4, NAMES[0]: 6, NAMES[1]: 5,
    }  # fmt: skip
    assert list(colmap.read_matches(path, found)) == [NAMES]


def test_photos_that_a_database_has_keep_their_camera(made, tmp_path: Path) -> None:
    path = tmp_path / "database.db"
    colmap.write(path, {"a.jpg": made(0)})
    with pycolmap.Database.open(str(path)) as rows:
        rows.clear_descriptors()
        rows.clear_keypoints()
    colmap.write(path, {"a.jpg": made(6)})
    with pycolmap.Database.open(str(path)) as rows:
        assert rows.num_cameras() == rows.num_images() == 1
    assert len(colmap.read_features(path)["a.jpg"]) == 6


def test_exception_for_what_cannot_be_written_leaves_the_database(
    two, matched, tmp_path: Path
) -> None:
    path = tmp_path / "database.db"
    with pytest.raises(ArgumentError, match=r"no features of query/two\.jpg"):
        colmap.write(path, {NAMES[0]: two[0]}, {NAMES: matched})
    with pytest.raises(ArgumentError, match="no indices"):
        colmap.write(path, {}, {NAMES: replace(matched, indices=None)})
    assert not path.exists()


def test_exception_for_what_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no such database"):
        colmap.read_features(tmp_path / "database.db")
    (tmp_path / "database.db").write_text("hello")
    with pytest.raises(CovisError, match="not a COLMAP database"):
        colmap.read_features(tmp_path / "database.db")


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE keypoints SET data = x'00'",
        "UPDATE keypoints SET rows = 1000000000",
        "UPDATE keypoints SET cols = 3",
        "UPDATE keypoints SET rows = -5",
        "UPDATE descriptors SET data = x'0000'",
        "UPDATE descriptors SET rows = 0, cols = 0, data = x''",
        "UPDATE descriptors SET type = 77",
        "UPDATE cameras SET params = x'00'",
        "UPDATE cameras SET model = 99",
        "UPDATE cameras SET width = -1",
        "UPDATE matches SET data = x'ffffffffffffffff', rows = 1",
        "UPDATE matches SET data = x'00'",
        "UPDATE matches SET pair_id = 77",
        "UPDATE images SET camera_id = 55",
        "DELETE FROM cameras",
    ],
)
def test_damaged_rows_are_told_in_one_line_or_left_out(
    two: tuple[Features, Features], matched: Matches, tmp_path: Path, change: str
) -> None:
    path = tmp_path / "database.db"
    features = dict(zip(NAMES, two, strict=True))
    colmap.write(path, features, {NAMES: matched})
    with closing(sqlite3.connect(path)) as rows, rows:
        rows.execute("PRAGMA ignore_check_constraints = 1")
        rows.execute(change)
    told = []
    for read in (colmap.read_features, lambda path: colmap.read_matches(path, features)):
        try:
            read(path)
        except CovisError as error:
            told.append(str(error))
    assert all(line.startswith(f"{path}: ") for line in told)
    assert not any("\n" in line for line in told)


def test_reading_changes_nothing_of_an_older_database(made, tmp_path: Path) -> None:
    """pycolmap adds tables to one of COLMAP 3.11 as it opens it, for good."""
    path = tmp_path / "database.db"
    colmap.write(path, {"a.jpg": made(4)})
    with closing(sqlite3.connect(path)) as rows, rows:
        for table in ("frame_data", "frames", "rig_sensors", "rigs", "pose_priors"):
            rows.execute(f"DROP TABLE {table}")
        rows.execute("PRAGMA user_version = 3110")
    before = path.read_bytes()
    assert len(colmap.read_features(path)["a.jpg"]) == 4
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
