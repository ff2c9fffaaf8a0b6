"""Many pairs into one folder, whatever happens on the way."""

from __future__ import annotations

import csv
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.pages import page
from helpers.textures import draw_texture, soft_noise

from covis.errors import ArgumentError, CovisError
from covis.features.extractor import Extractor
from covis.geometry.page_verdict import NOTE
from covis.match_many import PairResult, Summary, match_many
from covis.options import MatchOptions
from covis.types import Features, Matches, Verdict

SIFT = MatchOptions(features="sift", max_keypoints=200)


def write_pictures(folder: Path, count: int) -> list[Path]:
    """Views of one texture, each moved by a few pixels."""
    folder.mkdir()
    texture = soft_noise(60, 80)
    paths = [folder / f"view {i}.png" for i in range(count)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), texture[3 * i : 3 * i + 120, 5 * i : 5 * i + 160])
    return paths


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    return write_pictures(tmp_path / "pictures", 4)


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def rows(out: Path) -> list[dict[str, str]]:
    with (out / "summary.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def run(pictures: list[Path], out: Path, settings: MatchOptions = SIFT, **options: bool) -> Summary:
    return match_many(combinations(pictures, 2), out, settings, **options)


def test_every_pair_has_its_matches_and_its_line(pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    heard: list[PairResult] = []
    summary = match_many(combinations(pictures, 2), out, SIFT, report=heard.append)
    assert not (out / "drawings").exists()
    assert (summary.done, summary.skipped, summary.extracted) == (6, 0, 4)
    assert [(r["image0"], r["image1"]) for r in rows(out)] == [
        (str(a), str(b)) for a, b in combinations(pictures, 2)
    ]
    assert [result.file for result in heard] == [row["file"] for row in rows(out)]
    for row in rows(out):
        found = Matches.load(out / "matches" / row["file"])
        assert len(found) == int(row["matches"])
        assert int(found.inliers.sum()) == int(row["inliers"]) > 20
        assert row["verdict"] == found.verdict.label == "same"
        assert float(row["probability"]) == found.verdict.probability
        assert "Apache" in found.licence
    assert len(list((out / "features").iterdir())) == 4
    for path in (out / "features").iterdir():
        assert Features.load(path).model == "sift"


def test_pages_on_one_template_are_unsure_as_by_themselves(tmp_path: Path) -> None:
    from covis import match

    paths = [tmp_path / f"{seed}.png" for seed in (1, 2)]
    for seed, path in enumerate(paths, 1):
        cv2.imwrite(str(path), page(seed, lines=6))
    match_many([(paths[0], paths[1])], tmp_path / "out", SIFT)
    (row,) = rows(tmp_path / "out")
    assert (row["verdict"], row["probability"]) == ("unsure", "0.5")
    assert NOTE in row["note"]
    alone = match(*paths, features="sift", max_keypoints=200, geometry=SIFT.geometry)
    assert row["note"] == alone.geometry.note


def test_a_pair_is_matched_as_by_itself(pictures: list[Path], tmp_path: Path) -> None:
    from covis import match

    run(pictures, tmp_path / "out", MatchOptions(features="sift", geometry="essential"))
    alone = match(pictures[0], pictures[3], features="sift", geometry="essential")
    stored = Matches.load(tmp_path / "out" / "matches" / rows(tmp_path / "out")[2]["file"])
    np.testing.assert_array_equal(stored.points1, alone.points1)
    np.testing.assert_array_equal(stored.inliers, alone.inliers)


def test_a_doubtful_pair_gets_more_attempts_as_by_itself(tmp_path: Path) -> None:
    from covis import match

    pair = tmp_path / "a.png", tmp_path / "b.png"
    for seed, path in enumerate(pair):
        cv2.imwrite(str(path), soft_noise(40, 60, seed=seed))
    match_many([pair], tmp_path / "out", SIFT)
    stored = Matches.load(tmp_path / "out" / "matches" / rows(tmp_path / "out")[0]["file"])
    alone = match(*pair, features="sift", max_keypoints=200)
    assert len(stored.attempts) > 1
    assert stored.attempts == tuple(replace(each, seconds=0.0) for each in alone.attempts)
    assert (stored.stopped, stored.verdict) == (alone.stopped, alone.verdict)


def test_effort_is_a_setting_only_where_no_matcher_is_named(tmp_path: Path) -> None:
    named = MatchOptions(features="sift", matcher="nearest")
    match_many([], tmp_path / "named", named)
    match_many([], tmp_path / "named", replace(named, effort="fast", budget=1.0))
    match_many([], tmp_path / "left", SIFT)
    with pytest.raises(ArgumentError, match="effort auto then, fast now"):
        match_many([], tmp_path / "left", replace(SIFT, effort="fast"))


def test_a_second_run_does_nothing_again(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(pictures, tmp_path / "out")
    before = contents(tmp_path / "out")
    monkeypatch.setattr(Extractor, "__call__", None)
    summary = run(pictures, tmp_path / "out")
    assert (summary.done, summary.reused, summary.extracted) == (6, 6, 0)
    assert contents(tmp_path / "out") == before


def test_more_pairs_reuse_features(pictures: list[Path], tmp_path: Path) -> None:
    run(pictures[:3], tmp_path / "out")
    summary = run(pictures, tmp_path / "out")
    assert (summary.done, summary.reused, summary.extracted) == (6, 3, 1)


def test_a_copy_is_not_extracted_and_a_changed_picture_is(
    pictures: list[Path], tmp_path: Path
) -> None:
    pictures[1].write_bytes(pictures[0].read_bytes())
    assert run(pictures[:2], tmp_path / "out").extracted == 1
    pictures[1].write_bytes(pictures[2].read_bytes())
    summary = run(pictures[:2], tmp_path / "out")
    assert (summary.reused, summary.extracted) == (0, 1)


def test_bad_pictures_are_told_and_the_rest_goes_on(pictures: list[Path], tmp_path: Path) -> None:
    pictures[1].write_bytes(pictures[1].read_bytes()[:300])
    pictures[2].unlink()
    summary = run(pictures, tmp_path / "out")
    assert (summary.done, summary.skipped) == (1, 5)
    assert set(summary.failed) == {str(pictures[1]), str(pictures[2])}
    assert sum("view 2.png" in row["skipped"] for row in rows(tmp_path / "out")) >= 2
    assert [row["skipped"] for row in rows(tmp_path / "out")].count("") == 1


def test_a_mended_picture_is_taken_up_again(pictures: list[Path], tmp_path: Path) -> None:
    good = pictures[1].read_bytes()
    pictures[1].write_bytes(b"")
    run(pictures, tmp_path / "out")
    pictures[1].write_bytes(good)
    summary = run(pictures, tmp_path / "out")
    assert (summary.done, summary.reused, summary.skipped) == (6, 3, 0)


def test_damaged_results_are_made_again(pictures: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(pictures, out)
    before = contents(out)
    for folder in ("features", "matches"):
        for path in sorted((out / folder).iterdir())[:2]:
            path.write_bytes(path.read_bytes()[:500])
    run(pictures, out)
    after = contents(out)
    assert {k: v for k, v in after.items() if "matches" in k} == {
        k: v for k, v in before.items() if "matches" in k
    }


@pytest.mark.parametrize(
    "other",
    [
        MatchOptions(features="sift", max_keypoints=100),
        MatchOptions(features="sift", max_keypoints=200, seed=1),
        MatchOptions(features="sift", max_keypoints=200, rotate="auto"),
    ],
    ids=["max_keypoints", "seed", "rotate"],
)
def test_exception_for_other_settings(
    other: MatchOptions, pictures: list[Path], tmp_path: Path
) -> None:
    run(pictures[:2], tmp_path / "out")
    before = contents(tmp_path / "out")
    with pytest.raises(ArgumentError, match="other settings"):
        run(pictures[:2], tmp_path / "out", other)
    assert contents(tmp_path / "out") == before


def test_exception_for_damaged_settings(pictures: list[Path], tmp_path: Path) -> None:
    run(pictures[:2], tmp_path / "out")
    (tmp_path / "out" / "settings.json").write_text("{")
    with pytest.raises(CovisError, match=r"settings\.json is damaged"):
        run(pictures[:2], tmp_path / "out")


def test_exception_for_a_folder_in_use(pictures: list[Path], tmp_path: Path) -> None:
    fcntl = pytest.importorskip("fcntl")
    (tmp_path / "out").mkdir()
    handle = os.open(tmp_path / "out", os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX)
    try:
        with pytest.raises(ArgumentError, match="another process"):
            run(pictures[:2], tmp_path / "out")
    finally:
        os.close(handle)


def test_drawings_are_added_to_what_is_there(pictures: list[Path], tmp_path: Path) -> None:
    run(pictures[:3], tmp_path / "out")
    summary = run(pictures[:3], tmp_path / "out", draw=True)
    assert summary.reused == 3
    drawings = {path.stem for path in (tmp_path / "out" / "drawings").iterdir()}
    assert drawings == {path.stem for path in (tmp_path / "out" / "matches").iterdir()}


def test_turned_pictures_are_extracted_once(
    pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three pictures are second in a pair, and no pair is sure."""
    monkeypatch.setattr("covis.api.judge", lambda *_: Verdict("unsure", 0.5))
    monkeypatch.setattr("covis.match_many.KEPT_IN_MEMORY", 2)
    seen: list[tuple[int, int]] = []
    extract = Extractor.__call__
    monkeypatch.setattr(
        Extractor,
        "__call__",
        lambda self, image: seen.append((image.width, image.height)) or extract(self, image),
    )
    settings = MatchOptions(features="sift", max_keypoints=50, rotate="auto", effort="fast")
    summary = run(pictures, tmp_path / "out", settings)
    assert (summary.done, summary.extracted) == (6, 4)
    assert sorted(seen) == [(120, 160)] * 6 + [(160, 120)] * 7
    assert len(list((tmp_path / "out" / "features").iterdir())) == 13
    for row in rows(tmp_path / "out"):
        found = Matches.load(tmp_path / "out" / "matches" / row["file"])
        assert found.turn == int(row["turn"])
        assert (found.indices is None) == (found.turn > 0)
    again = run(pictures, tmp_path / "out", settings)
    assert (again.reused, len(seen)) == (6, 13)


def test_mirrored_pictures_are_told(tmp_path: Path) -> None:
    """Nothing that was found in a picture as it is passes for what is in it mirrored."""
    (tmp_path / "in").mkdir()
    paths = tmp_path / "in" / "a.png", tmp_path / "in" / "b.png"
    picture = draw_texture(240, 320, seed=4)
    for path, pixels in zip(paths, (picture, picture[:, ::-1]), strict=True):
        cv2.imwrite(str(path), pixels)
    run(paths, tmp_path / "out", MatchOptions(geometry="homography"))
    (row,) = rows(tmp_path / "out")
    assert (row["verdict"], row["mirrored"], row["turn"]) == ("same", "True", "0")
    found = Matches.load(tmp_path / "out" / "matches" / row["file"])
    moved = np.abs(found.points0 + found.points1 * (1, -1) - (320, 0))[found.inliers]
    assert np.median(moved) < 0.5


KILLED_AT = """
import os, signal, sys
from itertools import combinations
from pathlib import Path
from covis.images.picture_files import pictures_to_pair
from covis.geometry.page_verdict import NOTE
from covis.match_many import match_many
from covis.options import MatchOptions

moment, replaces = int(sys.argv[3]), 0
replace = Path.replace
def counting(self, target):
    global replaces
    replaces += 1
    if replaces == moment:
        os.kill(os.getpid(), signal.SIGKILL)
    return replace(self, target)
Path.replace = counting
pairs = combinations(pictures_to_pair(Path(sys.argv[1])), 2)
match_many(pairs, Path(sys.argv[2]), MatchOptions(features="sift", max_keypoints=200))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_killed_run_ends_with_the_same_files(pictures: list[Path], tmp_path: Path) -> None:
    """Killed with a file half in place, then at a random moment, then left to end."""
    out = tmp_path / "out"
    run(pictures, tmp_path / "undisturbed")
    expected = contents(tmp_path / "undisturbed")
    features: dict[str, int] = {}

    def features_stay() -> None:
        stamps = {p.name: p.stat().st_mtime_ns for p in (out / "features").glob("*.npz")}
        assert features.items() <= stamps.items()
        features.update(stamps)

    command = [sys.executable, "-c", KILLED_AT, str(pictures[0].parent), str(out)]
    for moment in (3, 5):
        assert subprocess.run([*command, str(moment)]).returncode == -signal.SIGKILL
        features_stay()
    assert list(out.glob("*/*.partial"))

    process = subprocess.Popen([*command, "0"])
    count = len(list((out / "matches").glob("*.npz")))
    while process.poll() is None and len(list((out / "matches").glob("*.npz"))) == count:
        time.sleep(0.001)
    time.sleep(random.uniform(0, 0.02))
    process.kill()
    process.wait()
    features_stay()

    run(pictures, out)
    features_stay()
    assert contents(out) == expected
