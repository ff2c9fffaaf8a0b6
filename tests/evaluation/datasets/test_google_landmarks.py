import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from covis.errors import ArgumentError
from covis.evaluation.datasets.google_landmarks import (
    read_recognition_solution,
    read_retrieval_solution,
    score_recognition,
    score_retrieval,
)

RETRIEVAL = """id,images,Usage
q1,a b,Private
q2,c,Public
q3,None,Ignored
q4,d,Private
"""
RECOGNITION = """id,landmarks,Usage
q1,17 4,Private
q2,,Private
q3,None,Ignored
q4,5,Public
"""


def write(folder, text):
    path = folder / "solution.csv"
    path.write_text(text, "utf-8")
    return path


def test_read_retrieval_solution(tmp_path):
    path = write(tmp_path, RETRIEVAL)
    assert read_retrieval_solution(path) == {"q1": {"a", "b"}, "q4": {"d"}}
    assert read_retrieval_solution(path, "Public") == {"q2": {"c"}}


def test_read_recognition_solution_keeps_queries_without_a_landmark(tmp_path):
    path = write(tmp_path, RECOGNITION)
    assert read_recognition_solution(path) == {"q1": {17, 4}, "q2": set()}
    assert read_recognition_solution(path, "Public") == {"q4": {5}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must have the columns id, landmarks and Usage"),
        (RETRIEVAL, "must have the columns id, landmarks and Usage"),
        (RECOGNITION + "q5,6,Test\n", "line 6: Usage is 'Test'"),
        (RECOGNITION + "q5,6\n", "line 6: Usage is ''"),
        (RECOGNITION + "q1,6,Public\n", "line 6: the query q1 comes twice"),
        (RECOGNITION + "q5,6 x,Private\n", "line 6: landmarks must be whole numbers, not '6 x'"),
    ],
)
def test_exception_malformed_solution(tmp_path, text, message):
    with pytest.raises(ArgumentError, match=message):
        read_recognition_solution(write(tmp_path, text))


def test_exception_no_solution(tmp_path):
    with pytest.raises(ArgumentError, match="cvdfoundation/google-landmark"):
        read_retrieval_solution(tmp_path / "retrieval_solution_v2.1.csv")
    with pytest.raises(ArgumentError, match="No usage 'private'"):
        read_retrieval_solution(write(tmp_path, RETRIEVAL), "private")
    (tmp_path / "solution.csv").write_bytes(b"id,images,Usage\n\xff\xfe,a,Private\n")
    with pytest.raises(ArgumentError, match="not a CSV file"):
        read_retrieval_solution(tmp_path / "solution.csv")


def test_retrieval_by_hand():
    solution = {"q1": frozenset("ab"), "q2": frozenset("c"), "q3": frozenset("d")}
    rankings = {
        # Right at places 1 and 3: (1/1 + 2/3) / 2. The second a is a wrong answer.
        "q1": ["a", "a", "b"],
        # Not among the first 100: 0.
        "q2": [*(f"x{i}" for i in range(100)), "c"],
        # q3 has no ranking: 0. A query outside the solution does not count.
        "other": ["a"],
    }
    assert score_retrieval(rankings, solution) == pytest.approx(((1 + 2 / 3) / 2 + 0 + 0) / 3)


def test_retrieval_with_more_relevant_images_than_count():
    # 100 of 150 on the first 100 places is all that can be had.
    solution = {"q": frozenset(map(str, range(150)))}
    assert score_retrieval({"q": [str(i) for i in range(100)]}, solution) == pytest.approx(1)


def test_recognition_by_hand():
    solution = {
        "q1": frozenset({1, 9}),
        "q2": frozenset(),
        "q3": frozenset({3}),
        "q4": frozenset({4}),
    }
    predictions = {
        # In order of confidence: q1 right, precision 1/1; q2 wrong, as it shows no landmark;
        # q3 right, 2/3; q4 wrong. Three queries show one.
        "q1": (9, 0.9),
        "q2": (2, 0.8),
        "q3": (3, 0.7),
        "q4": (5, 0.1),
        "ignored": (1, 1.0),
    }
    assert score_recognition(predictions, solution) == pytest.approx((1 + 2 / 3) / 3)
    # Without the wrong one before it q3 has precision 2/2.
    del predictions["q2"]
    assert score_recognition(predictions, solution) == pytest.approx((1 + 1) / 3)


def test_convention_equal_confidences_go_by_the_querys_id():
    solution = {"q1": frozenset({1}), "q2": frozenset({2})}
    # q1, wrong, comes before q2 in either order of the mapping: precision 1/2, over 2.
    predictions = {"q2": (2, 0.5), "q1": (7, 0.5)}
    assert score_recognition(predictions, solution) == pytest.approx(1 / 4)
    assert score_recognition(dict(reversed(predictions.items())), solution) == pytest.approx(1 / 4)


@given(
    st.dictionaries(st.integers(0, 9), st.frozensets(st.integers(0, 3)), min_size=1),
    st.dictionaries(st.integers(0, 9), st.tuples(st.integers(0, 3), st.floats(0, 1)), min_size=1),
)
def test_recognition_against_the_definition(solution, predictions):
    solution = {str(query): landmarks for query, landmarks in solution.items()}
    predictions = {
        str(query): guess for query, guess in predictions.items() if str(query) in solution
    }
    if not predictions or not any(solution.values()):
        return
    ordered = sorted(sorted(predictions), key=lambda query: -predictions[query][1])
    right = [predictions[query][0] in solution[query] for query in ordered]
    total = sum(sum(right[: i + 1]) / (i + 1) for i in range(len(right)) if right[i])
    expected = total / sum(bool(landmarks) for landmarks in solution.values())
    assert score_recognition(predictions, solution) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("predictions", "solution", "message"),
    [
        ({"q": (1, 0.5)}, {"other": frozenset({1})}, "None of the 1 queries is among the 1"),
        ({"q": (1, math.nan)}, {"q": frozenset({1})}, "query q is not a number"),
        ({"q": (1, 0.5)}, {"q": frozenset()}, "shows a landmark: nothing to measure"),
    ],
)
def test_exception_recognition(predictions, solution, message):
    with pytest.raises(ArgumentError, match=message):
        score_recognition(predictions, solution)


def test_exception_retrieval_of_other_queries():
    with pytest.raises(ArgumentError, match="was the other part of it meant"):
        score_retrieval({"q": ["a"]}, {"other": frozenset("a")})
