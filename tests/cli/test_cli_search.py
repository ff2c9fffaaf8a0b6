"""Photos into a store and out of it, as a user types it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.textures import soft_noise
from typer.testing import Result

from covis.draw.copies import CAPTION, GAP, TILE
from covis.images.decode import load_image

Run = Callable[..., Result]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Four textures in a folder."""
    (tmp_path / "photos").mkdir()
    for number in range(4):
        texture = soft_noise(30, 40, seed=number)
        cv2.imwrite(str(tmp_path / "photos" / f"{number}.png"), texture)
    return tmp_path / "photos"


@pytest.fixture
def store(covis: Run, photos: Path, tmp_path: Path) -> Path:
    result = covis("add", photos, "--to", "store", "--features", "sift", "--max-keypoints", 300)
    assert result.exit_code == 0, result.output
    return tmp_path / "store"


def test_add_counts_and_adds_once(covis: Run, photos: Path, store: Path) -> None:
    again = covis("add", photos, "--to", store)
    assert again.exit_code == 0
    assert again.stdout.startswith("0 added, ")
    assert "4 unchanged" in again.stdout
    assert "holds 4 pictures" in again.stdout


def test_add_tells_what_failed_and_exits_with_1(covis: Run, photos: Path, store: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"")
    result = covis("add", photos, "--to", store)
    assert result.exit_code == 1
    assert f"covis: {photos / 'bad.jpg'} is empty" in result.stderr
    assert "1 failed" in result.stdout
    assert "is empty" in covis("info", store, "--failures").stdout


def test_exit_codes_tell_whether_anything_was_found(covis: Run, photos: Path, store: Path) -> None:
    """By each name of the store's option."""
    given = ("--budget", "none", "--hits", 2)
    assert covis("search", photos / "2.png", "--store", store, *given).exit_code == 0
    cv2.imwrite("other.png", soft_noise(30, 40, seed=50))
    for as_json in ((), ("--json",)):
        assert covis("search", "other.png", "--from", store, *given, *as_json).exit_code == 1
        assert covis("duplicates", store, *as_json).exit_code == 1


def test_two_stores_are_searched_as_one(covis: Run, photos: Path, store: Path) -> None:
    cv2.imwrite("more.png", soft_noise(30, 40, seed=50))
    covis("add", "more.png", "--to", "second", "--features", "sift", "--max-keypoints", 300)
    both = ("--in", store, "--in", "second", "--budget", "none")
    for query, name in ((photos / "2.png", str(store)), (Path("more.png"), "second")):
        result = covis("search", query, *both)
        assert result.exit_code == 0, result.output
        _, reason, counts = result.stdout.splitlines()
        assert reason.endswith(f", in {Path(name).resolve()}")
        assert ", 5 pictures, " in counts
        (told,) = map(json.loads, covis("search", query, *both, "--json").stdout.splitlines())
        assert told["hits"][0]["store"] == str(Path(name).resolve())
    covis("add", photos, "--to", "third", "--max-keypoints", 50)
    refused = covis("search", "more.png", "--in", store, "--in", "third")
    assert (refused.exit_code, refused.stderr.count("\n")) == (2, 1)
    assert "hold different features (features" in refused.stderr


def test_search_names_the_photo_and_the_reason(covis: Run, photos: Path, store: Path) -> None:
    result = covis("search", photos / "2.png", "--in", store, "--budget", "none", "-k", 2)
    assert result.exit_code == 0, result.output
    first, reason = result.stdout.splitlines()[:2]
    assert first.split() == ["1", str(photos / "2.png")]
    assert "similarity 1.000, same" in reason
    assert "inliers of" in reason
    assert "4 of 4 candidates checked" in result.stdout


def test_search_as_json_and_as_a_picture(
    covis: Run, photos: Path, store: Path, tmp_path: Path
) -> None:
    query = photos / "1.png"
    result = covis("search", query, "--in", store, "--json", "-o", "sheet.png", "--budget", "9s")
    found = json.loads(result.stdout)
    assert found["hits"][0]["path"] == str(query)
    assert found["hits"][0]["verdict"] == "same"
    assert cv2.imread(str(tmp_path / "sheet.png")).shape[1] > 800


def test_search_says_that_a_copy_is_mirrored(covis: Run, photos: Path, store: Path) -> None:
    cv2.imwrite(str(photos.parent / "q.png"), cv2.imread(str(photos / "2.png"))[:, ::-1])
    told = covis("search", "q.png", "--in", store, "--budget", "none", "-k", 1).stdout
    assert told.startswith(f"  1  {photos / '2.png'}\n")
    assert ", same, " in told
    assert ", mirrored, at x,y,w,h " in told


def test_search_in_a_region(covis: Run, photos: Path, store: Path) -> None:
    options = ("--in", store, "--region", "40,30,150,120", "--json", "--budget", "none")
    found = json.loads(covis("search", photos / "3.png", *options).stdout)
    x, y, width, height = found["hits"][0]["query_region"]
    assert found["hits"][0]["path"] == str(photos / "3.png")
    assert x >= 40
    assert y >= 30
    assert x + width <= 190
    assert y + height <= 150


def test_search_says_that_the_budget_was_too_small(
    covis: Run, photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covis.search.retrieve.cpu_threads", lambda: 1)
    result = covis("search", photos / "2.png", "--in", store, "--budget", "1ms")
    assert result.stdout.startswith(f"  1  {photos / '2.png'}\n     similarity 1.000, same")
    told = re.search(
        r"^The budget of 1ms was used up after 1 of 4 candidates; --budget (\S+) should .*$",
        result.stdout,
        re.MULTILINE,
    )
    assert told is not None
    again = covis("search", photos / "2.png", "--in", store, "--budget", told[1])
    assert again.exit_code == 0
    every = covis("search", photos / "2.png", "--in", store, "--budget", "none")
    assert "used up" not in every.stdout


def test_search_says_how_many_photos_there_was_no_time_to_compare(
    covis: Run, photos: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covis.search.retrieve.doubted", lambda hits, *_: (hits, 2))
    told = covis("search", photos / "2.png", "--in", store).stdout
    assert told.endswith("Not tried for lack of time: laying 2 hits over the picture.\n")


@pytest.mark.parametrize(
    "options",
    [("--budget", "fast"), ("--budget", "0ms"), ("--region", "1,2,3"), ("-k", "0")],
)
def test_exception_for_options_that_mean_nothing(
    covis: Run, photos: Path, store: Path, options: tuple[str, str]
) -> None:
    assert covis("search", photos / "1.png", "--in", store, *options).exit_code == 2


def test_nothing_the_same_is_said(covis: Run, tmp_path: Path, store: Path) -> None:
    cv2.imwrite(str(tmp_path / "new.png"), soft_noise(30, 40, seed=77))
    result = covis("search", tmp_path / "new.png", "--in", store, "--budget", "none")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"Nothing in {store} is sure to show the same")
    assert not any("different" in line or ", same" in line for line in lines)
    told = json.loads(covis("search", tmp_path / "new.png", "--in", store, "--json").stdout)
    assert (told["certain"], len(told["hits"])) == (0, 4)


def test_certain_hits_stand_alone(covis: Run, photos: Path, store: Path) -> None:
    lines = covis("search", photos / "2.png", "--in", store, "--budget", "none").stdout.splitlines()
    assert [line for line in lines if line.endswith(".png")] == [f"  1  {photos / '2.png'}"]


def test_a_folder_of_queries(covis: Run, photos: Path, store: Path) -> None:
    result = covis("search", photos, "--in", store, "--budget", "none")
    assert result.exit_code == 0, result.output
    for number in range(4):
        path = photos / f"{number}.png"
        assert f"{path}:\n  1  {path}\n" in result.stdout
    (photos / "bad.png").write_bytes(b"")
    result = covis("search", photos, "--in", store, "--json")
    assert result.exit_code == 1
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [each["query"] for each in told] == [str(photos / f"{n}.png") for n in range(4)]
    assert "bad.png" in result.stderr
    result = covis("search", photos, "--in", store, "-o", "hits.png")
    assert (result.exit_code, "one picture" in result.stderr) == (2, True)


def test_changed_files_are_told(covis: Run, photos: Path, store: Path, tmp_path: Path) -> None:
    (photos / "2.png").rename(tmp_path / "q.png")
    cv2.imwrite(str(photos / "2.png"), soft_noise(30, 40, seed=5))
    result = covis("search", tmp_path / "q.png", "--in", store, "--budget", "none")
    assert "changed since it was added" in result.stdout
    (photos / "2.png").unlink()
    result = covis("search", tmp_path / "q.png", "--in", store, "--budget", "none")
    assert "no longer there" in result.stdout
    assert "1 file left out, gone or changed" in covis("duplicates", store).stdout


def test_duplicates_are_listed(covis: Run, photos: Path, store: Path) -> None:
    assert covis("duplicates", store).stdout == "0 groups; files that are copies of others: 0.\n"
    mirrored = np.ascontiguousarray(cv2.imread(str(photos / "0.png"))[:, ::-1])
    cv2.imwrite(str(photos / "z.png"), mirrored)
    covis("add", photos, "--to", store)
    lines = covis("duplicates", store).stdout.splitlines()
    assert lines == [
        f"{photos / '0.png'}  240x180",
        f"    {photos / 'z.png'}  240x180, mirrored",
        "1 group; files that are copies of others: 1.",
    ]
    (group,) = json.loads(covis("duplicates", store, "--json").stdout)["groups"]
    assert [copy["mirrored"] for copy in group] == [False, True]
    assert "Drawn in groups.png." in covis("duplicates", store, "-o", "groups.png").stdout
    sheet = load_image("groups.png").pixels
    # A row of two tiles, the first in a white frame; a photo is never drawn over.
    assert sheet.shape == (GAP + TILE + CAPTION + GAP, GAP + 2 * (TILE + GAP), 3)
    white = (sheet == 255).all(axis=2)
    assert white[:, : TILE + GAP].sum() > 500 > 2 * white[:, TILE + GAP :].sum()
    result = covis("duplicates", store, "-o", photos / "0.png")
    assert (result.exit_code, "must not be written over" in result.stderr) == (2, True)


def test_info_and_its_forecast(covis: Run, store: Path) -> None:
    text = covis("info", store, "--forecast", 1000).stdout
    assert text.startswith("4 pictures in 4 files; 0 files failed.\nModel: sift, ")
    assert "1,000 pictures: " in text
    values = json.loads(covis("info", store, "--forecast", 1000, "--json").stdout)
    assert values["images"] == 4
    assert values["forecast"]["stored"] == 250 * values["stored"]


def test_remove_and_verify(covis: Run, photos: Path, store: Path) -> None:
    assert "1 file forgotten" in covis("remove", photos / "0.png", "--from", store).stdout
    (photos / "1.png").unlink()
    result = covis("verify", store)
    assert result.exit_code == 0
    assert "Gone: 1" in result.stdout
    assert "The store is whole." in result.stdout
    assert "1 file forgotten" in covis("remove", "--missing", "--from", store).stdout
    assert json.loads(covis("verify", store, "--json").stdout)["images"] == 2
    assert covis("remove", "--from", store).exit_code == 2


def test_remove_says_what_is_not_there(covis: Run, photos: Path, store: Path) -> None:
    some = covis("remove", photos / "0.png", "none.png", "--from", store)
    assert some.exit_code == 0
    assert some.stderr == f"covis: {photos.parent / 'none.png'} is not in {store}.\n"
    nothing = covis("remove", photos / "0.png", "--from", store)
    assert nothing.exit_code == 1
    assert f"{photos / '0.png'} is not in" in nothing.stderr
    assert nothing.stdout == f"0 files forgotten; {store} holds 3 pictures.\n"


def test_one_picture_is_no_pictures(covis: Run, photos: Path) -> None:
    told = covis("add", photos / "0.png", "--to", "one", "--features", "sift").stdout
    assert told.endswith("0 copies, 0 replaced, 0 failed. one holds 1 picture.\n")
    assert covis("info", "one").stdout.startswith("1 picture in 1 file; 0 files failed.\n")
    assert covis("verify", "one").stdout.startswith("1 picture and 1 file read.\n")
    told = covis("search", photos / "0.png", "--in", "one", "--budget", "none").stdout
    assert "1 of 1 candidate checked, 1 picture, " in told


def test_add_of_a_folder_without_pictures_makes_no_store(covis: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = covis("add", "empty", "--to", "store", "--features", "sift")
    assert (result.exit_code, result.stdout) == (2, "")
    assert f"{tmp_path / 'empty'}: no pictures there" in result.stderr
    assert not (tmp_path / "store").exists()


def test_verify_exits_with_1_when_something_is_wrong(covis: Run, store: Path) -> None:
    from covis.search import Index

    Index(store).store.files.delete("path LIKE '%0.png'")
    result = covis("verify", store)
    assert result.exit_code == 1
    assert "has no file" in result.stdout
    assert covis("verify", store, "--repair").exit_code == 0


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("none.png",), "none.png: no such file"),
        (("photos/1.png", "-o", "x.foo"), "x.foo: cannot write pictures with the suffix"),
        (("photos/1.png", "--matcher", "magic"), "no matcher 'magic'"),
    ],
)
def test_exception_for_a_mistake_before_the_store_is_opened(
    covis: Run, photos: Path, options: tuple[str, ...], told: str
) -> None:
    result = covis("search", *options, "--in", "none")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert told in result.stderr


@pytest.mark.parametrize("command", [("search", "photos/1.png", "--in"), ("info",), ("verify",)])
def test_exception_where_there_is_no_store(
    covis: Run, photos: Path, command: tuple[str, ...]
) -> None:
    result = covis(*command, "none")
    assert result.exit_code == 2
    assert "no store there; make one: covis add PHOTOS --to none." in result.stderr
    assert result.stderr.count("\n") == 1
