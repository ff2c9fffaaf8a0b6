"""What the extractor refuses, and in which words."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from covis import Extractor, Index, load_image
from covis.errors import ArgumentError, BundleError, ImageError
from covis.options import free_memory


@pytest.mark.parametrize("count", [0, -5])
def test_exception_max_keypoints(count):
    with pytest.raises(ArgumentError, match=f"max_keypoints must be 1 or more, not {count}"):
        Extractor("sift", max_keypoints=count)


def test_exception_max_size():
    with pytest.raises(ArgumentError, match="max_size must be 0 or more, not -1"):
        Extractor("sift", max_size=-1)


def test_none_is_left_to_covis_and_0_is_full_size(tmp_path):
    extract = Extractor(None, max_keypoints=None, max_size=None, threshold=None, threads=None)
    assert (extract.model, extract.max_keypoints, extract.max_size) == ("xfeat-covis", 4096, 960)
    assert Extractor("sift", max_size=0).max_size == 0
    assert Index(tmp_path, features="sift")._extractor.options.max_size == 960
    assert Index(tmp_path, features="sift", max_size=0)._extractor.options.max_size == 0
    long = np.random.default_rng(0).integers(0, 256, (30, 2000)).astype(np.uint8)
    whole = Extractor("sift", max_size=0)
    for max_size in (None, 960):
        shrunk = Extractor("sift", max_size=max_size)(long)
        expected = whole(load_image(long, max_size=960))
        np.testing.assert_array_equal(shrunk.keypoints, expected.keypoints)
    assert len(whole(long)) > len(shrunk)


@pytest.mark.parametrize("count", [100.5, "9", True])
def test_exception_wrong_types_in_one_line(count):
    with pytest.raises(ArgumentError, match="max_keypoints must be a whole number, not"):
        Extractor("sift", max_keypoints=count)


def test_exception_semi_dense_sift():
    with pytest.raises(ArgumentError, match="'sift' has no semi-dense features"):
        Extractor("sift", semi_dense=True)


def test_exception_unknown_model(tmp_path, monkeypatch):
    monkeypatch.setenv("COVIS_HOME", str(tmp_path))
    with pytest.raises(
        BundleError, match=r"no model named 'nonsense'; there are: .*\bsift\."
    ) as told:
        Extractor("nonsense")
    # Only what finds features.
    assert "lightglue" not in str(told.value)


def test_exception_bundle_for_something_else(tmp_path):
    about = {"name": "other", "architecture": "lightglue", "graphs": {}}
    about |= {"licence": "-", "source": "-"}
    (tmp_path / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(ArgumentError, match="'other' is a bundle for lightglue, not for features"):
        Extractor(str(tmp_path))


def test_exception_bundle_without_the_graph(tmp_path):
    about = {"name": "half", "architecture": "xfeat", "graphs": {}, "licence": "-", "source": "-"}
    (tmp_path / "bundle.json").write_text(json.dumps(about))
    with pytest.raises(BundleError, match="half: this bundle has no graph to detect"):
        Extractor(str(tmp_path))


def test_exception_images():
    extract = Extractor("sift")
    with pytest.raises(ImageError, match="no such file"):
        extract("nowhere.jpg")
    with pytest.raises(ImageError, match="does not fit"):
        extract(np.zeros((10, 20), np.uint8), mask=np.zeros((20, 10), bool))


def test_found_by_name_and_by_folder(random_bundle, home):
    picture = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
    one = Extractor("random", threshold=0.0)(picture)
    two = Extractor(str(random_bundle.folder), threshold=0.0)(picture)
    assert one.model == two.model == "random"
    np.testing.assert_array_equal(one.keypoints, two.keypoints)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_single_path_is_a_batch_of_one(texture, tmp_path, kind):
    cv2.imwrite(str(tmp_path / "a.png"), texture)
    extract = Extractor("sift", max_keypoints=50)
    (features,) = extract.batch(kind(tmp_path / "a.png"))
    np.testing.assert_array_equal(features.keypoints, extract(tmp_path / "a.png").keypoints)


def test_exception_for_features_that_do_not_fit_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of what sees pictures as a whole; what sees tiles has no limit."""
    extract = Extractor("sift", max_size=0, max_keypoints=10)
    monkeypatch.setattr("covis.features.extractor.LARGE", 100)
    monkeypatch.setattr("covis.features.extractor.free_memory", lambda: 100 * 100 * 210 // 4)
    extract(np.zeros((100, 400, 3), np.uint8))
    monkeypatch.setattr(extract._finds, "BYTES", 210, raising=False)
    extract(np.zeros((49, 49, 3), np.uint8))
    with pytest.raises(ImageError, match=r"take some 0\.0 GB, .* a max_size of 100 or less"):
        extract(np.zeros((100, 400, 3), np.uint8))


def test_free_memory_is_some_of_the_machine() -> None:
    free = free_memory()
    assert free is None or 10**6 < free < 10**14
