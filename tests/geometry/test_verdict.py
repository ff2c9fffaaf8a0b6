"""The verdict: what it goes by, and that it never claims more than the evidence."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covis.api import verify
from covis.errors import CovisError
from covis.geometry.two_view import log10_false_alarms
from covis.geometry.verdict import Calibration, Evidence, find_evidence, judge
from covis.types import Features, Geometry, Matches

SIZE0, SIZE1 = (640, 480), (800, 800)
KINDS = ("homography", "fundamental", "essential")
SHIPPED = Calibration.read()
PLANE = np.array([[1.1, 0.05, 10], [-0.03, 1.3, 20], [1e-4, -5e-5, 1]])


def features(count, size):
    return Features(
        np.zeros((count, 2), np.float32), np.ones(count, np.float32),
        np.zeros((count, 4), np.float32), *size, model="made up",
    )  # fmt: skip


def matches(points0, points1):
    return Matches(
        points0.astype(np.float32), points1.astype(np.float32), np.ones(len(points0), np.float32)
    )


def mapped(points):
    moved = np.c_[points, np.ones(len(points))] @ PLANE.T
    return moved[:, :2] / moved[:, 2:]


def pair(right, wrong, seed=0):
    """Matches of a plane, of which so many are right, and the rest arbitrary."""
    rng = np.random.default_rng(seed)
    points0 = rng.uniform(0, SIZE0, (right + wrong, 2))
    points1 = mapped(points0) + rng.normal(0, 0.3, points0.shape)
    points1[right:] = rng.uniform(0, SIZE1, (wrong, 2))
    return matches(points0, points1)


def verdict(found, kind="homography", keypoints=2000):
    return verify(found, features(keypoints, SIZE0), features(keypoints + 50, SIZE1), kind).verdict


@pytest.mark.parametrize("kind", KINDS)
def test_many_inliers_are_the_same(kind):
    judged = verdict(pair(150, 150), kind)
    assert judged.label == "same"
    assert judged.probability >= SHIPPED.same


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(2))
def test_arbitrary_matches_of_many_keypoints_are_different(kind, seed):
    judged = verdict(pair(0, 300, seed), kind)
    assert judged.label == "different"
    assert judged.probability <= SHIPPED.different


@pytest.mark.parametrize("kind", KINDS)
def test_without_keypoints_nobody_knows(kind):
    judged = verdict(pair(0, 0), kind, keypoints=0)
    assert (judged.label, judged.probability) == ("unsure", 0.5)


@pytest.mark.parametrize("kind", KINDS)
def test_no_model_of_few_keypoints_is_unsure(kind):
    judged = verdict(pair(0, 3), kind, keypoints=20)
    assert judged.label == "unsure"
    assert judged.probability < 0.5


def test_as_many_matches_as_determine_a_model_say_little():
    found = pair(4, 0)
    judged = verify(found, features(4, SIZE0), features(4, SIZE1), "homography")
    assert judged.geometry.inliers.all()
    assert judged.verdict.label == "unsure"


def test_a_small_patch_in_common_is_not_yet_the_same():
    whole = pair(15, 20)
    near = matches(whole.points0 / 10 + 100, whole.points1 / 10 + 100)
    assert verdict(whole).label == "same"
    assert verdict(near).label == "unsure"


def test_bare_matches_have_no_verdict():
    assert verdict(pair(100, 0), "none") is None
    assert judge(pair(100, 0), features(100, SIZE0), features(100, SIZE1)) is None


def evidence_of(points0, points1, inliers, keypoints=(500, 400)):
    found = replace(
        matches(np.array(points0, float), np.array(points1, float)),
        geometry=Geometry("homography", np.eye(3), np.array(inliers)),
    )
    return find_evidence(found, features(keypoints[0], SIZE0), features(keypoints[1], SIZE1))


def test_evidence_by_hand():
    # Image 0: 80 x 60 pixels a cell; image 1: 100 x 100. The last match is no inlier.
    points0 = [[1, 1], [79, 59], [81, 59], [640, 480], [639, 479], [300, 300]]
    points1 = [[0, 0], [150, 50], [250, 50], [799, 799], [350, 50], [400, 400]]
    found = evidence_of(points0, points1, [True] * 5 + [False])
    assert found.keypoints == 400
    assert found.model
    assert found.density == 5 / (400 + 100)
    assert found.coverage == 3 / 64
    threshold = 800 / 250
    chance = math.pi * threshold**2 / 640_000
    alarms = math.log10((6 - 4) * math.comb(6, 5) * math.comb(5, 4) * chance)
    assert found.surprise == pytest.approx(-alarms)


GRID_POINTS = np.array([[x, y] for x in range(50, 640, 60) for y in range(50, 480, 60)], float)
ALL = [True] * len(GRID_POINTS)


def test_coherence_of_a_turned_and_shrunk_picture_is_whole():
    turned = GRID_POINTS @ [[0.0, 0.6], [-0.6, 0.0]] + [400, 10]
    assert evidence_of(GRID_POINTS, turned, ALL).coherence == 1


def test_coherence_of_arbitrary_places_is_small():
    anywhere = np.random.default_rng(0).uniform(0, SIZE1, GRID_POINTS.shape)
    assert evidence_of(GRID_POINTS, anywhere, ALL).coherence < 0.25


def test_matches_that_slid_along_their_epipolar_lines_are_not_coherent():
    # Rows are epipolar lines here: each match lies on its own, but anywhere on it.
    slid = GRID_POINTS.copy()
    slid[:, 0] = np.random.default_rng(0).uniform(0, SIZE1[0], len(slid))
    assert evidence_of(GRID_POINTS, slid, ALL).coherence < 0.5


def test_coherence_by_hand():
    # The first four are turned by a quarter; the last stayed beside none of them.
    points0 = [[100, 100], [200, 100], [100, 200], [200, 200], [400, 400]]
    points1 = [[400, 100], [400, 200], [300, 100], [300, 200], [700, 10]]
    # Of 20 ordered pairs the 12 among the first four moved alike.
    assert evidence_of(points0, points1, [True] * 5).coherence == 12 / 20


def test_a_knot_of_neighbours_is_no_coherence():
    knot = np.array([[100 + i, 100] for i in range(12)], float)
    assert evidence_of(knot, knot, [True] * 12).coherence == 0
    spread = [[x, y] for x in (50, 210, 370, 530) for y in (50, 210, 370)]
    assert evidence_of(spread, knot, [True] * 12).coherence == 0


def test_coverage_is_that_of_the_picture_with_less():
    grid = [[x, y] for x in range(50, 640, 100) for y in range(50, 480, 100)]
    here = [[401 + i / 10, 401 + i / 10] for i in range(len(grid))]
    inliers = [True] * len(grid)
    spread = evidence_of(grid, grid, inliers).coverage
    assert evidence_of(grid, here, inliers).coverage == 1 / 64 < spread
    assert evidence_of(here, grid, inliers).coverage == 1 / 64


@pytest.mark.parametrize("kind", KINDS)
def test_more_inliers_surprise_more_and_none_to_check_not_at_all(kind):
    sizes = (SIZE0, SIZE1)
    alarms = [log10_false_alarms(kind, 300, count, 2.0, *sizes) for count in (30, 60, 120)]
    assert alarms == sorted(alarms, reverse=True)
    assert log10_false_alarms(kind, 4, 4, 2.0, *sizes) == 0


AMOUNT = st.floats(0, 1000)
SHARE = st.floats(0.001, 1)


@given(AMOUNT, AMOUNT, SHARE, SHARE, SHARE, SHARE, SHARE, SHARE)
def test_more_evidence_never_makes_a_pair_less_likely(a, b, c, d, e, f, g, h):
    less = Evidence(1000, True, min(a, b), min(c, d), min(e, f), min(g, h))
    more = Evidence(1000, True, max(a, b), max(c, d), max(e, f), max(g, h))
    assert SHIPPED.probability(less) <= SHIPPED.probability(more)


@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_more_keypoints_without_a_model_never_make_a_pair_more_likely(a, b):
    few, many = Evidence(min(a, b)), Evidence(max(a, b))
    assert 0.5 >= SHIPPED.probability(few) >= SHIPPED.probability(many) >= SHIPPED.least


def test_no_probability_is_certain():
    assert SHIPPED.probability(Evidence(10**4, True, 1e9, 1.0, 1.0, 1.0)) == 1 - SHIPPED.least < 1


def test_labels_begin_where_they_say():
    calibration = Calibration((0, 1, 1), 1, same=0.9, different=0.2, least=0.01)
    labels = [calibration.label(p) for p in (0.9, 0.89, 0.21, 0.2)]
    assert labels == ["same", "unsure", "unsure", "different"]


def test_the_shipped_calibration_leaves_room_for_doubt():
    assert 0 < SHIPPED.least < SHIPPED.different < 0.5 < SHIPPED.same < 1 - SHIPPED.least
    assert min(SHIPPED.with_model[1:]) >= 0
    assert SHIPPED.without_model > 0


THREE = json.dumps(
    {"with_model": [1, 2, 3], "without_model": 1, "same": 0.9, "different": 0.1, "least": 0.01}
)


@pytest.mark.parametrize(
    "content", [None, "", "[]", "{}", json.dumps({"with_model": 1}), '{"with_model": ["a"]}', THREE]
)
def test_exception_for_a_calibration_that_is_none(content, tmp_path):
    path = tmp_path / "verdict.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(CovisError, match=r"verdict\.json"):
        Calibration.read(path)
