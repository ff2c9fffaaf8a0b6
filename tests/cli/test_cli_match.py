from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from typer.testing import Result

Run = Callable[..., Result]

KEYS = {
    "matches", "inliers", "points0", "points1", "scores", "inlier_mask", "geometry", "seconds",
    "model", "licence", "turn", "mirrored", "verdict", "attempts", "stopped",
}  # fmt: skip


def test_match_tells_people(covis: Run, pair: tuple[Path, Path]) -> None:
    result = covis("match", *pair, "--features", "sift", "-o", "drawn.png")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert "agree with a fundamental matrix." in lines[0]
    assert re.fullmatch(r"Verdict: same; probability of the same [01]\.\d{3}\.", lines[1])
    assert "Model: sift; licence: Apache-2.0" in result.stdout
    assert lines[-1] == "Drawn in drawn.png."
    assert cv2.imread("drawn.png") is not None


def test_match_tells_programs_and_nothing_else(covis: Run, pair: tuple[Path, Path]) -> None:
    result = covis(
        "match", *pair, "--features", "sift", "--geometry", "homography", "--json", "-o", "d.jpg"
    )
    found = json.loads(result.stdout)
    assert set(found) == KEYS
    assert result.stderr == ""
    count = found["matches"]
    assert [len(found[key]) for key in ("points0", "points1", "scores", "inlier_mask")] == [
        count
    ] * 4
    assert found["inliers"] == sum(found["inlier_mask"]) > 50
    np.testing.assert_allclose(
        found["geometry"]["matrix"], [[1, 0, -10], [0, 1, -6], [0, 0, 1]], atol=0.1
    )
    assert Path("d.jpg").is_file()


def test_match_says_how_a_picture_was_turned(covis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    from covis.api import match

    asked = {}

    def turned(*arguments: object, rotate: str, **others: object) -> object:
        asked["rotate"] = rotate
        return replace(match(*arguments, **others), turn=270)

    monkeypatch.setattr("covis.api.match", turned)
    cv2.imwrite("grey.png", np.full((100, 100, 3), 128, np.uint8))
    result = covis("match", "grey.png", "grey.png", "--features", "sift", "--rotate", "auto")
    assert asked == {"rotate": "auto"}
    assert "Image 1 was turned by 270 degrees clockwise to be matched" in result.stdout


def test_match_gives_the_pose_for_essential(covis: Run, pair: tuple[Path, Path]) -> None:
    result = covis("match", *pair, "--features", "sift", "--geometry", "essential", "--json")
    geometry = json.loads(result.stdout)["geometry"]
    assert np.shape(geometry["rotation_1from0"]) == (3, 3)
    assert np.shape(geometry["translation_1from0"]) == (3,)
    assert "focal" in geometry["note"]


def test_match_of_different_pictures_is_an_answer(covis: Run, pair: tuple[Path, Path]) -> None:
    cv2.imwrite("grey.png", np.full((100, 100, 3), 128, np.uint8))
    result = covis("match", pair[0], "grey.png", "--features", "sift")
    assert (result.exit_code, result.stderr) == (1, "")
    assert result.stdout.startswith("0 matches.\n")
    programs = covis("match", pair[0], "grey.png", "--features", "sift", "--json")
    assert programs.exit_code == 1
    told = json.loads(programs.stdout)
    assert (told["matches"], told["geometry"]["matrix"]) == (0, None)
    assert told["geometry"]["note"] in result.stdout
    plain = covis("match", pair[0], "grey.png", "--features", "sift", "--geometry", "none")
    assert plain.exit_code == 0


def test_match_takes_masks(covis: Run, pair: tuple[Path, Path]) -> None:
    mask = np.zeros((160, 200), np.uint8)
    mask[:, 100:] = 255
    cv2.imwrite("mask.png", mask)
    result = covis("match", *pair, "--features", "sift", "--mask0", "mask.png", "--json")
    assert np.max(json.loads(result.stdout)["points0"], axis=0)[0] < 105


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["a.png", "none.png"], "none.png: no such file"),
        (["a.png", "b.png", "-o", "x.abc"], "suffix"),
        (["a.png", "b.png", "--mask1", "none.png"], "none.png"),
        (["a.png", "b.png", "--matcher", "semi-dense"], "semi-dense"),
        (["a.png", "b.png", "--matcher", "magic"], "no matcher 'magic'; there are: nearest"),
        (["a.png", "b.png", "--matcher", "lightglue"], "no LightGlue weights are installed for"),
        (["a.png", "b.png", "--matcher", "nearest", "--full-depth"], "full depth is for LightGlue"),
    ],
)
def test_exception_in_one_line(
    covis: Run, pair: tuple[Path, Path], arguments: list[str], words: str
) -> None:
    result = covis("match", *arguments, "--features", "sift")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("covis: ")
    assert result.stderr.count("\n") == 1
    assert words in result.stderr


def test_exception_for_an_unknown_model(covis: Run, pair: tuple[Path, Path]) -> None:
    result = covis("match", *pair, "--features", "nonsense")
    assert result.exit_code == 2
    assert "covis: no model named 'nonsense'" in result.stderr


def test_match_many_of_a_folder(covis: Run, pair: tuple[Path, Path], tmp_path: Path) -> None:
    arguments = ("match-many", tmp_path, "-o", tmp_path / "out", "--features", "sift")
    first = covis(*arguments)
    assert first.exit_code == 0
    assert first.stdout.startswith("1 pair matched, 0 skipped; features of 2 pictures found.")
    again = covis(*arguments, "--draw")
    assert again.stdout.startswith("1 pair matched (1 of them before), 0 skipped")
    assert len(list((tmp_path / "out" / "drawings").iterdir())) == 1
    other = covis(*arguments, "--seed", 5)
    assert other.exit_code == 2
    assert other.stderr.startswith("covis: ")
    assert "other settings (seed 0 then, 5 now)" in other.stderr


def test_match_many_of_a_list_with_a_bad_picture(covis: Run, pair: tuple[Path, Path]) -> None:
    Path("bad.png").write_bytes(b"no picture")
    Path("pairs.txt").write_text("a.png b.png\na.png bad.png\nbad.png b.png\n")
    result = covis("match-many", "--pairs", "pairs.txt", "-o", "out", "--features", "sift")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("covis: bad.png is not a picture")
    assert "1 pair matched, 2 skipped" in result.stdout
    with open("out/summary.csv", newline="", encoding="utf-8") as file:
        assert [bool(row["skipped"]) for row in csv.DictReader(file)] == [False, True, True]


@pytest.mark.parametrize("arguments", [[], [".", "--pairs", "pairs.txt"], ["--pairs", "none.txt"]])
def test_exception_for_a_wrong_call_of_match_many(covis: Run, arguments: list[str]) -> None:
    result = covis("match-many", *arguments, "-o", "out", "--features", "sift")
    assert result.exit_code == 2
    assert not Path("out").exists()


def test_demo_knows_how_many_are_right(covis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from covis.demo import render_demo

    monkeypatch.setattr("covis.demo.render_demo", lambda **given: render_demo((320, 240), **given))
    result = covis("demo", "--features", "sift", "-o", "d.png", "--keep", "kept")
    assert result.exit_code == 0
    assert "Right within 3 pixels of the truth: " in result.stdout
    assert sorted(path.name for path in Path("kept").iterdir()) == ["a.png", "b.png"]
    assert Path("d.png").is_file()


def test_match_takes_intrinsics(covis: Run, pair: tuple[Path, Path]) -> None:
    given = ("--features", "sift", "--geometry", "essential")
    found = covis("match", *pair, *given, "--camera0", "300", "--camera1", "300,310,160,120")
    assert found.exit_code == 0
    assert "focal length" not in found.stdout
    one = covis("match", *pair, *given, "--camera1", "300")
    assert "image 0: focal length assumed" in one.stdout
    assert "image 1" not in one.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--camera0", "300"), "is for --geometry essential"),
        (("--geometry", "essential", "--camera0", "1,2"), "no intrinsics; give f, or fx,fy,cx,cy"),
        (("--geometry", "essential", "--camera1", "wide"), "'wide' are no intrinsics"),
        (("--geometry", "essential", "--camera1", "9"), "--camera1: a focal length of 9 pixels"),
        (("--geometry", "essential", "--camera1", "-9"), "must be positive"),
    ],
)
def test_match_refuses_odd_intrinsics(
    covis: Run, pair: tuple[Path, Path], arguments: tuple[str, ...], words: str
) -> None:
    run = covis("match", *pair, *arguments)
    assert run.exit_code == 2
    assert words in run.stderr
    assert run.stderr.count("\n") == 1


def test_match_says_that_a_focal_length_in_exif_is_ignored(
    covis: Run, pair: tuple[Path, Path], tmp_path: Path
) -> None:
    exif = PIL.Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 65535
    with PIL.Image.open(pair[0]) as picture:
        picture.convert("RGB").save(tmp_path / "action.jpg", exif=exif)
    found = covis("match", tmp_path / "action.jpg", pair[1], "--geometry", "essential")
    assert "image 0: EXIF's focal length (65535 mm of 35 mm film) cannot be" in found.stdout
    assert "image 0: focal length assumed as 1.2" in found.stdout
