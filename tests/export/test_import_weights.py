"""Weights go in from Python as they do on the command line."""

from __future__ import annotations

import pytest

import covis
from covis.errors import ArgumentError, BundleError
from covis.features.registry import HANDCRAFTED
from covis.matching import MATCHERS

torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
pytest.importorskip("onnxscript", reason="the export needs ONNX: covis[train]")


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))


def test_official_weights_become_a_model(random_superpoint, texture, tmp_path):
    path = tmp_path / "w.pth"
    torch.save(random_superpoint.state_dict(), path)
    bundle = covis.import_weights(path, name="points")
    assert (bundle.name, bundle.architecture, bundle.source) == ("points", "superpoint", "w.pth")
    assert bundle.folder == tmp_path / "home" / "models" / "points"
    assert bundle.licence.startswith("non-commercial research only (Magic Leap's)")
    assert len(covis.Extractor("points", max_keypoints=50)(texture[:96, :128])) == 50
    with pytest.raises(ArgumentError, match=r"a model 'points' in .*; --force replaces it"):
        covis.import_weights(path, name="points")
    assert covis.import_weights(path, name="points", licence="MIT", force=True).licence == "MIT"


@pytest.mark.parametrize("name", ["xfeat", "xfeat-covis", *HANDCRAFTED, *MATCHERS])
def test_exception_for_names_of_covis(name):
    with pytest.raises(ArgumentError, match=f"the name '{name}' is taken by covis itself"):
        covis.import_weights("w.pth", name=name)


@pytest.mark.parametrize("name", ["", "../x", "a b", ".x"])
def test_exception_for_no_name(name):
    with pytest.raises(ArgumentError, match="is no name for a model; use letters"):
        covis.import_weights("w.pth", name=name)


def test_exception_for_what_is_for_others(tmp_path):
    with pytest.raises(BundleError, match=r"none\.pth: no such weights file"):
        covis.import_weights(tmp_path / "none.pth", name="new")
    torch.save({"convPa.weight": torch.ones(1)}, path := tmp_path / "w.pth")
    with pytest.raises(ArgumentError, match="features are for LightGlue weights; these are super"):
        covis.import_weights(path, name="new", features="sift")
    for given in ({"layer": 3}, {"facet": "key"}, {"lift": "l.pth"}):
        with pytest.raises(ArgumentError, match="lift are for ViTs; these weights are superpoint"):
            covis.import_weights(path, name="new", **given)
