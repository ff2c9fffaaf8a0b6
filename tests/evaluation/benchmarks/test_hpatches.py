import numpy as np
import pytest
from helpers import trees

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks.hpatches import LARGE, precision_of, read_hpatches, recall_of, run

SHIFT = np.array([[1.0, 0, 10], [0, 1, 0], [0, 0, 1]])


def points(*values):
    return np.array(values, np.float32).reshape(-1, 2)


def test_reading_a_tree(tmp_path):
    light, viewpoint = read_hpatches(trees.hpatches(tmp_path, ("i_a", "i_b", "v_a")))
    assert (light.name, light.kind, len(light.pairs)) == ("illumination", "homography", 10)
    assert (viewpoint.name, len(viewpoint.pairs)) == ("viewpoint", 5)
    pair = viewpoint.pairs[3]
    assert (pair.path0.name, pair.path1.name) == ("1.ppm", "5.ppm")
    assert pair.size0 == trees.SIZE
    # A move is the same wherever pixels' centres are.
    assert pair.homography_1from0 == pytest.approx(trees.MOVE)


def test_convention_homographies_are_moved_to_covis_pixels(tmp_path):
    trees.hpatches(tmp_path, ("v_a",))
    np.savetxt(tmp_path / "v_a" / "H_1_2", np.diag([2.0, 2.0, 1]))
    [viewpoint] = read_hpatches(tmp_path)
    # The top-left pixel's centre stays where it is: at (0.5, 0.5).
    assert viewpoint.pairs[0].homography_1from0 @ [0.5, 0.5, 1] == pytest.approx([0.5, 0.5, 1])
    assert viewpoint.pairs[0].homography_1from0 @ [1.5, 0.5, 1] == pytest.approx([2.5, 0.5, 1])


def test_large_sequences_only_when_asked_for(tmp_path):
    large = sorted(LARGE)[0]
    trees.hpatches(tmp_path, (large, "v_wall"))
    assert [each.name for each in read_hpatches(tmp_path)] == ["viewpoint"]
    both = read_hpatches(tmp_path, large=True)
    assert [each.name for each in both] == ["illumination", "viewpoint"]
    assert len(LARGE) == 8


@pytest.mark.parametrize(
    ("points0", "points1", "keypoints0", "keypoints1", "expected"),
    [
        # Two true matches; one found, and a wrong one.
        ([[0, 0], [50, 0]], [[10, 0], [99, 9]], [[0, 0], [50, 0]], [[10, 0], [60, 1], [99, 9]],
         (0.5, 0.5)),
        # Right to 2.9 pixels, not to 3.1.
        ([[0, 0], [50, 0]], [[12.9, 0], [63.1, 0]], [[0, 0], [50, 0]], [[12.9, 0], [63.1, 0]],
         (0.5, 1.0)),
        # A match within 3 pixels, though another keypoint is nearer: right, but not the true one.
        ([[0, 0]], [[12, 0]], [[0, 0]], [[12, 0], [10, 0]], (1.0, 0.0)),
        # Both keypoints of image 0 are near to one of image 1: the nearer is its true match.
        ([[0, 0]], [[10, 0]], [[0, 0], [1, 0]], [[10, 0]], (1.0, 1.0)),
        ([], [], [[0, 0]], [[10, 0]], (0.0, 0.0)),
    ],
)  # fmt: skip
def test_precision_and_recall_by_hand(points0, points1, keypoints0, keypoints1, expected):
    given = [points(*each) for each in (points0, points1, keypoints0, keypoints1)]
    assert (precision_of(*given[:2], SHIFT), recall_of(*given, SHIFT)) == expected


def test_recall_without_true_matches_is_no_number():
    far = points([0, 0]), points([90, 0])
    assert np.isnan(recall_of(*far, *far, SHIFT))


def test_errors_count_both_directions():
    # Image 1 is half as large: 4 pixels of image 0 are 2 there, 3 in the mean, which is no longer
    # below 3; a little less is.
    half = np.diag([0.5, 0.5, 1])
    there = points([0, 0])
    assert precision_of(there, points([2, 0]), half) == 0
    assert precision_of(there, points([1.98, 0]), half) == 1


def test_semi_dense_matches_have_no_recall(tmp_path):
    settings = Settings(
        matcher="semi-dense", protocol="LightGlue", max_keypoints=300, every=5, thresholds=(3.0,)
    )
    rows = run(trees.hpatches(tmp_path, ("v_wall",)), settings, lambda done, total: None)
    [found] = [row.figures for row in rows if row.protocol == "LightGlue, matches"]
    assert found["precision@3px"] > 0
    assert np.isnan(found["recall@3px"])


def test_run_with_both_protocols(tmp_path):
    told = []
    settings = Settings(features="sift", matcher="nearest", seeds=1, thresholds=(2.0,))
    rows = run(trees.hpatches(tmp_path), settings, lambda *done: told.append(done))
    assert told[-1] == (20, 20)
    figures = {(row.protocol, row.part): row.figures for row in rows}
    for part in ("illumination", "viewpoint", "all"):
        assert figures["XFeat, MAGSAC++", part] == {"MHA@3": 100, "MHA@5": 100, "MHA@7": 100}
        assert figures["LightGlue, RANSAC", part]["AUC@5px"] > 90
        assert figures["LightGlue, weighted DLT", part].keys() == {"AUC@1px", "AUC@3px", "AUC@5px"}
        assert figures["LightGlue, matches", part]["precision@3px"] > 80
        assert figures["LightGlue, matches", part]["recall@3px"] > 80


@pytest.mark.parametrize(
    ("breaking", "message"),
    [
        (lambda root: (root / "v_wall" / "3.ppm").unlink(), "3.ppm cannot be read"),
        (lambda root: (root / "v_wall" / "H_1_4").unlink(), "H_1_4: cannot be read"),
        (lambda root: (root / "v_wall" / "H_1_4").write_text("a b"), "not a matrix of numbers"),
        (lambda root: (root / "v_wall" / "H_1_4").write_text("1 2 3"), "3 x 3 matrix"),
        (lambda root: (root / "v_wall" / "H_1_4").write_text("1 2 nan\n" * 3), "finite"),
    ],
)
def test_exception_damaged_tree(tmp_path, breaking, message):
    breaking(trees.hpatches(tmp_path))
    with pytest.raises(ArgumentError, match=message):
        read_hpatches(tmp_path)


def test_exception_no_sequences(tmp_path):
    with pytest.raises(ArgumentError, match="no sequences"):
        read_hpatches(tmp_path)
