"""What every matcher keeps to. A new one is tested by being listed in `MATCHERS`."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from covis import Extractor, Features, Matcher, Matches, match
from covis.errors import ArgumentError
from covis.matching.registry import MATCHERS, MatcherRow, find_matcher, needs_semi_dense
from covis.runtime.architectures import ARCHITECTURES, load, names

TOY = MatcherRow(opens="helpers.contracts:InOrder")

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


@pytest.fixture(scope="module")
def sets(texture):
    """Of both kinds, semi-dense or not: features of two overlapping views, and none."""
    views = texture[:160, :220], texture[10:170, 15:235]
    made = {}
    for semi_dense in (False, True):
        extract = Extractor("xfeat", semi_dense=semi_dense, max_keypoints=150)
        one, two = extract.batch(views)
        nothing = extract(views[0], mask=np.ones((160, 220), bool))
        made[semi_dense] = one, two, nothing
    return made


@pytest.fixture(params=[*MATCHERS, "in-order", "lightglue-xfeat-covis"])
def name(request, monkeypatch):
    monkeypatch.setitem(MATCHERS, "in-order", TOY)
    return request.param


@pytest.fixture
def given(name, sets):
    return sets[needs_semi_dense(name)]


def assert_sound(matches: Matches, features0: Features, features1: Features) -> None:
    """What `Matches` promises of any matcher."""
    count = len(matches)
    assert matches.points0.shape == matches.points1.shape == (count, 2)
    assert matches.points0.dtype == matches.points1.dtype == matches.scores.dtype == np.float32
    assert np.isfinite(matches.points0).all()
    assert np.isfinite(matches.points1).all()
    assert matches.scores.shape == (count,)
    assert ((matches.scores >= 0) & (matches.scores <= 1)).all()
    assert (np.diff(matches.scores) <= 0).all()
    assert matches.inliers.shape == (count,)
    assert (matches.geometry, matches.verdict) == (None, None)
    rows = {tuple(point) for point in features1.keypoints.tolist()}
    assert {tuple(point) for point in matches.points1.tolist()} <= rows
    if matches.indices is None:
        return
    assert matches.indices.shape == (count, 2)
    for side, features in enumerate((features0, features1)):
        rows = matches.indices[:, side]
        assert len(np.unique(rows)) == count, "one to one"
        assert ((rows >= 0) & (rows < len(features))).all()
        points = (matches.points0, matches.points1)[side]
        np.testing.assert_array_equal(points, features.keypoints[rows])


def test_two_views(name, given):
    one, two, _ = given
    matches = Matcher(name)(one, two)
    assert_sound(matches, one, two)
    assert len(matches) > 20
    assert "match" in matches.seconds


@pytest.mark.parametrize("counts", [(150, 40), (40, 150), (1, 1), (1, 50), (2, 1)])
def test_sets_of_any_sizes(name, given, counts):
    one, two = (first(features, n) for features, n in zip(given, counts, strict=False))
    matches = Matcher(name)(one, two)
    assert_sound(matches, one, two)
    assert len(matches) <= min(counts)


def test_empty_sets(name, given):
    one, two, nothing = given
    for pair in ((nothing, two), (one, nothing), (nothing, nothing)):
        matches = Matcher(name)(*pair)
        assert len(matches) == 0
        assert_sound(matches, *pair)


def test_same_pair_same_matches(name, given):
    one, two, _ = given
    matcher = Matcher(name, threads=1)
    matches = matcher(one, two)
    for other in (matcher(one, two), Matcher.from_options(matcher.options)(one, two)):
        np.testing.assert_array_equal(other.points0, matches.points0)
        np.testing.assert_array_equal(other.points1, matches.points1)


def test_the_model_and_the_terms_are_named(name, given):
    one, two, _ = given
    matcher = Matcher(name)
    matches, bundle = matcher(one, two), matcher.bundle(one.model)
    weights = "" if bundle is None else f" + {bundle.name}"
    assert matches.model == one.model + weights
    assert matches.licence == ("" if bundle is None else bundle.licence)
    assert matcher.opened(one.model).name == (
        {"auto": "nearest"}.get(name, name) if bundle is None else bundle.name
    )


def test_matches_come_back_from_a_file(name, given, tmp_path):
    one, two, _ = given
    matches = Matcher(name)(one, two)
    matches.save(tmp_path / "m.npz")
    again = Matches.load(tmp_path / "m.npz")
    np.testing.assert_array_equal(again.points0, matches.points0)
    np.testing.assert_array_equal(again.points1, matches.points1)
    np.testing.assert_array_equal(again.scores, matches.scores)
    assert again.model == matches.model


def test_exception_mixed_models(name, given):
    one, two, _ = given
    with pytest.raises(ArgumentError, match="'xfeat-covis' and 'other' cannot be matched"):
        Matcher(name)(one, replace(two, model="other"))


def test_exception_kinds_of_features(name, sets):
    wanted = needs_semi_dense(name)
    right, wrong = sets[wanted][0], sets[not wanted][0]
    words = (
        f"'{name}' needs {'semi-dense' if wanted else 'sparse'} features; extract with Extractor"
    )
    for pair in ((wrong, wrong), (right, wrong), (wrong, right)):
        with pytest.raises(ArgumentError, match=words):
            Matcher(name)(*pair)


def test_exception_options_that_it_does_not_have(name):
    row = find_matcher(name)
    if not row.thresholds:
        with pytest.raises(ArgumentError, match="min_similarity and max_ratio are for"):
            Matcher(name, max_ratio=0.9)
    if not row.full_depth:
        with pytest.raises(ArgumentError, match=f"full depth is for LightGlue; '{name}' has no"):
            Matcher(name, full_depth=True)


def test_every_network_that_matches_is_a_matcher():
    for name in names("matcher"):
        assert name in MATCHERS
        assert callable(load(ARCHITECTURES[name].runs))


def test_a_new_matcher_is_a_row(known_pair, monkeypatch):
    """It serves all of covis at once."""
    monkeypatch.setitem(MATCHERS, "in-order", TOY)
    first, _, _ = known_pair
    found = match(first, first, features="sift", matcher="in-order", geometry="homography")
    np.testing.assert_array_equal(found.points0, found.points1)
    assert found.verdict.label == "same"
    with pytest.raises(ArgumentError, match=r"no matcher 'magic'; there are: .*in-order"):
        Matcher("magic")


def first(features: Features, count: int) -> Features:
    """The first `count` of them."""
    arrays = ("keypoints", "scores", "descriptors", "pixel_sizes")
    kept = {name: getattr(features, name) for name in arrays}
    return replace(features, **{n: a[:count] for n, a in kept.items() if a is not None})
