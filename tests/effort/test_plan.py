"""Which ways an effort has."""

from __future__ import annotations

import json
import shutil

import pytest

from covis.effort.plan import Plan, Way
from covis.errors import BundleError
from covis.options import UNKNOWN_LICENCE
from covis.runtime.bundle import SHIPPED


@pytest.fixture
def imports(tmp_path, monkeypatch):
    """Puts a copy of the package's features, or matcher, among the imported weights."""
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))

    def put(name: str, licence: str, of: str = "edgepoint-covis", **settings: str) -> None:
        folder = tmp_path / "models" / name
        shutil.copytree(SHIPPED / of, folder)
        said = json.loads((folder / "bundle.json").read_text())
        said |= {"name": name, "licence": licence, "settings": said.get("settings", {}) | settings}
        (folder / "bundle.json").write_text(json.dumps(said))

    return put


def test_the_package_alone(imports):
    fast, auto = Plan.of("fast", None), Plan.of("auto", None)
    assert fast == Plan(Way("edgepoint-covis"), persistent=False)
    assert auto.cheap == fast.cheap
    assert auto.persistent
    assert auto.others[0] == Way("sift")
    assert "lightglue" in auto.others[1].matcher
    assert [way.features for way in auto.edges] == ["edgepoint-covis", "xfeat-covis"]
    assert set(auto.edges) <= set(auto.others)
    assert Plan.of("thorough", None) == auto


def test_the_features_that_were_named(imports):
    named = Plan.of("auto", "xfeat")
    assert named.cheap == Way("xfeat-covis")
    assert [way.features for way in named.others] == ["sift", "xfeat-covis"]
    assert named.edges == named.others[1:]
    assert Plan.of("auto", "sift") == Plan(Way("sift"), edges=(Way("sift"),))
    with pytest.raises(BundleError, match="no model named 'nonsense'"):
        Plan.of("auto", "nonsense")


def test_thorough_takes_the_best_that_is_imported_and_free(imports):
    imports("edgepoint-e64", "MIT")
    imports("mine", "Apache-2.0")
    imports("whose", UNKNOWN_LICENCE)
    imports("superpoint", "non-commercial research only (Magic Leap's)")
    auto, thorough = Plan.of("auto", None), Plan.of("thorough", None)
    assert thorough.others == (Way("edgepoint-e64"), Way("mine"), *auto.others)
    assert thorough.edges == auto.edges
    assert Plan.of("thorough", "superpoint").cheap == Way("superpoint")


def test_thorough_prefers_features_with_lightglue(imports, tmp_path):
    imports("edgepoint-e64", "MIT")
    imports("xfeat-official", "Apache-2.0", of="xfeat-covis")
    imports("lighterglue", "Apache-2.0", of="lightglue-xfeat-covis", features="xfeat-official")
    first, second, *_ = Plan.of("thorough", None).others
    assert first == Way("xfeat-official", str(tmp_path / "models" / "lighterglue"), 2048)
    assert second == Way("edgepoint-e64")


def test_each_lightglue_of_the_package_is_tried(imports, tmp_path):
    imports("aliked-n16", "BSD-3-Clause", of="xfeat-covis")
    imports("lightglue-aliked", "Apache-2.0", of="lightglue-xfeat-covis", features="aliked-n16")
    auto, thorough = Plan.of("auto", None), Plan.of("thorough", None)
    strong = Way("aliked-n16", str(tmp_path / "models" / "lightglue-aliked"), 2048)
    assert thorough.others == (strong, *auto.others)
    matched = [way.features for way in auto.others if way.matcher != "nearest"]
    assert matched == ["edgepoint-covis", "xfeat-covis"]
