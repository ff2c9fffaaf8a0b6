"""Databases of COLMAP's that maps start from: damaged ones, and ones that are open elsewhere."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing

import pytest

from covis.errors import ArgumentError
from covis.sfm import MapOptions, build_map
from covis.sfm.database import copy_database

pytestmark = pytest.mark.usefixtures("colmap")


@pytest.fixture
def given(mapped, tmp_path):
    return shutil.copyfile(mapped[0] / "database.db", tmp_path / "given.db")


def change(database, *statements):
    with closing(sqlite3.connect(database)) as rows, rows:
        for statement in statements:
            rows.execute(statement)


@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("DELETE FROM cameras", r"its photo 0\.png has no camera"),
        ("UPDATE images SET camera_id = 99", r"its photo 0\.png has no camera"),
        ("UPDATE images SET name = x'ff00' WHERE image_id = 1", "a name in it, .*, is no text"),
        ("UPDATE cameras SET params = x'0000'", "its camera 1 is damaged"),
        ("UPDATE cameras SET params = NULL", "its camera 1 is damaged"),
        ("UPDATE cameras SET params = zeroblob(32)", "its camera 1 is damaged"),
        ("UPDATE cameras SET model = 77", "its camera 1 is damaged"),
        ("UPDATE cameras SET width = -5", "its camera 1 is damaged"),
        ("UPDATE cameras SET height = 'tall'", "its camera 1 is damaged"),
        ("DROP TABLE cameras", "no such table: cameras"),
        ("ALTER TABLE images RENAME COLUMN name TO file", "no such column: name"),
    ],
)
def test_exception_for_damaged_photos_and_cameras(given, tmp_path, statement, why):
    change(given, statement)
    with pytest.raises(ArgumentError, match=rf"given\.db: no COLMAP database, .*\({why}"):
        copy_database(given, tmp_path / "copy.db")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given.db"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM frames",
        "INSERT INTO pose_priors VALUES (1, 1, 1, 0, x'00', x'00', x'00', 0)",
    ],
)
def test_exception_for_rows_that_do_not_fit(given, scene, tmp_path, statement):
    change(given, statement)
    options = MapOptions(max_keypoints=50, database=given)
    with pytest.raises(ArgumentError, match=r"given\.db: a damaged COLMAP database \(.+\); take"):
        build_map(scene.folder, tmp_path / "map", options=options)


def test_damaged_features_and_matches_are_made_anew(given, scene, tmp_path):
    change(
        given,
        "UPDATE keypoints SET data = substr(data, 1, 10) WHERE image_id = 1",
        "UPDATE keypoints SET rows = -1 WHERE image_id = 2",
        "UPDATE keypoints SET cols = 3 WHERE image_id = 3",
        "UPDATE matches SET data = x'FFFFFF7FFFFFFF7F', rows = 1",
        "UPDATE two_view_geometries SET rows = rows + 5",
        "UPDATE two_view_geometries SET pair_id = -5 WHERE rowid = 1",
    )
    options = MapOptions(max_keypoints=500, database=given)
    assert build_map(scene.folder, tmp_path / "map", options=options).registered == 7


def test_what_a_program_wrote_last_is_taken(given, tmp_path):
    """COLMAP's databases keep it in a file beside them while they are open, or after a kill."""
    with closing(sqlite3.connect(given)) as rows:
        rows.execute("UPDATE images SET name = 'new.png' WHERE name = '0.png'")
        rows.commit()
        assert given.with_name("given.db-wal").exists()
        before = given.read_bytes()
        assert "new.png" in copy_database(given, tmp_path / "copy.db")
        assert given.read_bytes() == before
