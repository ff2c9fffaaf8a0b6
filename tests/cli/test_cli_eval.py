"""`covis eval` and `covis reproduce`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from helpers import toy_benchmark
from typer.testing import Result

from covis.evaluation.benchmark import Benchmark
from covis.evaluation.registry import BENCHMARKS, by_name

Run = Callable[..., Result]
SIFT = ("--features", "sift", "--matcher", "nearest", "--seeds", "1", "--max-keypoints", "200")


@pytest.fixture
def data(tmp_path: Path, pair: tuple[Path, Path]) -> Path:
    """A set of one pair; the second picture is the first one moved by (-10, -6)."""
    move = np.array([[1, 0, -10], [0, 1, -6], [0, 0, 1]])
    entry = {"image0": "../../a.png", "image1": "../../b.png", "kind": "homography"}
    folder = tmp_path / "data" / "wall"
    folder.mkdir(parents=True)
    (folder / "pairs.json").write_text(json.dumps([entry | {"H_1from0": move.tolist()}]))
    return folder.parent


def test_eval_lists_the_benchmarks(covis: Run) -> None:
    lines = covis("eval").stdout.splitlines()
    assert sorted(line.split()[0] for line in lines) == sorted(BENCHMARKS)


def test_eval_without_data_says_where_to_get_it(covis: Run) -> None:
    result = covis("eval", "hpatches")
    assert result.exit_code == 0
    assert result.stdout == f"hpatches: {BENCHMARKS['hpatches'].how_to_get}.\n"


def test_eval_prints_a_table_and_writes_json(covis: Run, data: Path) -> None:
    result = covis("eval", "pairs", data, *SIFT, "--estimator", "opencv", "-o", "out.json")
    assert result.exit_code == 0, result.output
    assert "| measured | sift + nearest | wall | 1 |" in result.stdout
    found = json.loads((data.parent / "out.json").read_text())
    assert found["settings"]["estimators"] == ["opencv"]
    assert found["rows"][0]["protocol"] == "homography, RANSAC"
    assert found["rows"][0]["figures"]["share@3px"] == 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("eval", "nope", "x"), "covis: no benchmark 'nope'; there are: "),
        (
            ("eval", "hpatches", "data"),
            "covis: data: this folder has no data of hpatches; dat",
        ),
        (("eval", "pairs", "data", "--estimator", "x"), "covis: no estimator 'x'"),
        (("eval", "pairs", "data", "--protocol", "x"), "covis: no protocol 'x'"),
        (("reproduce", "--data", "nowhere"), "covis: nowhere: no such folder"),
        (
            ("reproduce", "--data", "home"),
            "covis: home: no data of a benchmark there. It is looked for in folders of",
        ),
    ],
)
def test_exception_in_one_line(
    covis: Run, data: Path, arguments: tuple[str, ...], message: str
) -> None:
    (data.parent / "home").mkdir()
    result = covis(*arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", [("eval", "pairs", "data"), ("reproduce", "--data", "data")])
def test_data_is_not_written_over(covis: Run, data: Path, command: tuple[str, ...]) -> None:
    listed = data / "wall" / "pairs.json"
    before = listed.read_bytes()
    result = covis(*command, "-o", listed)
    assert result.exit_code == 2
    assert "is read by this command, and must not be written over" in result.stderr
    assert listed.read_bytes() == before


def test_reproduce_writes_a_page_and_goes_on(covis: Run, data: Path) -> None:
    command = ("reproduce", "--data", data, "--quick", "--threads", "1")
    result = covis(*command)
    assert result.exit_code == 0, result.output
    text = (data.parent / "docs" / "results.md").read_text()
    assert "| SIFT | sift + nearest | wall | 1 |" in text
    assert "| ours | xfeat-covis + lightglue-xfeat-covis | wall | 1 |" in text
    assert "a quick run" in text
    assert "official weights: none are installed" in text
    kept = data.parent / "docs" / "results-parts"
    jobs = len(list(kept.glob("*.json")))
    (kept / "pairs-data-sift-sift-nearest-4096.json").unlink()
    again = covis(*command)
    assert again.stderr.count("measured before") == jobs - 1
    assert again.stderr.splitlines()[0].startswith(f"1 of {jobs}: pairs, SIFT, sift + nearest")


def test_reproduce_only_some(covis: Run, data: Path) -> None:
    for name in ("db", "queries"):
        (data / "search" / name).mkdir(parents=True)
        (data / "search" / name / "a.png").write_bytes((data.parent / "a.png").read_bytes())
    answers = [{"query": "a.png", "relevant": ["a.png"]}]
    (data / "search" / "queries.json").write_text(json.dumps(answers))
    result = covis("reproduce", "--data", data, "--quick", "--only", "queries", "-o", "page.md")
    assert result.exit_code == 0, result.output
    text = (data.parent / "page.md").read_text()
    assert "| SIFT | sift, global (pooled) | search | 1 | 100.0 |" in text
    assert "- `pairs`, SIFT, sift + nearest, 4096 keypoints: left out" in text


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the data of a new benchmark, whose module is listed in the registry."""
    listed = cast("dict[str, Benchmark]", BENCHMARKS)
    for name, benchmark in by_name([toy_benchmark]).items():
        monkeypatch.setitem(listed, name, benchmark)
    folder = tmp_path / "texts" / "toy"
    folder.mkdir(parents=True)
    (folder / "a.txt").write_text("one two three")
    (folder / "b.txt").write_text("one")
    return folder


def test_a_new_benchmark_needs_its_module_and_a_place_in_the_registry(
    covis: Run, toy: Path
) -> None:
    listed = [line.split() for line in covis("eval").stdout.splitlines()]
    assert ["toy", "words", "of", "texts"] in listed
    assert "https://example.org/texts" in covis("eval", "toy").stdout
    result = covis("eval", "toy", toy, "--features", "sift", "-o", "toy.json")
    assert result.exit_code == 0, result.output
    assert "| measured | sift | a | 1 | 3.0 |" in result.stdout
    assert "| printed: A paper | Abacus | a |  | 3.0 |" in result.stdout
    rows = json.loads((toy.parents[1] / "toy.json").read_text())["rows"]
    assert [row["figures"]["words"] for row in rows] == [3, 1]
    reproduced = covis("reproduce", "--data", toy.parent, "-o", "page.md")
    assert reproduced.exit_code == 0, reproduced.output
    assert "| ours | xfeat | b | 1 | 1.0 |" in (toy.parents[1] / "page.md").read_text()


def test_exception_new_benchmark_without_its_data(covis: Run, toy: Path) -> None:
    (toy.parent / "empty").mkdir()
    result = covis("eval", "toy", toy.parent / "empty")
    assert result.exit_code == 2
    assert "this folder has no data of toy; data: https://example.org/texts" in result.stderr
