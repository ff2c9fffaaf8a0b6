"""Bundles: what is found, and what is said when one is missing, broken or not whole."""

from __future__ import annotations

import json

import pytest

from covis.errors import BundleError
from covis.runtime import Bundle, bundle, find_bundle, list_bundles, user_models
from covis.runtime.onnx import OnnxGraph

ABOUT = {
    "name": "test",
    "architecture": "xfeat",
    "graphs": {"detect": "detect.onnx"},
    "licence": "MIT",
    "source": "here",
}


@pytest.fixture
def empty_home(tmp_path, monkeypatch):
    """No bundle anywhere."""
    monkeypatch.setattr(bundle, "SHIPPED", tmp_path / "shipped")
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))
    return tmp_path


def write(folder, about=ABOUT, graphs=("detect.onnx",)):
    folder.mkdir(parents=True, exist_ok=True)
    text = about if isinstance(about, str) else json.dumps(about)
    (folder / "bundle.json").write_text(text, encoding="utf-8")
    for graph in graphs:
        (folder / graph).write_bytes(b"no graph at all")
    return folder


def test_read(tmp_path):
    about = ABOUT | {"version": "7", "training": {"steps": 3}, "metrics": {"auc": 0.5}}
    found = Bundle.read(write(tmp_path, about))
    assert found.describe() == about
    assert found.folder == tmp_path
    assert found.graph("detect") == tmp_path / "detect.onnx"
    assert Bundle.read(str(tmp_path)) == found


def test_digest_tells_apart_graphs_and_settings(tmp_path):
    found = Bundle.read(write(tmp_path / "a"))
    again = Bundle.read(write(tmp_path / "b", ABOUT | {"name": "other", "licence": "none"}))
    assert found.digest() == again.digest()
    others = {Bundle.read(write(tmp_path / "b", ABOUT | {"settings": {"dim": 96}})).digest()}
    (tmp_path / "a" / "detect.onnx").write_bytes(b"another graph")
    others.add(found.digest())
    assert len(others | {again.digest()}) == 3


def test_digest_of_an_earlier_export(tmp_path):
    now = Bundle.read(write(tmp_path)).digest()
    counted = ABOUT | {"training": {}, "metrics": {}, "version": "1", "counts_as": {now: "then"}}
    found = Bundle.read(write(tmp_path, counted))
    assert found.digest() == "then"
    assert found.describe() == counted
    (tmp_path / "detect.onnx").write_bytes(b"other weights")
    assert found.digest() not in (now, "then")


def test_exception_nothing_there(tmp_path):
    with pytest.raises(BundleError, match=r"no bundle there \(no bundle\.json\)"):
        Bundle.read(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"no bundle there \(no bundle\.json\)"):
        Bundle.read(tmp_path)


@pytest.mark.parametrize(
    "about",
    [
        "",
        "{",
        "[]",
        "3",
        "null",
        '{"name": "x"}',
        ABOUT | {"unknown": 1},
        ABOUT | {"folder": "elsewhere"},
        ABOUT | {"graphs": ["detect.onnx"]},
        ABOUT | {"graphs": {"detect": 3}},
        ABOUT | {"graphs": None},
        ABOUT | {"graphs": "detect.onnx"},
    ],
    ids=str,
)
def test_exception_no_description(tmp_path, about):
    write(tmp_path, about)
    with pytest.raises(BundleError, match=r"bundle\.json: not a bundle's description"):
        Bundle.read(tmp_path)


def test_exception_bytes_that_are_no_text(tmp_path):
    (tmp_path / "bundle.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BundleError, match=r"bundle\.json: not a bundle's description"):
        Bundle.read(tmp_path)


def test_exception_bundle_json_is_a_folder(tmp_path):
    (tmp_path / "bundle.json").mkdir()
    with pytest.raises(BundleError, match=r"bundle\.json: not a bundle's description"):
        Bundle.read(tmp_path)


def test_exception_not_whole(tmp_path):
    write(tmp_path, ABOUT | {"graphs": {"detect": "detect.onnx", "refine": "refine.onnx"}})
    with pytest.raises(BundleError, match=r"the bundle is not whole, refine\.onnx is missing"):
        Bundle.read(tmp_path)


def test_exception_no_such_graph(tmp_path):
    with pytest.raises(BundleError, match="test: this bundle has no graph to refine"):
        Bundle.read(write(tmp_path)).graph("refine")


@pytest.mark.parametrize("content", [b"", b"no graph at all", b"\x08\x0a" * 50])
def test_exception_broken_graph(tmp_path, content):
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"broken\.onnx: ONNX Runtime cannot load it"):
        OnnxGraph(path)


def test_exception_missing_graph(tmp_path):
    with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
        OnnxGraph(tmp_path / "none.onnx")


def test_exception_cut_graph(random_bundle, tmp_path):
    whole = random_bundle.graph("refine").read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BundleError, match="ONNX Runtime cannot load it"):
        OnnxGraph(path)


def test_found_by_name_or_folder(empty_home):
    folder = write(empty_home / "home" / "models" / "test")
    assert find_bundle("test") == Bundle.read(folder) == find_bundle(str(folder))
    assert [found.name for found in list_bundles()] == ["test"]
    elsewhere = write(empty_home / "elsewhere", ABOUT | {"name": "other"})
    assert find_bundle(str(elsewhere)).name == "other"
    assert [found.name for found in list_bundles()] == ["test"]


def test_shipped_bundles_come_first(empty_home):
    write(empty_home / "shipped" / "test", ABOUT | {"source": "shipped"})
    write(empty_home / "home" / "models" / "test", ABOUT | {"source": "imported"})
    assert find_bundle("test").source == "shipped"
    assert [found.source for found in list_bundles()] == ["shipped", "imported"]


def test_other_files_among_the_models_are_ignored(empty_home):
    models = empty_home / "home" / "models"
    write(models / "test")
    (models / "notes.txt").write_text("hello")
    (models / "half-written").mkdir()
    assert [found.name for found in list_bundles()] == ["test"]


def test_exception_names_bundles_of_the_wanted_architectures(empty_home):
    write(empty_home / "shipped" / "one")
    write(empty_home / "shipped" / "two", ABOUT | {"name": "two", "architecture": "lightglue"})
    with pytest.raises(BundleError, match=r"there are: one, sift\. "):
        find_bundle("nonsense", {"xfeat"}, ["sift"])


@pytest.mark.parametrize("name", ["nonsense", "", "/", "a\0b", "../home"])
def test_exception_unknown_name(empty_home, monkeypatch, name):
    monkeypatch.chdir(empty_home)
    with pytest.raises(BundleError, match=r"no model named '.*'; there are: none\."):
        find_bundle(name)
    write(empty_home / "home" / "models" / "test")
    with pytest.raises(BundleError, match=r"there are: test\. 'covis weights get' lists"):
        find_bundle(name)


def test_user_models(monkeypatch, tmp_path):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "a"))
    assert user_models() == tmp_path / "a" / "models"
    monkeypatch.delenv("COVIS_HOME")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "b"))
    assert user_models() == tmp_path / "b" / "covis" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "c"))
    assert user_models() == tmp_path / "c" / ".local" / "share" / "covis" / "models"


@pytest.mark.parametrize("graph", ["../detect.onnx", "/etc/hosts", "..", "sub/detect.onnx", ""])
def test_exception_for_a_graph_outside_the_folder(tmp_path, graph):
    write(tmp_path / "a", ABOUT | {"graphs": {"detect": graph}}, graphs=())
    (tmp_path / "detect.onnx").touch()
    with pytest.raises(BundleError, match="lies outside its folder"):
        Bundle.read(tmp_path / "a")


def test_exception_for_json_without_end(tmp_path):
    write(tmp_path, "[" * 100_000)
    with pytest.raises(BundleError, match="not a bundle's description"):
        Bundle.read(tmp_path)


def test_an_unreadable_folder_hides_no_other(empty_home, monkeypatch):
    write(user_models() / "good")
    write(user_models() / "closed")
    look = type(empty_home).is_file

    def refuse(path):
        if "closed" in str(path):
            raise PermissionError(13, "Permission denied", str(path))
        return look(path)

    monkeypatch.setattr(type(empty_home), "is_file", refuse)
    broken = []
    assert [each.name for each in list_bundles(broken)] == ["test"]
    assert [str(error) for error in broken] == [
        f"{user_models() / 'closed'}: cannot be read (Permission denied)."
    ]
