"""SPair-71k in its published layout."""

from __future__ import annotations

import json

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.benchmarks import spair
from covis.evaluation.benchmarks.spair import as_published, read_spair

ENTRY = {
    "category": "cat",
    "src_imname": "a.jpg",
    "trg_imname": "b.jpg",
    "src_kps": [[1, 2], [3, 4]],
    "trg_kps": [[5, 6], [7, 8]],
    "trg_bndbox": [10, 20, 40, 30],
    "viewpoint_variation": 1,
}


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "Layout" / "large").mkdir(parents=True)
    (tmp_path / "PairAnnotation" / "test").mkdir(parents=True)
    (tmp_path / "Layout" / "large" / "test.txt").write_text("000001-a-b:cat\n000002-a-b:cat\n")
    for name in ("000001-a-b:cat", "000002-a-b_cat"):
        (tmp_path / "PairAnnotation" / "test" / f"{name}.json").write_text(json.dumps(ENTRY))
    return tmp_path


def test_pairs(tree):
    """With the colon of the published names, and with what stands for it elsewhere."""
    pairs = list(read_spair(tree))
    assert len(pairs) == 2
    pair = pairs[0]
    assert pair.source == tree / "JPEGImages" / "cat" / "a.jpg"
    assert pair.target == tree / "JPEGImages" / "cat" / "b.jpg"
    # Pixels counted from 0: their centres are at .5 here.
    np.testing.assert_allclose(pair.source_points, [[1.5, 2.5], [3.5, 4.5]])
    np.testing.assert_allclose(pair.target_points, [[5.5, 6.5], [7.5, 8.5]])
    assert pair.side == 30
    assert pair.category == "cat"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trg_kps": [[1, 2]]}, "not as many keypoints"),
        ({"src_kps": []}, "must be a list of"),
        ({"src_kps": [[1, 2, 3]]}, "must be a list of"),
        ({"trg_bndbox": [1, 2]}, "a box must be four numbers"),
        ({"trg_bndbox": 7}, "a box must be four numbers"),
        ({"category": None}, "needs category, src_imname"),
    ],
)
def test_exception_annotation(tree, change, message):
    path = tree / "PairAnnotation" / "test" / "000001-a-b:cat.json"
    path.write_text(json.dumps(ENTRY | change))
    with pytest.raises(ArgumentError, match=message):
        list(read_spair(tree))


def test_exception_missing(tree):
    with pytest.raises(ArgumentError, match=r"val.txt: no list of pairs .*SPair-71k.tar.gz"):
        list(read_spair(tree, "val"))
    (tree / "PairAnnotation" / "test" / "000001-a-b:cat.json").unlink()
    with pytest.raises(ArgumentError, match=r"000001-a-b:cat.json: no annotation to read"):
        spair.evaluate(tree, lambda lifts: None)


def test_published_variants_have_a_cell_a_pixel():
    for patch in (8, 16):
        for variant in as_published(patch):
            assert patch / 2 ** (variant.lifts + variant.enlarged) == 1
