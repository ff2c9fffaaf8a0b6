"""PF-WILLOW from both of its layouts; PCK of transferred keypoints by hand."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from covis.dense import DenseFeatures
from covis.errors import ArgumentError
from covis.evaluation.benchmarks import pf_willow
from covis.evaluation.benchmarks.pf_willow import read_willow
from covis.evaluation.metrics.keypoint_transfer import Cache, KeypointPair, score_pairs

POINTS = np.stack([np.arange(1, 11), np.arange(2, 22, 2)]).astype(float)  # x; y


def touch(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))


@pytest.fixture
def tree(tmp_path):
    savemat = pytest.importorskip("scipy.io", reason=".mat files need SciPy").savemat
    for category, count in (("car(G)", 3), ("duck(S)", 2)):
        for i in range(count):
            touch(tmp_path / category / f"{i}.png")
            savemat(tmp_path / category / f"{i}.mat", {"pts_coord": POINTS + 10 * i})
    return tmp_path


def test_folders_of_mat_files(tree):
    pairs = list(read_willow(tree))
    assert len(pairs) == 3 * 2 + 2 * 1
    first = pairs[0]
    assert (first.source.name, first.target.name, first.category) == ("0.png", "1.png", "car(G)")
    # MATLAB's first pixel is 1, and its centre is at 0.5 here.
    np.testing.assert_allclose(first.source_points[:2], [[0.5, 1.5], [1.5, 3.5]])
    np.testing.assert_allclose(first.target_points[0], [10.5, 11.5])
    assert first.side == 18


@pytest.mark.parametrize("prefix", ["", "PF-dataset/"])
def test_list_of_pairs(tmp_path, prefix):
    for name in "ab":
        touch(tmp_path / "car(G)" / f"{name}.png")
    numbers = [*POINTS[0], *POINTS[1], *(POINTS[0] + 5), *(POINTS[1] + 7)]
    row = [f"{prefix}car(G)/a.png", f"{prefix}car(G)/b.png", *map(str, numbers)]
    (tmp_path / "test_pairs_pf.csv").write_text("imageA,imageB,XA1,...\n" + ",".join(row) + "\n")
    (pair,) = read_willow(tmp_path)
    assert pair.source == tmp_path / "car(G)" / "a.png"
    np.testing.assert_allclose(pair.source_points, POINTS.T - 0.5)
    np.testing.assert_allclose(pair.target_points, POINTS.T + np.array((4.5, 6.5)))


def test_exceptions(tree, tmp_path):
    with pytest.raises(ArgumentError, match=r"holds no PF-WILLOW. .*PF-dataset.zip"):
        list(read_willow(tmp_path / "nothing"))
    (tree / "duck(S)" / "1.png").unlink()
    with pytest.raises(ArgumentError, match=r"1.mat: no image of that name"):
        list(read_willow(tree))
    (tree / "car(G)" / "0.mat").write_bytes(b"no matrix")
    with pytest.raises(ArgumentError, match=r"0.mat: holds no keypoints"):
        list(read_willow(tree))
    (tree / "test_pairs_pf.csv").write_text("header\ncar(G)/0.png,car(G)/1.png,1,2\n")
    with pytest.raises(ArgumentError, match="line 2: not two names and 40 numbers"):
        list(read_willow(tree))
    numbers = ",".join(["1"] * 40)
    (tree / "test_pairs_pf.csv").write_text(f"header\nx/0.png,car(G)/1.png,{numbers}\n")
    with pytest.raises(ArgumentError, match=r"line 2: the image .*0.png is not there"):
        list(read_willow(tree))


def one_hot(path):
    """1 x 4 cells of 10 pixels; the cells of "b" come in the opposite order."""
    cells = np.eye(4, dtype=np.float32)[None]
    cells = cells[:, ::-1] if path.name == "b" else cells
    return DenseFeatures(np.ascontiguousarray(cells), (10.0, 10.0), 40, 10, "-")


def test_scores_by_hand():
    def pair(points, truth, side, category):
        arrays = (np.array(each, np.float32) for each in (points, truth))
        return KeypointPair(Path("a"), Path("b"), *arrays, side, category)

    # The first cell's middle (5, 5) goes to (35, 5), the second's (15, 5) to (25, 5).
    pairs = [
        # Off by 0 and 4 of 40 pixels: the second is right from 0.1 on.
        pair([[5, 5], [15, 5]], [[35, 5], [25, 9]], 40, "cat"),
        # Off by 6 of 100: right from 0.1 on.
        pair([[5, 5]], [[35, 11]], 100, "dog"),
        # Nowhere near.
        pair([[5, 5]], [[5, 5]], 40, "cat"),
    ]
    scores = score_pairs(pairs, one_hot)
    assert scores == pytest.approx(
        {
            "PCK@0.05 image": (1 / 2 + 0 + 0) / 3,
            "PCK@0.1 image": 2 / 3,
            "PCK@0.15 image": 2 / 3,
            "PCK@0.05 point": 1 / 4,
            "PCK@0.1 point": 3 / 4,
            "PCK@0.15 point": 3 / 4,
            "PCK@0.05 category": (1 / 3 + 0) / 2,
            "PCK@0.1 category": (2 / 3 + 1) / 2,
            "PCK@0.15 category": (2 / 3 + 1) / 2,
        }
    )


def test_cache_forgets_the_oldest():
    asked = []

    def describe(path):
        asked.append(path.name)
        return one_hot(path)

    cache = Cache(describe, limit=2 * 64)
    for name in "abaca":
        cache(Path(name))
    # c pushes out b, which was asked for longest ago.
    assert asked == ["a", "b", "c"]
    cache(Path("b"))
    assert asked == ["a", "b", "c", "b"]


def test_evaluate(tree):
    def model(lifts):
        def describe(image):
            n = 4 * 2**lifts
            values = np.random.default_rng(0).standard_normal((n, n, 4)).astype(np.float32)
            return DenseFeatures(values, (8 / n, 8 / n), 8, 8, "-")

        return describe

    table = pf_willow.evaluate(tree, model, every=3)
    assert table.items == 3
    assert list(table.rows[0].scores) == ["PCK@0.05", "PCK@0.1", "PCK@0.15"]
