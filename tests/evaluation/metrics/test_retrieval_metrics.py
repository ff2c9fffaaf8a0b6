import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covis.errors import ArgumentError
from covis.evaluation.metrics.retrieval import (
    average_precision,
    find_places,
    mean_average_precision,
    recall_at,
    relevant_within,
)


@pytest.mark.parametrize(
    ("ranking", "relevant", "ignored", "places"),
    [
        ("abcd", "bd", "", [1, 3]),
        # With a taken out the ranking is b c d.
        ("abcd", "bd", "a", [0, 2]),
        # With a and c taken out, wherever they stand: b d.
        ("abcd", "bd", "ca", [0, 1]),
        # What does not occur does not matter, in either list.
        ("abcd", "bx", "y", [1]),
        # b again is a wrong answer, and takes up a place.
        ("abbd", "bd", "", [1, 3]),
        ("aaab", "b", "a", [0]),
        # What is to be ignored is so even when it is relevant.
        ("abcd", "bd", "b", [2]),
        ("", "b", "a", []),
        ("abcd", "", "a", []),
    ],
)
def test_find_places_by_hand(ranking, relevant, ignored, places):
    assert find_places(ranking, relevant, ignored).tolist() == places


def test_find_places_takes_arrays():
    ranking, relevant = np.array([7, 5, 6, 4]), np.array([4, 5, 4])
    assert find_places(ranking, relevant, np.array([7])).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("places", "relevant", "k", "expected"),
    [
        # Right at places 1 and 3: precision 1/1 and 2/3; over 2 relevant items.
        ([0, 2], 2, None, (1 + 2 / 3) / 2),
        # The same, but a third relevant item was not found.
        ([0, 2], 3, None, (1 + 2 / 3) / 3),
        ([], 3, None, 0),
        ([0, 1, 2], 3, None, 1),
        # Of three right ones two are among the first 4: 1/2 and 2/4; over 3 relevant ones.
        ([1, 3, 4], 3, 4, (1 / 2 + 2 / 4) / 3),
        # Only 2 of 3 could be among the first 2, and one is: 1/1, over 2.
        ([0, 2], 3, 2, 1 / 2),
        # k larger than any list changes nothing.
        ([0, 2], 3, 1000, (1 + 2 / 3) / 3),
        ([4], 1, 4, 0),
    ],
)
def test_average_precision_by_hand(places, relevant, k, expected):
    assert average_precision(np.array(places, int), relevant, k) == pytest.approx(expected)


def test_means_leave_out_queries_without_relevant_items():
    rankings = ["abc", "cab", "bca"]
    relevant = ["ab", "", "c"]
    # Query 0: places 1 and 2, AP 1. Query 1: left out. Query 2: place 2, AP 1/2.
    assert mean_average_precision(rankings, relevant) == pytest.approx((1 + 1 / 2) / 2)
    # With k = 1: query 0 one of min(2, 1), AP 1; query 2 none.
    assert mean_average_precision(rankings, relevant, 1) == pytest.approx((1 + 0) / 2)
    assert [recall_at(rankings, relevant, k) for k in (1, 2, 10)] == [0.5, 1, 1]


def test_means_count_each_relevant_item_once():
    # c is listed twice as relevant but can be found once: place 1, AP 1.
    assert mean_average_precision(["cab"], [["c", "c"]]) == 1


def test_recall_takes_short_and_empty_rankings():
    assert recall_at([[], [3], [1, 2]], [{1}, {3}, {2}], 1) == pytest.approx(1 / 3)
    assert recall_at([[], [3], [1, 2]], [{1}, {3}, {2}], 5) == pytest.approx(2 / 3)


@given(st.permutations(range(12)), st.sets(st.integers(0, 14), min_size=1), st.integers(1, 20))
def test_average_precision_is_the_mean_precision_at_the_right_ones(ranking, relevant, k):
    total = 0
    for i in range(min(k, len(ranking))):
        if ranking[i] in relevant:
            total += len(relevant & set(ranking[: i + 1])) / (i + 1)
    expected = total / min(len(relevant), k)
    assert mean_average_precision([ranking], [relevant], k) == pytest.approx(expected)


@given(
    st.lists(st.permutations(range(8)), min_size=3, max_size=3),
    st.lists(st.sets(st.integers(0, 9)), min_size=3, max_size=3),
    st.integers(1, 12),
)
def test_recall_is_the_share_of_queries_with_a_hit(rankings, relevant, k):
    asked = [(set(r[:k]), s) for r, s in zip(rankings, relevant, strict=True) if s]
    if asked:
        hits = sum(bool(first & right) for first, right in asked)
        assert recall_at(rankings, relevant, k) == pytest.approx(hits / len(asked))


@given(
    st.lists(st.integers(0, 9), max_size=15), st.sets(st.integers(0, 9)), st.sets(st.integers(0, 9))
)
def test_find_places_as_if_the_ignored_were_deleted(ranking, relevant, ignored):
    kept = [item for item in ranking if item not in ignored]
    expected = sorted(kept.index(item) for item in relevant if item in kept)
    assert find_places(ranking, relevant, ignored).tolist() == expected


def test_relevant_within_includes_the_radius():
    # From (0, 0): 5 to (3, 4), 25 to (0, 25), just above to the next. From (100, 0): nothing.
    database = [[3, 4], [0, 25], [0, 25.001], [-30, 0]]
    found = relevant_within([[0, 0], [100, 0]], database, 25)
    assert [indices.tolist() for indices in found] == [[0, 1], []]
    assert recall_at([[2, 1], [0, 1]], found, 1) == 0
    assert recall_at([[2, 1], [0, 1]], found, 2) == 1


@given(
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=6),
    st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=1, max_size=6),
    st.integers(0, 12),
)
def test_relevant_within_against_pythagoras(queries, database, radius):
    expected = [
        [i for i, (x, y) in enumerate(database) if (x - u) ** 2 + (y - v) ** 2 <= radius**2]
        for u, v in queries
    ]
    assert [i.tolist() for i in relevant_within(queries, database, radius)] == expected


@pytest.mark.parametrize("measure", [mean_average_precision, recall_at])
def test_exception_what_cannot_be_measured(measure):
    with pytest.raises(ArgumentError, match="No query has a relevant item"):
        measure(["ab"], [""], 1)
    with pytest.raises(ArgumentError, match="not 2 for 1"):
        measure(["ab", "ba"], ["a"], 1)
    with pytest.raises(ArgumentError, match="k must be 1 or more, not 0"):
        measure(["ab"], ["a"], 0)


@pytest.mark.parametrize(
    ("queries", "database", "radius", "message"),
    [
        ([0, 0], [[0, 0]], 1, "shape"),
        ([[0, np.nan]], [[0, 0]], 1, "finite"),
        ([[0, 0]], [[0, 0, 0]], 1, "2 coordinates, those of the database 3"),
        ([[0, 0]], [[0, 0]], -1, "radius must be 0 or more, not -1"),
        ([[0, 0]], [[0, 0]], np.nan, "radius"),
    ],
)
def test_exception_positions(queries, database, radius, message):
    with pytest.raises(ArgumentError, match=message):
        relevant_within(queries, database, radius)
