"""docs/formats.md against what the commands write. Maps: tests/sfm/test_map_formats.py."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import lance
import numpy as np
import pytest
from helpers.formats import documented
from typer.testing import CliRunner

import covis
from covis.cli import app
from covis.demo import render_demo
from covis.runtime.bundle import SHIPPED


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder with the demo's two views."""
    folder = tmp_path_factory.mktemp("photos")
    pair = render_demo((320, 240))
    for name, pixels in (("a.png", pair.image0), ("b.png", pair.image1)):
        cv2.imwrite(str(folder / name), pixels[:, :, ::-1])
    return folder


@pytest.fixture(scope="module")
def store(photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("stores") / "photos.covis"
    run("add", photos, "--to", path)
    return path


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code in (0, 1), result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)
    return result.stdout


def told(*arguments: object):
    return json.loads(run(*arguments, "--json"))


def types(dataset: lance.LanceDataset) -> dict[str, str]:
    """Columns and types in short, the names of list items left out."""
    return {
        field.name: str(field.type).replace("element: ", "").replace("item: ", "")
        for field in dataset.schema
    }


def arrays(path: Path) -> dict[str, tuple[str, int]]:
    """Of a .npz file: name -> type and number of dimensions."""
    with np.load(path) as file:
        found = {name: file[name] for name in file.files}
    return {
        name: ("text" if array.dtype.kind == "U" else str(array.dtype), array.ndim)
        for name, array in found.items()
    }


def said(section: str) -> dict[str, tuple[str, int]]:
    """Documented arrays in the way of `arrays`."""
    found = {}
    for name, value in documented(section).items():
        kind, _, shape = value.partition(" ")
        found[name] = kind, len([size for size in shape.strip("()").split(",") if size.strip()])
    return found


def test_features_files(photos, tmp_path):
    written: dict[str, tuple[str, int]] = {}
    for how in ({"features": "sift"}, {"features": "xfeat"}, {"semi_dense": True}):
        extract = covis.Extractor(max_keypoints=100, **how)
        extract(photos / "a.png").save(tmp_path / "features.npz")
        written |= arrays(tmp_path / "features.npz")
    assert written == said("Features file")


def test_matches_files(photos, tmp_path):
    found = covis.match(photos / "a.png", photos / "b.png", geometry="essential")
    found.save(tmp_path / "matches.npz")
    assert arrays(tmp_path / "matches.npz") == said("Matches file")


def test_a_folder_of_match_many(photos, tmp_path):
    (photos / "pairs.txt").write_text("# image 0  image 1\na.png b.png\n")
    run("match-many", "--pairs", photos / "pairs.txt", "-o", tmp_path / "out", "--draw")
    folder = {path.name for path in (tmp_path / "out").iterdir()}
    assert folder == {"settings.json", "features", "matches", "drawings", "summary.csv"}
    with (tmp_path / "out" / "summary.csv").open(newline="") as file:
        rows = csv.DictReader(file)
        assert list(rows.fieldnames or ()) == list(documented("Columns of summary.csv"))
        (row,) = rows
    assert (tmp_path / "out" / "matches" / row["file"]).is_file()


def test_a_store(store):
    images, files = (lance.dataset(store / f"{name}.lance") for name in ("images", "files"))
    meta = json.loads(images.schema.metadata[b"covis"])
    assert list(meta) == [
        "format", "features", "weights", "max_keypoints", "max_size", "pooled", "descriptor",
        "vector",
    ]  # fmt: skip
    said = {
        name: kind.replace("[G]", f"[{meta['vector']}]").replace("[D]", f"[{meta['descriptor']}]")
        for name, kind in documented("Columns of images.lance").items()
    }
    assert types(images) == said
    assert types(files) == documented("Columns of files.lance")


def test_bundles():
    keys = documented("Keys of bundle.json")
    shipped = [json.loads(path.read_text("utf-8")) for path in SHIPPED.glob("*/bundle.json")]
    assert shipped
    for bundle in shipped:
        optional = {"settings", "counts_as"} - bundle.keys()
        assert list(bundle) == [key for key in keys if key not in optional]
        assert f"`{bundle['architecture']}`" in keys["architecture"]


def test_results_of_eval(photos, tmp_path):
    entry = {"image0": "a.png", "image1": "b.png", "kind": "homography"}
    entry["H_1from0"] = np.eye(3).tolist()
    (photos / "pairs.json").write_text(json.dumps([entry]))
    run("eval", "pairs", photos, "--features", "sift", "--matcher", "nearest",
        "-o", tmp_path / "result.json")  # fmt: skip
    result = json.loads((tmp_path / "result.json").read_text("utf-8"))
    assert list(result) == list(documented("Keys of a result"))
    assert list(result["rows"][0]) == list(documented("Keys of a row"))


def test_json_of_match(photos):
    found = told("match", photos / "a.png", photos / "b.png")
    assert list(found) == list(documented("covis match --json"))


def test_json_of_the_commands_on_a_store(photos, store):
    found = told("search", photos / "a.png", "--in", store)
    assert list(found) == list(documented("covis search --json"))
    assert list(found["hits"][0]) == list(documented("A hit of covis search --json"))
    found = told("info", store, "--forecast", 1000, "--failures")
    assert list(found) == list(documented("covis info --json"))
    assert list(told("verify", store)) == list(documented("covis verify --json"))
    assert list(told("duplicates", store)) == list(documented("covis duplicates --json"))


def test_json_of_dense(photos):
    found = told("dense", "match", photos / "a.png", photos / "b.png")
    assert list(found) == list(documented("covis dense match --json"))
    found = told("dense", "discover", photos / "a.png")
    assert list(found) == list(documented("covis dense discover --json"))


def test_json_of_doctor():
    assert set(told("doctor")) == set(documented("covis doctor --json"))
