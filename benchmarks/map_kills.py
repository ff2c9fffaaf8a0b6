"""`covis map` killed at random moments, as the part `kills` of map.py does it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from map_places import make_photos

MAP = """
import sys
import covis.sfm.build
from covis.sfm import MapOptions, build_map
print("ready", flush=True)
build_map(sys.argv[1], sys.argv[2], options=MapOptions(max_keypoints=500))
"""


def kill_maps(paths: Sequence[Path], work: Path, count: int) -> None:
    """Every other time a new map, else one that takes up two more photos; then a run to the end."""
    from covis.sfm import MapOptions, build_map
    from covis.sfm.map import read_model

    photos, few = work / "photos", work / "few"
    options = MapOptions(max_keypoints=500)
    shutil.rmtree(few, ignore_errors=True)
    make_photos({"": paths[:-2]}, photos, 480, "none")
    build_map(photos, few, options=options)
    make_photos({"": paths}, photos, 480, "none")
    folder, spans, with_former, killed = work / "killed", {}, 0, 0
    for number in range(-2, count):
        shutil.rmtree(folder, ignore_errors=True)
        extended = number % 2 == 1
        if extended:
            shutil.copytree(few, folder)
        began, process = time.perf_counter(), start(photos, folder)
        if number < 0:
            process.wait()
            spans[extended] = time.perf_counter() - began
            continue
        time.sleep(random.uniform(0, spans[extended]))
        killed += process.poll() is None
        process.kill()
        process.wait()
        models = [folder / name / "0" for name in ("sparse", "sparse.former.partial")]
        there = [read_model(path).num_reg_images() for path in models if path.exists()]
        with_former += extended
        assert there or not extended, f"kill {number}: the model is lost"
        summary = build_map(photos, folder, options=options)
        assert summary.photos == len(paths), f"kill {number}: {summary}"
        assert summary.registered == len(paths), f"kill {number}: {summary}"
        left = [path.name for path in folder.rglob("*.partial*")]
        assert not left, f"kill {number}: {left} left over"
        assert not (folder / "unmapped").exists()
    print(
        f"{count} kills, {killed} of them at work, {with_former} while there was a model: none was"
    )
    print(
        f"lost; all runs went on and placed {len(paths)} of {len(paths)} photos; nothing left over."
    )


def start(photos: Path, folder: Path) -> subprocess.Popen[str]:
    """A process that maps, with its modules loaded."""
    command = [sys.executable, "-c", MAP, str(photos), str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    process.stdout.readline()
    return process
