"""As much effort as a pair needs, from the package alone."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from helpers.textures import draw_texture
from helpers.warps import warp_picture, warp_points

import covis
from covis.api import verify
from covis.effort.attempts import Candidate
from covis.effort.escalate import Escalation
from covis.effort.pictures import Pictures, Tools
from covis.effort.plan import Plan, Way
from covis.effort.shared import put_together
from covis.images.decode import load_image
from covis.messages import described_matches
from covis.options import ExtractorOptions, MatcherOptions, MatchOptions, RuntimeOptions
from covis.types import Attempt, Matches, Verdict

SIZE = (320, 240)
CORNERS = np.array([[0, 0], [320, 0], [320, 240], [0, 240]], np.float64)


def turned(degrees: float, zoom: float = 1.0) -> np.ndarray:
    """The homography that turns clockwise about the middle and enlarges."""
    cos, sin = zoom * np.cos(np.radians(degrees)), zoom * np.sin(np.radians(degrees))
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    matrix[:2, 2] = np.array(SIZE) / 2 - matrix[:2, :2] @ (np.array(SIZE) / 2)
    return matrix


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return draw_texture(SIZE[1], SIZE[0], seed=4)


@pytest.mark.parametrize(("degrees", "zoom"), [(120, 1), (0, 3)], ids=["turned", "zoomed"])
def test_a_pair_that_the_cheap_attempt_does_not_solve(picture, degrees, zoom):
    matrix = turned(degrees, zoom)
    other = warp_picture(picture, matrix, SIZE)
    found = covis.match(picture, other, geometry="homography", threads=1)
    assert found.verdict.label == "same"
    # What image 1 shows is all in image 0, and lies there within two pixels of where it should.
    there, truth = (warp_points(np.linalg.inv(m), CORNERS) for m in (found.geometry.matrix, matrix))
    assert np.linalg.norm(there - truth, axis=1).max() < 2
    assert len(found.attempts) > 1
    first = covis.match(picture, other, geometry="homography", threads=1, effort="fast")
    assert [each.view for each in first.attempts] == ["as they are"]
    assert first.inliers.sum() < found.inliers.sum()


def test_a_negative_is_matched_by_its_edges(picture):
    matrix = turned(8, 1.2)
    negative = 255 - warp_picture(picture, matrix, SIZE)
    found = covis.match(picture, negative, geometry="homography", threads=1)
    assert found.verdict.label == "same"
    there, truth = (warp_points(np.linalg.inv(m), CORNERS) for m in (found.geometry.matrix, matrix))
    assert np.linalg.norm(there - truth, axis=1).max() < 2
    before = [each for each in found.attempts if each.view == "as they are"]
    assert max(each.inliers for each in before) < 20
    (edges,) = (each for each in found.attempts if each.view == "drawn as edges")
    assert edges.method == "edgepoint-covis + lightglue-edgepoint-covis"
    assert edges.inliers > 100
    assert (found.turn, found.mirrored, found.indices) == (0, False, None)


def test_unrelated_pictures_go_through_all_and_stay_unrelated(picture):
    found = covis.match(picture, draw_texture(240, 320, seed=9), threads=1)
    assert found.verdict.label != "same"
    assert {each.method for each in found.attempts} >= {
        "edgepoint-covis",
        "sift",
        "edgepoint-covis + lightglue-edgepoint-covis",
    }
    views = [each.view for each in found.attempts if each.view.startswith("image")]
    assert [view.startswith("image 1 mirrored") for view in views] == [False, False, True]
    assert not found.mirrored
    assert found.stopped == "nothing is left to try"


MIRROR = np.array([[-1, 0, SIZE[0]], [0, 1, 0], [0, 0, 1.0]])
QUARTER = np.array([[0, -1, SIZE[1]], [1, 0, 0], [0, 0, 1.0]])


@pytest.fixture(scope="module")
def mirrored(picture):
    """The picture a little turned and smaller, mirrored, then turned clockwise by a quarter, and
    the homography that does it."""
    matrix = QUARTER @ MIRROR @ turned(8, 0.9)
    return warp_picture(picture, matrix, SIZE[::-1]), matrix


def test_a_mirrored_picture_is_found_and_said_to_be(picture, mirrored, tmp_path):
    other, matrix = mirrored
    found = covis.match(picture, other, geometry="homography", max_keypoints=600, threads=1)
    assert (found.verdict.label, found.mirrored, found.turn) == ("same", True, 90)
    assert found.attempts[-1].view in ("image 1 mirrored, turned by 90 degrees", "what both show")
    there, truth = (warp_points(m, CORNERS) for m in (found.geometry.matrix, matrix))
    assert np.linalg.norm(there - truth, axis=1).max() < 2
    moved = warp_points(matrix, found.points0[found.inliers])
    assert np.median(np.linalg.norm(moved - found.points1[found.inliers], axis=1)) < 1
    assert found.to_dict()["mirrored"] is True
    assert any(
        line.startswith("Image 1 was mirrored and turned by 90 degrees clockwise to be matched;")
        for line in described_matches(found)
    )
    found.save(tmp_path / "m.npz")
    assert Matches.load(tmp_path / "m.npz").mirrored


def test_a_mirrored_picture_has_no_pose(picture, mirrored):
    found = covis.match(picture, mirrored[0], geometry="essential", max_keypoints=600, threads=1)
    assert (found.verdict.label, found.mirrored) == ("same", True)
    assert (found.geometry.kind, found.geometry.matrix) == ("essential", None)
    assert found.geometry.rotation_1from0 is None
    assert "image 1 is mirrored" in found.geometry.note
    assert found.inliers.sum() > 100


def test_no_geometry_was_asked_for(picture):
    found = covis.match(picture, picture, geometry="none", threads=1)
    assert (found.geometry.kind, found.verdict, len(found.inliers)) == ("none", None, len(found))
    assert [each.view for each in found.attempts] == ["as they are"]
    assert found.stopped == "sure, and enough matches agree"


def test_named_features_are_kept_to(picture):
    found = covis.match(picture, draw_texture(240, 320, seed=9), features="xfeat", threads=1)
    methods = {each.method for each in found.attempts}
    assert methods == {"xfeat-covis", "sift", "xfeat-covis + lightglue-xfeat-covis"}


@pytest.mark.parametrize("matcher", ["nearest", "lightglue"])
def test_a_named_matcher_is_used_alone(picture, matcher):
    found = covis.match(picture, picture, matcher=matcher, max_keypoints=300, threads=1)
    assert found.model.startswith("xfeat-covis")
    assert (found.attempts, found.stopped) == ((), "")
    assert found.indices is not None


def test_attempts_in_files_and_json(picture, tmp_path):
    found = covis.match(picture, picture, effort="fast", threads=1)
    (tried,) = found.attempts
    assert found.to_dict()["attempts"] == [vars(tried)]
    assert found.to_dict()["stopped"] == found.stopped != ""
    found.save(tmp_path / "m.npz")
    read = Matches.load(tmp_path / "m.npz")
    assert read.attempts == (replace(tried, seconds=0.0),)
    assert read.stopped == found.stopped
    replace(found, attempts=(), stopped="").save(tmp_path / "old.npz")
    assert "attempts" not in np.load(tmp_path / "old.npz")
    assert Matches.load(tmp_path / "old.npz").attempts == ()


def check(found, one, two):
    return verify(found, one, two, "homography")


def sift_escalation(pictures, **options) -> Escalation:
    loaded = [load_image(each) for each in pictures]
    tools = Tools(ExtractorOptions(), RuntimeOptions(threads=1))
    plan = Plan(Way("sift"), (Way("sift", keypoints=200), Way("sift", keypoints=100)))
    return Escalation(Pictures(lambda n: loaded[n], tools), plan, check, **options)


@pytest.mark.parametrize(("budget", "attempts"), [(0.5, 1), (4, 2), (100, 6)])
def test_no_attempt_begins_after_the_budget(picture, budget, attempts):
    """Each look at this clock takes a second; an attempt looks twice, the loop once."""
    ticks = iter(range(1000))
    pair = sift_escalation(
        (picture, draw_texture(240, 320, seed=9)), budget=budget, clock=lambda: next(ticks)
    )
    found = pair.run()
    assert len(found.attempts) == attempts
    used_up = f"the budget of {budget:g} s was used up"
    assert found.stopped == (used_up if attempts < 6 else "nothing is left to try")


def test_indices_are_into_the_features_it_begins_with(picture):
    """What other features find has none, though it is as good."""
    loaded = load_image(picture)
    tools = Tools(ExtractorOptions(max_keypoints=500), RuntimeOptions(threads=1))
    black = Way("xfeat-covis", keypoints=1)
    pair = Escalation(Pictures(lambda _: loaded, tools), Plan(black, (Way("sift"),)), check)
    found = pair.run()
    assert [each.method for each in found.attempts] == ["xfeat-covis", "sift"]
    assert found.inliers.sum() > 150
    assert found.indices is None


def candidate(pair, matrix, seed, number, share=0.8) -> Candidate:
    """Matches of which a share agrees with a homography of `SIZE`."""
    rng = np.random.default_rng(seed)
    points0 = rng.uniform(0, SIZE, (100, 2)).astype(np.float32)
    points1 = warp_points(matrix, points0).astype(np.float32)
    wrong = rng.random(100) > share
    points1[wrong] = rng.uniform(0, SIZE, (wrong.sum(), 2))
    found = Matches(points0, points1, rng.random(100, np.float32), model=f"m{seed}")
    one, two = (pair.pictures.seen(n, "sift").features for n in (0, 1))
    judged = check(found, one, two)
    return Candidate(judged, Way("sift"), "as they are", number, 100.0, 0.5)


def test_matches_are_pooled_only_where_they_agree(picture):
    pair = sift_escalation((picture, picture))
    one, two = (pair.pictures.seen(n, "sift").features for n in (0, 1))
    true = turned(5)
    best = candidate(pair, true, 1, 1)
    agrees, contradicts = candidate(pair, true, 2, 2, 0.4), candidate(pair, turned(-20), 3, 3)

    def together(*others: Candidate) -> Matches:
        return put_together(
            [best, *others], best, (SIZE, SIZE), (1, 1), lambda found: check(found, one, two)
        )

    assert together(contradicts) is best.found
    assert together(replace(agrees, found=contradicts.found)) is best.found
    pooled = together(agrees, contradicts)
    assert pooled.model == "m1; m2"
    assert best.inliers + 30 < pooled.inliers.sum() < best.inliers + 60
    assert len(pooled) < len(best.found) + 60
    assert pooled.indices is None


def moved(of: Candidate, by0: float, by1: float, pick: slice) -> Candidate:
    """A later attempt that found some of the same matches, their ends so many pixels beside."""
    found = of.found
    return replace(
        of,
        found=replace(
            found,
            points0=found.points0[pick] + np.float32([by0, 0]),
            points1=found.points1[pick] + np.float32([0, by1]),
            scores=found.scores[pick],
            model="m2",
        ),
        number=2,
    )


@pytest.mark.parametrize(
    ("beside0", "beside1", "pixel", "taken"),
    [(0.5, 0.6, 1.0, 0), (0.5, 1.3, 1.0, 0), (1.3, 1.3, 1.0, 50), (1.3, 1.3, 2.0, 0)],
    ids=["found again", "contradicts", "another", "another, but for a shrunk picture"],
)
def test_what_two_attempts_find_counts_once(picture, beside0, beside1, pixel, taken):
    """A new match has both its ends where no other has one."""
    pair = sift_escalation((picture, picture))
    one, two = (pair.pictures.seen(n, "sift").features for n in (0, 1))
    best = candidate(pair, np.eye(3), 1, 1, share=1.0)
    ends = best.found.points0
    alone = [np.sort(np.linalg.norm(ends - end, axis=1))[1] > 6 for end in ends]
    spread = replace(
        best.found, **{k: getattr(best.found, k)[alone] for k in ("points0", "points1", "scores")}
    )
    best = replace(best, found=check(spread, one, two))
    later = moved(best, beside0, beside1, slice(50))
    pooled = put_together(
        [best, later], best, (SIZE, SIZE), (pixel, pixel), lambda found: check(found, one, two)
    )
    assert len(best.found) > 50
    assert len(pooled) == int(pooled.inliers.sum()) == len(best.found) + taken


def test_later_attempts_must_show_more(picture):
    pair = sift_escalation((picture, picture))
    first = candidate(pair, turned(5), 1, 1)
    sure = replace(first, found=replace(first.found, verdict=Verdict("same", 0.96)))
    assert sure.verdict == Verdict("same", pytest.approx(0.96))
    later = replace(sure, number=4)
    assert later.verdict == Verdict("unsure", pytest.approx(6 / 7))
    assert later.rank < sure.rank


def test_attempts_are_described():
    tried = Attempt("sift", "as they are", 100, 50, 0.9, 0.25)
    nothing = np.empty((0, 2), np.float32)
    found = Matches(nothing, nothing, nothing[:, 0], attempts=(tried,), stopped="enough")
    said = "Tried: sift, as they are: 50 of 100 agree, 0.900, 250 ms. Stopped: enough."
    assert said in described_matches(found)


def test_what_leaves_the_choice_to_covis():
    assert MatchOptions().escalates
    assert MatchOptions(matcher="auto").escalates
    assert not MatchOptions(matcher="nearest").escalates


def test_full_depth_is_of_the_lightglue_among_the_attempts(picture, monkeypatch):
    asked = []
    monkeypatch.setattr(
        "covis.effort.pictures.MatcherOptions",
        lambda **options: asked.append(options) or MatcherOptions(**options),
    )
    other = draw_texture(240, 320, seed=9)
    found = covis.match(picture, other, full_depth=True, max_keypoints=200, threads=1)
    assert len(found.attempts) > 3
    depths = {each["matcher"] == "nearest": each["full_depth"] for each in asked}
    assert depths == {True: False, False: True}


def test_masks_hold_in_every_view(picture):
    mask = np.zeros(SIZE[::-1], bool)
    mask[:, :160] = True
    matrix = turned(120)
    other = warp_picture(picture, matrix, SIZE)
    found = covis.match(picture, other, geometry="homography", mask0=mask, threads=1)
    assert len(found.attempts) > 1
    assert len(found) > 50
    assert found.points0[:, 0].min() >= 159


def test_small_and_blank_pictures_are_no_trouble():
    blank = np.full((7, 9, 3), 200, np.uint8)
    found = covis.match(blank, cv2.resize(blank, (3, 40)), threads=1)
    assert (len(found), found.verdict.label != "same") == (0, True)


def test_a_symmetric_front_seen_from_both_sides_is_not_mirrored(shared):
    """From its right it looks more like the mirror image of itself from its left."""
    photos = sorted((shared / "data/pose/fountain-P11").glob("*.jpg"))
    left, right = (load_image(photos[number], max_size=768).pixels for number in (1, 9))
    found = covis.match(left, np.rot90(right, -1).copy(), threads=1)
    assert (found.verdict.label in ("same", "unsure"), found.mirrored) == (True, False)
    assert found.turn == 270
    assert found.inliers.sum() > 100
