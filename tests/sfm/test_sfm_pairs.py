"""Which photos are matched."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.sfm import MapOptions, pairs


def as_set(found):
    assert found.dtype == np.int64
    listed = [tuple(pair) for pair in found.tolist()]
    assert listed == sorted(set(listed))
    assert all(first < second for first, second in listed)
    return set(listed)


def test_unique_drops_order_duplicates_and_self():
    assert as_set(pairs.unique([(3, 1), (1, 3), (2, 2), (0, 5)])) == {(1, 3), (0, 5)}
    assert as_set(pairs.unique([])) == set()


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_exhaustive_is_every_pair(count):
    assert as_set(pairs.exhaustive(count)) == set(itertools.combinations(range(count), 2))


@pytest.mark.parametrize(("count", "overlap"), [(6, 2), (3, 9), (1, 4)])
def test_sequential_is_the_next_ones(count, overlap):
    expected = {(i, j) for i, j in itertools.combinations(range(count), 2) if j - i <= overlap}
    assert as_set(pairs.sequential(count, overlap)) == expected


def vectors(count):
    found = np.random.default_rng(count).normal(size=(count, 8)).astype(np.float32)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


@pytest.mark.parametrize("block", [1, 300, 2**20])
def test_similar_are_the_nearest_vectors_however_they_are_blocked(monkeypatch, block):
    monkeypatch.setattr(pairs, "BLOCK_BYTES", block)
    known = vectors(40)
    similarity = known @ known.T
    np.fill_diagonal(similarity, -2)
    expected = {
        tuple(sorted((i, int(j)))) for i in range(40) for j in np.argsort(-similarity[i])[:3]
    }
    assert as_set(pairs.similar(known, 3)) == expected


def test_similar_closes_loops_only():
    known = vectors(30)
    found = as_set(pairs.similar(known, 4, every=5, apart=6))
    assert all(second - first >= 6 for first, second in found)
    assert all(first % 5 == 0 or second % 5 == 0 for first, second in found)
    assert {0, 5, 10, 15, 20, 25} <= {place for pair in found for place in pair}


def test_similar_has_no_more_than_there_are():
    assert as_set(pairs.similar(vectors(3), 10)) == {(0, 1), (0, 2), (1, 2)}
    assert as_set(pairs.similar(vectors(1), 10)) == set()


@pytest.mark.parametrize("block", [1, 2**20])
def test_near_are_those_within_the_distance(monkeypatch, block):
    monkeypatch.setattr(pairs, "BLOCK_BYTES", block)
    places = np.random.default_rng(1).uniform(0, 100, (25, 3)) + 6e6
    places[7] = np.nan
    found = as_set(pairs.near(places, 30.0, 24))
    expected = {
        (i, j)
        for i, j in itertools.combinations(range(25), 2)
        if np.linalg.norm(places[i] - places[j]) <= 30
    }
    assert found == expected
    assert 7 not in {place for pair in found for place in pair}


def test_near_takes_the_nearest():
    line = np.array([[0.0, 0, 0], [1, 0, 0], [3, 0, 0], [7, 0, 0]])
    assert as_set(pairs.near(line, 100.0, 1)) == {(0, 1), (1, 2), (2, 3)}


def test_earth_centred_by_known_places():
    """The equator, a pole, and a kilometre along a meridian."""
    found = pairs.earth_centred([(0, 0, 0), (90, 10, 5), None, (0, 90, 100)])
    np.testing.assert_allclose(found[0], (6378137, 0, 0), atol=1e-6)
    np.testing.assert_allclose(found[1], (0, 0, 6356757.314245), atol=1e-3)
    assert np.isnan(found[2]).all()
    np.testing.assert_allclose(found[3], (0, 6378237, 0), atol=1e-3)
    near = pairs.earth_centred([(48.0, 11.0, 500), (48.0 + 1 / 111.2, 11.0, 500)])
    assert np.linalg.norm(near[1] - near[0]) == pytest.approx(1000, rel=2e-3)


def test_photos_of_unknown_altitude_are_as_high_as_their_neighbours():
    step = 1e-3  # 111 m to the north.
    places = [(48.0, 11.0, 500.0), (48.0 + step / 4, 11.0, None), (49.0, 11.0, 900.0)]
    places.append((49.0 - step / 4, 11.0, None))
    found = pairs.earth_centred(places)
    assert np.linalg.norm(found[1] - found[0]) == pytest.approx(27.8, abs=0.1)
    assert np.linalg.norm(found[3] - found[2]) == pytest.approx(27.8, abs=0.1)
    nowhere = pairs.earth_centred([(48.0, 11.0, None), None, (48.0 + step, 11.0, None)])
    assert np.linalg.norm(nowhere[2] - nowhere[0]) == pytest.approx(111.2, abs=0.1)
    assert np.isnan(nowhere[1]).all()


def test_listed_names_are_photos_or_paths(tmp_path):
    root = tmp_path / "photos"
    (root / "a").mkdir(parents=True)
    places = {"a/1.jpg": 0, "2 b.jpg": 1, "3.jpg": 2}
    text = '# a comment\na/1.jpg "2 b.jpg"\nphotos/3.jpg photos/a/1.jpg\n3.jpg a/1.jpg\n'
    (tmp_path / "pairs.txt").write_text(text)
    assert as_set(pairs.listed(tmp_path / "pairs.txt", root, places)) == {(0, 1), (0, 2)}
    damaged = {**places, "2 b.jpg": None}
    assert as_set(pairs.listed(tmp_path / "pairs.txt", root, damaged)) == {(0, 2)}
    (tmp_path / "pairs.txt").write_text("a/1.jpg other.jpg\n")
    with pytest.raises(ArgumentError, match=r"'other.jpg' is no photo"):
        pairs.listed(tmp_path / "pairs.txt", root, places)


class Proposed:
    """Photos of which only names and global vectors are known."""

    def __init__(self, count):
        self.names, self.vectors = [f"{at:03}.jpg" for at in range(count)], vectors(count)

    def __len__(self):
        return len(self.names)


def test_of_many_photos_the_nearer_half_is_matched_first():
    photos = Proposed(pairs.EXHAUSTIVE_UP_TO + 1)
    options = MapOptions(neighbours=8)
    wanted = pairs.choose_pairs(photos, [], None, options)
    first = pairs.matched_first(photos, wanted, options)
    at = {name: place for place, name in enumerate(photos.names)}
    assert {(at[a], at[b]) for a, b in first} == as_set(pairs.similar(photos.vectors, 4))
    assert set(first) < set(wanted)


@pytest.mark.parametrize(
    ("count", "given"),
    [(61, {"pairs": "retrieval"}), (61, {"effort": "thorough"}), (12, {})],
)
def test_all_pairs_are_matched_where_they_were_asked_for(count, given):
    photos, options = Proposed(count), MapOptions(neighbours=8, **given)
    wanted = pairs.choose_pairs(photos, [], None, options)
    assert pairs.matched_first(photos, wanted, options) == wanted


def test_pairs_with_enough_partners_in_common_are_left_out():
    tied = [(name, third) for name in ("a", "b") for third in "pqrstu"]
    wanted = [("a", "b"), ("a", "c"), ("p", "q")]
    assert pairs.untied(wanted, tied) == [("a", "c"), ("p", "q")]
    assert pairs.untied(wanted, tied[1:]) == wanted


def test_a_ring_keeps_the_pairs_that_reach_furthest():
    """Each photo sees the four next ones: pairs four apart have three partners in common, and hold
    the scale from one end to the other."""
    ring = [(f"{at:02}", f"{(at + step) % 20:02}") for at in range(20) for step in (1, 2, 3)]
    wanted = [(f"{at:02}", f"{(at + 4) % 20:02}") for at in range(20)]
    assert pairs.untied(wanted, ring) == wanted
