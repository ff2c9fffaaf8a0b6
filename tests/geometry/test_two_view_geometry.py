import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from covis.errors import ArgumentError
from covis.geometry import Camera, default_threshold, estimate_geometry

SIZE0, SIZE1 = (640, 480), (1920, 1080)
CAMERA0, CAMERA1 = Camera(700, 710, 321, 242), Camera(1500, 1490, 955, 541)
KINDS = ("homography", "fundamental", "essential")
HOMOGRAPHY = np.array([[2.2, 0.05, 60], [-0.03, 2.0, 20], [1e-4, -5e-5, 1]])


def apply(matrix, points):
    mapped = np.c_[points, np.ones(len(points))] @ matrix.T
    return mapped[:, :2] / mapped[:, 2:]


def uniform(rng, count, size):
    return rng.uniform(0, size, (count, 2))


def plane(count=200, outliers=100, noise=0.3, seed=0):
    """Matches of a plane: the first `count - outliers` are right, the rest arbitrary."""
    rng = np.random.default_rng(seed)
    points0 = uniform(rng, count, SIZE0)
    points1 = apply(HOMOGRAPHY, points0) + rng.normal(0, noise, (count, 2))
    points1[count - outliers :] = uniform(rng, outliers, SIZE1)
    return points0.astype(np.float32), points1.astype(np.float32)


def scene(count=300, outliers=100, noise=0.3, seed=0):
    """Matches of points in space, and the camera's motion: (points0, points1, R, t)."""
    rng = np.random.default_rng(seed)
    rotation = cv2.Rodrigues(np.array([0.1, -0.3, 0.05]))[0]
    translation = np.array([1, 0.2, 0.1]) / np.linalg.norm([1, 0.2, 0.1])
    space = np.c_[rng.uniform(-1.5, 1.5, (count, 2)), rng.uniform(4, 9, count)]
    points0 = apply(CAMERA0.matrix, space[:, :2] / space[:, 2:])
    moved = space @ rotation.T + translation
    points1 = apply(CAMERA1.matrix, moved[:, :2] / moved[:, 2:])
    points0 += rng.normal(0, noise, points0.shape)
    points1 += rng.normal(0, noise, points1.shape)
    points1[count - outliers :] = uniform(rng, outliers, SIZE1)
    return points0.astype(np.float32), points1.astype(np.float32), rotation, translation


def estimate(points0, points1, kind, **options):
    options = {"size0": SIZE0, "size1": SIZE1, "camera0": CAMERA0, "camera1": CAMERA1} | options
    return estimate_geometry(points0, points1, kind, **options)


def assert_same(a, b):
    np.testing.assert_array_equal(a.matrix, b.matrix)
    np.testing.assert_array_equal(a.inliers, b.inliers)
    assert a.note == b.note


def test_homography_of_a_plane_with_half_the_matches_wrong():
    points0, points1 = plane()
    found = estimate(points0, points1, "homography")
    assert found.inliers.dtype == bool
    assert found.inliers[:100].all()
    assert found.inliers[100:].sum() <= 2
    assert found.matrix[2, 2] == 1
    corners = np.array([[0, 0], [640, 0], [640, 480], [0, 480]])
    errors = np.linalg.norm(apply(found.matrix, corners) - apply(HOMOGRAPHY, corners), axis=1)
    assert errors.max() < 0.7
    assert found.note == ""


def test_convention_fundamental_matrix_takes_points_of_image_0_on_the_right():
    points0, points1, _, _ = scene(noise=0, outliers=0)
    found = estimate(points0, points1, "fundamental")
    assert found.inliers.all()
    lines = np.c_[points0, np.ones(300)] @ found.matrix.T
    distance = np.abs((lines * np.c_[points1, np.ones(300)]).sum(1)) / np.hypot(*lines[:, :2].T)
    assert distance.max() < 0.01
    assert abs(np.linalg.det(found.matrix / np.linalg.norm(found.matrix))) < 1e-9


def test_fundamental_matrix_with_a_third_of_the_matches_wrong():
    points0, points1, _, _ = scene()
    found = estimate(points0, points1, "fundamental")
    assert found.inliers[:200].mean() > 0.95
    assert found.inliers[200:].mean() < 0.05


@pytest.mark.parametrize(("kind", "made"), [("homography", plane), ("fundamental", scene)])
def test_a_mirrored_picture_has_the_model_of_its_pixels(kind, made):
    """The same matches agree, and the model is that of image 1 turned over."""
    points0, points1, *_ = made()
    over = np.array([[-1, 0, SIZE1[0]], [0, 1, 0], [0, 0, 1.0]])
    usual = estimate(points0, points1, kind)
    found = estimate(points0, apply(over, points1), kind, mirrored=True)
    np.testing.assert_array_equal(found.inliers, usual.inliers)
    expected = over @ usual.matrix if kind == "homography" else over.T @ usual.matrix
    ratio = found.matrix / np.linalg.norm(found.matrix)
    expected = expected / np.linalg.norm(expected)
    np.testing.assert_allclose(ratio * np.sign((ratio * expected).sum()), expected, atol=1e-9)


def test_a_mirrored_picture_has_no_pose():
    points0, points1, *_ = scene()
    over = np.array([[-1, 0, SIZE1[0]], [0, 1, 0], [0, 0, 1.0]])
    found = estimate(points0, apply(over, points1), "essential", mirrored=True)
    assert (found.matrix, found.inliers.sum()) == (None, 0)
    assert "image 1 is mirrored" in found.note


def test_convention_essential_matrix_is_the_pose_of_camera_1_from_camera_0():
    points0, points1, rotation, translation = scene()
    found = estimate(points0, points1, "essential")
    assert found.inliers[:200].mean() > 0.98
    assert found.inliers[200:].mean() < 0.05
    angle = math.degrees(np.linalg.norm(cv2.Rodrigues(found.rotation_1from0.T @ rotation)[0]))
    assert angle < 0.2
    assert math.degrees(math.acos(min(1, found.translation_1from0 @ translation))) < 1
    assert np.linalg.norm(found.translation_1from0) == pytest.approx(1)
    x, y, z = found.translation_1from0
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    np.testing.assert_allclose(found.matrix, cross @ found.rotation_1from0, atol=1e-12)
    assert found.note == ""


def test_kind_none_takes_every_match():
    points0, points1 = plane()
    found = estimate(points0, points1, "none")
    assert found.matrix is None
    assert found.inliers.all()
    assert len(estimate(points0[:0], points1[:0], "none").inliers) == 0


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.integers(-800, 800)] * 4))
def test_convention_moved_points_give_the_moved_homography(quarters):
    points0, points1 = plane(noise=0.5)
    shift0, shift1 = np.float32(quarters[:2]) / 4, np.float32(quarters[2:]) / 4
    still = estimate(points0, points1, "homography")
    moved = estimate(points0 + shift0, points1 + shift1, "homography")
    expected = apply(still.matrix, points0) + shift1
    np.testing.assert_allclose(apply(moved.matrix, points0 + shift0), expected, atol=0.02)
    assert (still.inliers == moved.inliers).mean() > 0.98


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 7, 2**64 - 1])
def test_same_input_same_output(kind, seed):
    points0, points1, _, _ = scene(count=150, outliers=60)
    scores = np.linspace(1, 0, 150)
    for options in ({}, {"scores": scores}):
        first = estimate(points0, points1, kind, seed=seed, **options)
        assert_same(first, estimate(points0, points1, kind, seed=seed, **options))


def test_single_and_double_precision_agree():
    points0, points1 = plane()
    assert_same(
        estimate(points0, points1, "homography"),
        estimate(points0.astype(np.float64), points1.astype(np.float64), "homography"),
    )


def test_scores_find_what_few_matches_support_and_keep_the_order():
    points0, points1 = plane(count=2000, outliers=1960)
    right = np.arange(2000) < 40
    order = np.random.default_rng(1).permutation(2000)
    scores = np.where(right, 0.9, 0.1)[order]
    found = estimate(points0[order], points1[order], "homography", scores=scores)
    assert found.inliers[right[order]].all()
    assert found.inliers.sum() < 45
    # The order of the matches does not matter where the scores differ.
    scores = np.linspace(1, 0, 2000)
    plain = estimate(points0, points1, "homography", scores=scores)
    mixed = estimate(points0[order], points1[order], "homography", scores=scores[order])
    np.testing.assert_array_equal(plain.matrix, mixed.matrix)
    np.testing.assert_array_equal(plain.inliers[order], mixed.inliers)


@pytest.mark.parametrize(
    ("kind", "needs", "name"),
    [
        ("homography", 4, "a homography"),
        ("fundamental", 7, "a fundamental matrix"),
        ("essential", 5, "an essential matrix"),
    ],
)
def test_not_enough_matches(kind, needs, name):
    points0, points1, _, _ = scene(outliers=0)
    for count in range(needs):
        found = estimate(points0[:count], points1[:count], kind)
        are = "there is 1" if count == 1 else f"there are {count}"
        assert found.note == f"not enough matches: {name} needs {needs}, {are}"
        assert found.matrix is None
        assert found.inliers.tolist() == [False] * count
        assert found.rotation_1from0 is None


def test_as_many_matches_as_needed_leave_none_to_check():
    points0, points1 = plane(outliers=0, noise=0)
    found = estimate(points0[:4], points1[:4], "homography")
    np.testing.assert_allclose(apply(found.matrix, points0), points1, atol=0.1)
    assert found.inliers.all()
    assert found.note == "4 matches determine a homography: none is left to check it"


@pytest.mark.parametrize("kind", KINDS)
def test_repeated_matches_count_once(kind):
    points0, points1, _, _ = scene(outliers=0)
    repeated = np.repeat(np.arange(3), 20)
    found = estimate(points0[repeated], points1[repeated], kind)
    assert found.matrix is None
    assert found.note.endswith("at different places, there are 3")
    found = estimate(points0, np.full_like(points1, 5), kind)
    assert found.note.endswith("at different places, there is 1")
    assert not found.inliers.any()


@pytest.mark.parametrize("kind", KINDS)
def test_matches_on_one_line_are_degenerate(kind):
    along = np.linspace(10, 400, 100)
    points0 = np.c_[along, along / 2 + 7]
    found = estimate(points0, points0 + np.float32([4, 5]), kind)
    assert found.matrix is None
    assert not found.inliers.any()
    assert "degenerate" in found.note or "no model" in found.note


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("count", [30, 400])
def test_unrelated_matches_give_no_model(kind, count):
    rng = np.random.default_rng(3)
    found = estimate(uniform(rng, count, SIZE0), uniform(rng, count, SIZE1), kind)
    assert found.matrix is None
    assert not found.inliers.any()
    assert "too weak" in found.note


@pytest.mark.parametrize("kind", KINDS)
def test_identical_images_give_a_model(kind):
    points0, _ = plane()
    found = estimate(points0, points0, kind, size1=SIZE0, camera1=CAMERA0)
    assert found.inliers.all()
    assert found.matrix is not None


def test_note_says_which_focal_length_was_assumed_and_where():
    points0, points1, _, _ = scene()
    found = estimate(points0, points1, "essential", camera0=None, camera1=None, focal1=1500)
    assert found.note == (
        "image 0: focal length assumed as 1.2 times the longer side, 768 px; "
        "image 1: focal length 1500 px as given, principal point in the middle"
    )
    assert found.matrix is not None
    one = estimate(points0, points1, "essential", camera1=None)
    assert "image 0" not in one.note
    assert "2304 px" in one.note


def test_a_guessed_focal_length_is_that_camera():
    points0, points1, _, _ = scene()
    guessed = estimate(points0, points1, "essential", camera0=None, focal0=705)
    given_ = estimate(points0, points1, "essential", camera0=Camera(705, 705, 320, 240))
    np.testing.assert_array_equal(guessed.matrix, given_.matrix)


def test_a_pair_behaves_alike_at_any_resolution():
    points0, points1 = plane(noise=1.5)
    small = estimate(points0, points1, "homography")
    large = estimate(
        points0 * 4,
        points1 * 4,
        "homography",
        size0=(4 * SIZE0[0], 4 * SIZE0[1]),
        size1=(4 * SIZE1[0], 4 * SIZE1[1]),
    )
    np.testing.assert_array_equal(small.inliers, large.inliers)


def test_default_threshold_grows_with_the_picture_and_has_a_floor():
    assert default_threshold("homography", (9, 9), (100, 80)) == 2
    large = default_threshold("homography", (9, 9), (3000, 4000))
    assert large == 2 * default_threshold("homography", (9, 9), (2000, 1500))
    assert default_threshold("essential", (4000, 3000), (100, 80)) == 1
    assert default_threshold("fundamental", (4000, 3000), (3000, 6400)) == pytest.approx(
        2 * default_threshold("fundamental", (2000, 1500), (3000, 6400))
    )


def test_threshold_is_the_distance_in_image_1():
    points0, points1 = plane(outliers=0, noise=2)
    found = estimate(points0, points1, "homography", threshold=3)
    distance = np.linalg.norm(apply(found.matrix, points0) - points1, axis=1)
    assert distance[found.inliers].max() < 3.3
    assert distance[~found.inliers].min() > 2.7


POINTS = np.zeros((9, 2), np.float32)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "affine"}, "No geometry of kind 'affine'; there are homography"),
        ({"points0": np.zeros((9, 3))}, r"points0 must be an \(N, 2\) array, not \(9, 3\)"),
        ({"points1": np.zeros(9)}, r"points1 must be an \(N, 2\) array"),
        ({"points1": [["a", "b"]]}, r"points1 must be an \(N, 2\) array of numbers"),
        ({"points1": np.zeros((8, 2))}, "there are 9 and 8"),
        ({"points0": np.r_[POINTS[:8], [[1, np.nan]]]}, "points0 must be finite, but row 8"),
        ({"points1": np.full((9, 2), np.inf)}, "points1 must be finite, but row 0"),
        ({"size0": (0, 480)}, "size0 must be between 1 and"),
        ({"size1": (640, 480, 3)}, r"size1 must be \(width, height\)"),
        ({"size1": (640.5, 480)}, "size1 must be a whole number"),
        ({"threshold": 0}, "threshold must be a positive"),
        ({"threshold": -1.0}, "threshold must be a positive"),
        ({"threshold": math.nan}, "threshold must be a positive"),
        ({"threshold": math.inf}, "threshold must be a positive"),
        ({"seed": -1}, "seed must be between 0 and"),
        ({"seed": 2**64}, "seed must be between 0 and"),
        ({"seed": 1.5}, "seed must be a whole number"),
        ({"max_iterations": 0}, "max_iterations must be between 1"),
        ({"focal0": 0.0}, "focal0 must be a positive"),
        ({"focal1": math.inf}, "focal1 must be a positive"),
        ({"scores": np.ones(8)}, r"scores must be one a match, \(9,\), not \(8,\)"),
        ({"scores": np.full(9, np.nan)}, "some are NaN"),
        ({"scores": ["a"] * 9}, "array of numbers"),
    ],
)
@pytest.mark.parametrize("kind", [*KINDS, "none"])
def test_exception_arguments(kind, change, message):
    arguments = {
        "points0": POINTS,
        "points1": POINTS,
        "kind": kind,
        "size0": (640, 480),
        "size1": (640, 480),
    }
    with pytest.raises(ArgumentError, match=message):
        estimate_geometry(**(arguments | change))


def test_intrinsics_may_be_a_matrix():
    points0, points1, *_ = scene()
    given = {"camera0": CAMERA0.matrix, "camera1": CAMERA1.matrix.tolist()}
    assert_same(
        estimate(points0, points1, "essential", **given), estimate(points0, points1, "essential")
    )
    with pytest.raises(ArgumentError, match="3 x 3"):
        estimate(points0, points1, "essential", camera0="wide")


@pytest.mark.parametrize("focal", [1.0, 65535.0])
def test_a_focal_length_that_no_lens_has_is_ignored(focal):
    points0, points1, *_ = scene()
    unknown = estimate(points0, points1, "essential", camera0=None)
    found = estimate(points0, points1, "essential", camera0=None, focal0=focal)
    np.testing.assert_array_equal(found.matrix, unknown.matrix)
    assert found.note == f"image 0: {focal:.0f} px cannot be; {unknown.note}"
