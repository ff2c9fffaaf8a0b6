import json
import math

import pytest
from helpers import trees

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks import hpatches, phototourism, posed_pairs, retrieval
from covis.evaluation.protocol import TITLES
from covis.evaluation.published_results import PUBLISHED
from covis.evaluation.registry import BENCHMARKS
from covis.evaluation.result import Result, run_benchmark, tables, versions
from covis.evaluation.tables import Row

SIFT = Settings(features="sift", matcher="nearest", seeds=1)


def lines(table):
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table.splitlines()
        if line.startswith("|")
    ]


def test_a_run_records_what_its_figures_depend_on(tmp_path):
    result = run_benchmark("pairs", trees.pairs(tmp_path / "set"), SIFT)
    assert (result.benchmark, result.data) == ("pairs", str(tmp_path / "set"))
    assert result.settings == SIFT
    assert result.models == {}
    assert result.versions == versions()
    assert result.versions["poselib"] != "not installed"
    [row] = result.rows
    assert (row.protocol, row.method, row.part) == (
        "homography, LO-RANSAC",
        "sift + nearest",
        "set",
    )
    assert row.items == 2
    assert row.figures["share@3px"] == 100
    assert len(row.detail["errors"]) == 2


def test_models_are_known_by_their_digest(tmp_path):
    settings = Settings(matcher="nearest", seeds=1, every=2)
    result = run_benchmark("pairs", trees.pairs(tmp_path), settings)
    assert list(result.models) == ["xfeat-covis"]
    assert len(result.models["xfeat-covis"]) == 16


def test_saved_and_loaded(tmp_path):
    row = Row("p", "m", "all", {"AUC": 1.5, "none": math.nan}, 3, "note", {"errors": [math.inf]})
    made = Result("pairs", "d", SIFT, {"x": "1"}, (row,), 2.5, "2026-01-01", "here", {"a": "1"})
    path = tmp_path / "a.json"
    made.save(path)
    assert json.loads(path.read_text())["rows"][0]["detail"] == {"errors": [None]}
    found = Result.load(path)
    assert found.settings == SIFT
    assert found.rows[0].figures["AUC"] == 1.5
    assert math.isnan(found.rows[0].figures["none"])
    assert (found.models, found.machine, found.versions) == ({"x": "1"}, "here", {"a": "1"})


@pytest.mark.parametrize("content", [None, "x", "{}", '{"settings": 3, "rows": []}'])
def test_exception_no_result(tmp_path, content):
    path = tmp_path / "a.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ArgumentError, match=r"a\.json"):
        Result.load(path)


def test_measured_and_printed_are_told_apart():
    rows = [
        ("measured", Row("XFeat, LO-RANSAC", "ours", "all", {"AUC@5°": 12.34, "x": math.nan}, 9)),
        ("measured", Row("other", "ours", "all", {"AUC@5°": 1.0}, 9, "a note")),
    ]
    text = tables("megadepth1500", rows)
    first, other = text.split("megadepth1500, other:")
    header, _, own, *papers = lines(first)
    assert header == ["", "method", "part", "items", "AUC@5°", "x"]
    assert own == ["measured", "ours", "all", "9", "12.3", ""]
    assert {cells[0].partition(":")[0] for cells in papers} == {"printed"}
    assert ["XFeat", "all", "", "42.6", ""] in [cells[1:] for cells in papers]
    assert len(lines(other)) == 3
    assert other.endswith("a note")


def test_what_papers_print_stands_beside_something():
    """Each printed row's protocol and figures are those of a benchmark's own rows."""
    protocols = {
        "hpatches": (hpatches.XFEAT, hpatches.LIGHTGLUE),
        "megadepth1500": posed_pairs.MEGADEPTH,
        "scannet1500": posed_pairs.SCANNET,
        "phototourism": (phototourism.PROTOCOL,),
    }
    known = {
        (name, f"{protocol.name}, {TITLES[estimator]}")
        for name, listed in protocols.items()
        for protocol in listed
        for estimator in protocol.estimators
    }
    known |= {("hpatches", "LightGlue, matches")}
    known |= {(name, "retrieval") for name in ("roxford5k", "rparis6k")}
    for each in PUBLISHED:
        if each.benchmark in protocols or each.protocol == "retrieval":
            assert (each.benchmark, each.protocol) in known
        assert each.benchmark in BENCHMARKS
        if each.protocol == "retrieval":
            assert set(each.figures) <= set(retrieval.REVISITED)
        assert all(0 < value < 100 for value in each.figures.values())


def test_exception_unknown_benchmark(tmp_path):
    with pytest.raises(ArgumentError, match="no benchmark 'x'; there are: ") as caught:
        run_benchmark("x", tmp_path, SIFT)
    assert set(str(caught.value).split("there are: ")[1].rstrip(".").split(", ")) == {*BENCHMARKS}


@pytest.mark.parametrize("name", BENCHMARKS)
def test_exception_missing_data_says_where_to_get_it_in_one_line(tmp_path, name):
    with pytest.raises(ArgumentError) as caught:
        run_benchmark(name, tmp_path, SIFT)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path}: this folder has no data of {name}; data: ")
    assert BENCHMARKS[name].source in message
    assert BENCHMARKS[name].layout in message
    assert "\n" not in message


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, "seeds must be 1 or more"),
        ({"every": 0}, "every must be 1 or more"),
        ({"top": -1}, "top must be 0 or more"),
        ({"thresholds": (1.0, -1.0)}, "thresholds must be positive"),
        ({"estimators": ("magic",)}, "no estimator 'magic'"),
    ],
)
def test_exception_settings(settings, message):
    with pytest.raises(ArgumentError, match=message):
        Settings(**settings)
