#!/usr/bin/env bash
# pycolmap 4.2.1: `Database.open` on a database of COLMAP 3.11 and older changes the file, for good.
#
# Expected: opening and reading leaves the file as it was, so that the COLMAP that made it still
#   owns it; or the call says that it migrates.
# Seen: opening alone adds the tables rigs, rig_sensors, frames, frame_data and pose_priors, a
#   column `type` to descriptors, and sets the version in the file's header from 3110 to 4020100.
#   There is no read-only way to open. The images have no frame afterwards, which other calls of
#   pycolmap 4 then miss. Copy such a database before looking into it.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/python" -m pip install --quiet pycolmap==4.2.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PYTHON'
import hashlib
import sqlite3
import struct
from pathlib import Path

import pycolmap

old = sqlite3.connect("old.db")
blob = "rows INTEGER NOT NULL, cols INTEGER NOT NULL, data BLOB"
old.executescript(f"""
    CREATE TABLE cameras (camera_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
        model INTEGER NOT NULL, width INTEGER NOT NULL, height INTEGER NOT NULL, params BLOB,
        prior_focal_length INTEGER NOT NULL);
    CREATE TABLE images (image_id INTEGER PRIMARY KEY AUTOINCREMENT NOT NULL,
        name TEXT NOT NULL UNIQUE, camera_id INTEGER NOT NULL);
    CREATE TABLE keypoints (image_id INTEGER PRIMARY KEY NOT NULL, {blob});
    CREATE TABLE descriptors (image_id INTEGER PRIMARY KEY NOT NULL, {blob});
    CREATE TABLE matches (pair_id INTEGER PRIMARY KEY NOT NULL, {blob});
    CREATE TABLE two_view_geometries (pair_id INTEGER PRIMARY KEY NOT NULL, {blob},
        config INTEGER NOT NULL, F BLOB, E BLOB, H BLOB, qvec BLOB, tvec BLOB);
    INSERT INTO images VALUES (1, 'a.jpg', 1);
    PRAGMA user_version = 3110;
""")
old.execute(
    "INSERT INTO cameras VALUES (1, 0, 640, 480, ?, 0)", (struct.pack("3d", 700, 320, 240),)
)
old.commit()
old.close()


def described():
    with sqlite3.connect("old.db") as file:
        tables = {row[0] for row in file.execute("SELECT name FROM sqlite_master")}
        columns = [row[1] for row in file.execute("PRAGMA table_info(descriptors)")]
        (version,) = file.execute("PRAGMA user_version").fetchone()
    return tables, columns, version, hashlib.sha256(Path("old.db").read_bytes()).hexdigest()


before = described()
database = pycolmap.Database.open("old.db")
(image,) = database.read_all_images()
database.close()
after = described()
print("tables that came:", sorted(after[0] - before[0]))
print("descriptors:", before[1], "->", after[1])
print("version:", before[2], "->", after[2])
print("read:", image)
assert {"rigs", "frames", "frame_data", "rig_sensors", "pose_priors"} <= after[0] - before[0]
assert "type" in after[1] and "type" not in before[1]
assert (before[2], after[2]) == (3110, 4020100)
assert before[3] != after[3]
PYTHON
