"""The files of hloc, read and written."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covis.convert import hloc
from covis.errors import ArgumentError, CovisError

h5py = pytest.importorskip("h5py", reason="hloc's files need h5py: covis[convert]")

NAMES = "db/one.jpg", "query/two.jpg"


def test_features_come_back(made, alike, tmp_path: Path) -> None:
    whole = replace(made(4, shapes=False), global_descriptor=np.full(3, 0.5, np.float32))
    truth = {NAMES[0]: made(), NAMES[1]: whole, "none.jpg": made(0)}
    hloc.write_features(tmp_path / "features.h5", truth)
    found = hloc.read_features(tmp_path / "features.h5", "made-up")
    assert set(found) == set(truth)
    for name, features in found.items():
        alike(features, truth[name])
        np.testing.assert_array_equal(features.scores, truth[name].scores)
        assert features.model == "made-up"
    np.testing.assert_array_equal(found[NAMES[1]].global_descriptor, whole.global_descriptor)
    assert found[NAMES[0]].global_descriptor is None


def test_features_are_laid_out_as_hloc_reads_them(made, tmp_path: Path) -> None:
    truth = made()
    hloc.write_features(tmp_path / "features.h5", {NAMES[0]: truth})
    with h5py.File(tmp_path / "features.h5") as file:
        group = file["db"]["one.jpg"]
        np.testing.assert_array_equal(group["keypoints"][0], [0, 0])
        assert group["descriptors"].shape == (128, 6)
        np.testing.assert_array_equal(group["image_size"], [640, 480])
        assert set(group) == {"keypoints", "scores", "descriptors", "image_size", "scales", "oris"}


def test_features_in_half_precision_as_hloc_writes_them(made, alike, tmp_path: Path) -> None:
    truth = made(shapes=False)
    with h5py.File(tmp_path / "features.h5", "w") as file:
        group = file.create_group(NAMES[0])
        group["keypoints"] = (truth.keypoints - 0.5).astype(np.float16)
        group["keypoints"].attrs["uncertainty"] = 1.5
        group["descriptors"] = truth.descriptors.T.astype(np.float16)
        group["image_size"] = np.array([640, 480])
    found = hloc.read_features(tmp_path / "features.h5")[NAMES[0]]
    alike(found, truth, tolerance=0.3)
    np.testing.assert_array_equal(found.scores, 1)
    np.testing.assert_array_equal(found.keypoints[0], [0.5, 0.5])


def test_matches_come_back_in_either_order(two, matched, same, tmp_path: Path) -> None:
    features = dict(zip(NAMES, two, strict=True))
    hloc.write_matches(tmp_path / "matches.h5", {NAMES: matched}, features)
    found = hloc.read_matches(tmp_path / "matches.h5", [NAMES], features)
    same(found[NAMES], matched)
    turned = hloc.read_matches(tmp_path / "matches.h5", [NAMES[::-1]], features)[NAMES[::-1]]
    np.testing.assert_array_equal(turned.indices, matched.indices[:, ::-1])
    np.testing.assert_array_equal(turned.points0, matched.points1)


def test_matches_are_laid_out_as_hloc_reads_them(two, matched, tmp_path: Path) -> None:
    path = tmp_path / "matches.h5"
    hloc.write_matches(path, {NAMES: matched}, dict(zip(NAMES, two, strict=True)))
    with h5py.File(path) as file:
        group = file["db-one.jpg/query-two.jpg"]
        np.testing.assert_array_equal(group["matches0"], [4, -1, 0, -1, -1, 1])
        np.testing.assert_allclose(group["matching_scores0"], [0.5, 0, 0.9, 0, 0, 0.25])


def test_matches_of_older_files(two, matched, same, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "matches.h5", "w") as file:
        group = file.create_group("db-one.jpg_query-two.jpg")
        group["matches0"] = np.array([4, -1, 0, -1, -1, 1], np.int16)
        group["matching_scores0"] = np.array([0.5, 0, 0.9, 0, 0, 0.25], np.float32)
    features = dict(zip(NAMES, two, strict=True))
    same(hloc.read_matches(tmp_path / "matches.h5", [NAMES], features)[NAMES], matched)


def test_pairs_come_back(tmp_path: Path) -> None:
    pairs = [NAMES, ("db/one.jpg", "Zürich.jpg")]
    hloc.write_pairs(tmp_path / "pairs.txt", pairs)
    first = (tmp_path / "pairs.txt").read_text("utf-8").splitlines()[0]
    assert first == "db/one.jpg query/two.jpg"
    assert hloc.read_pairs(tmp_path / "pairs.txt") == pairs


def test_exception_for_a_name_that_does_not_fit_on_a_line(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match=r"'my photo\.jpg'"):
        hloc.write_pairs(tmp_path / "pairs.txt", [("a.jpg", "my photo.jpg")])
    (tmp_path / "pairs.txt").write_text("a.jpg\n")
    with pytest.raises(CovisError, match=r"pairs\.txt: 'a.jpg' is no pair"):
        hloc.read_pairs(tmp_path / "pairs.txt")


@pytest.mark.parametrize("read", [hloc.read_features, hloc.read_pairs])
def test_exception_for_a_file_that_is_not_there(read, tmp_path: Path) -> None:
    with pytest.raises(CovisError, match=r"a\.h5: no such file"):
        read(tmp_path / "a.h5")


def test_exception_for_files_of_another_kind(two, tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("hello")
    with pytest.raises(CovisError, match=r"a\.h5 is damaged"):
        hloc.read_features(tmp_path / "a.h5")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["one/global_descriptor"] = np.zeros(3)
    with pytest.raises(CovisError, match=r"b\.h5 holds no keypoints"):
        hloc.read_features(tmp_path / "b.h5")
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["one/keypoints"] = np.zeros((3, 2))
        file["one/descriptors"] = np.zeros((8, 4))
        file["one/image_size"] = np.array([640, 480])
    with pytest.raises(CovisError, match=r"c\.h5: one: descriptors"):
        hloc.read_features(tmp_path / "c.h5")


def test_exception_for_matches_that_do_not_fit(two, matched, tmp_path: Path) -> None:
    path, features = tmp_path / "matches.h5", dict(zip(NAMES, two, strict=True))
    with pytest.raises(ArgumentError, match=r"no features of query/two\.jpg"):
        hloc.read_matches(_saved(path, matched, features), [NAMES], {NAMES[0]: two[0]})
    with pytest.raises(ArgumentError, match="no matches of"):
        hloc.read_matches(path, [(NAMES[0], NAMES[0])], features)
    with pytest.raises(ArgumentError, match="no indices"):
        hloc.write_matches(path, {NAMES: replace(matched, indices=None)}, features)
    alike = {NAMES: matched, ("db-one.jpg", "query/two.jpg"): matched}
    with pytest.raises(ArgumentError, match="calls another pair"):
        hloc.write_matches(path, alike, features | {"db-one.jpg": two[0]})
    assert hloc.read_matches(path, [NAMES], features)  # The failed writes left it alone.


def _saved(path: Path, matched, features) -> Path:
    hloc.write_matches(path, {NAMES: matched}, features)
    return path


def test_exception_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(CovisError, match=r"need h5py: .*\[convert\]"):
        hloc.read_features(tmp_path / "a.h5")
