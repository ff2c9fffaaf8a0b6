import math
import pickle
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from hypothesis import given
from hypothesis import strategies as st

from covis.errors import ArgumentError
from covis.evaluation.datasets.revisited import (
    Revisited,
    evaluate_revisited,
    precision_at,
    read_revisited,
    trapezoid_average_precision,
)

ENTRY = {"easy": [0], "hard": np.array([2]), "junk": [], "bbx": [1.4, 2.0, 5.6, 6.0]}
TRUTH = {"imlist": ["a", "b", "c"], "qimlist": ["q"], "gnd": [ENTRY]}


def make(*judgements, images=10):
    """One query for each (easy, hard, junk)."""
    easy, hard, junk = zip(*(map(frozenset, each) for each in judgements), strict=True)
    count = len(judgements)
    return Revisited(
        "set",
        (Path("x"),) * images,
        (Path("q"),) * count,
        ((0, 0, 1, 1),) * count,
        easy,
        hard,
        junk,
    )


@pytest.mark.parametrize(
    ("places", "relevant", "expected"),
    [
        # All on top: every step has precision 1 before and after.
        ([0, 1], 2, 1),
        # The only one at the second place: precision 0/1 before, 1/2 there; their mean.
        ([1], 1, (0 + 1 / 2) / 2),
        # At places 1 and 3, each a step of 1/2: mean of 1 and 1, mean of 1/2 and 2/3.
        ([0, 2], 2, (1 + (1 / 2 + 2 / 3) / 2) / 2),
        # A relevant picture that was not found adds nothing: a step of 1/3 each.
        ([0, 2], 3, (1 + (1 / 2 + 2 / 3) / 2) / 3),
        ([], 3, 0),
    ],
)
def test_trapezoid_by_hand(places, relevant, expected):
    found = trapezoid_average_precision(np.array(places, int), relevant)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ("places", "relevant", "k", "expected"),
    [
        ([0, 2, 7], 3, 1, 1),
        # Places 1 and 3 are among the first 5.
        ([0, 2, 7], 3, 5, 2 / 5),
        # The last right one is at place 8, so only 8 places count.
        ([0, 2, 7], 3, 10, 3 / 8),
        ([0, 1, 2], 3, 10, 1),
        # A fourth one was not found: all 10 places count.
        ([0, 1, 2], 4, 10, 3 / 10),
        ([], 1, 5, 0),
    ],
)
def test_precision_at_by_hand(places, relevant, k, expected):
    assert precision_at(np.array(places, int), relevant, k) == pytest.approx(expected)


def test_protocol_by_hand():
    truth = make(({0, 1}, {2}, {3}))
    scores = evaluate_revisited(truth, [[3, 0, 2, 4, 1, 5, 6, 7, 8, 9]])
    # Easy: 3 and 2 go, 0 4 1 stay: places 1 and 3; step 1/2 each.
    easy = scores["easy"]
    assert easy.mean_average_precision == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)
    # P@5 and P@10 are measured at the last right one, place 3.
    assert easy.mean_precision == pytest.approx({1: 1, 5: 2 / 3, 10: 2 / 3})
    # Medium: only 3 goes, 0 2 4 1: places 1, 2 and 4; step 1/3 each.
    medium = scores["medium"]
    assert medium.mean_average_precision == pytest.approx((1 + 1 + (2 / 3 + 3 / 4) / 2) / 3)
    assert medium.mean_precision == pytest.approx({1: 1, 5: 3 / 4, 10: 3 / 4})
    # Hard: 3, 0 and 1 go, 2 is on top.
    hard = scores["hard"]
    assert hard.mean_average_precision == 1
    assert hard.mean_precision == {1: 1, 5: 1, 10: 1}
    assert [each.queries for each in scores.values()] == [1, 1, 1]


def test_queries_without_relevant_pictures_are_left_out():
    # Query 1 has hard pictures only; query 2 nothing but junk.
    truth = make(({0}, set(), set()), (set(), {1}, set()), (set(), set(), {5}))
    scores = evaluate_revisited(truth, [[0, 1], [0, 1], [5, 0]])
    assert [scores[d].queries for d in ("easy", "medium", "hard")] == [1, 2, 1]
    assert scores["easy"].mean_average_precision == 1
    # Query 1's is at the second place: (0/1 + 1/2) / 2.
    assert scores["hard"].mean_average_precision == pytest.approx(1 / 4)
    assert scores["medium"].mean_average_precision == pytest.approx((1 + 1 / 4) / 2)
    assert scores["medium"].mean_precision[1] == pytest.approx(1 / 2)
    nothing = evaluate_revisited(make((set(), set(), {5})), [[0]])["medium"]
    assert nothing.queries == 0
    assert math.isnan(nothing.mean_average_precision)
    assert all(math.isnan(value) for value in nothing.mean_precision.values())


def test_junk_on_top_does_no_harm_and_distractors_do():
    truth = make(({0}, set(), {1, 2}), images=3)
    assert evaluate_revisited(truth, [[2, 1, 0]])["easy"].mean_average_precision == 1
    # 77 stands for a distractor behind the 3 pictures: (0/1 + 1/2) / 2.
    assert evaluate_revisited(truth, [[2, 77, 1, 0]])["easy"].mean_average_precision == 1 / 4


def test_a_picture_that_comes_twice_counts_once():
    truth = make(({0, 1}, set(), set()))
    # Right at place 1, wrong at place 2, right at place 3; as in `test_trapezoid_by_hand`.
    found = evaluate_revisited(truth, [[0, 0, 1]])["easy"].mean_average_precision
    assert found == pytest.approx((1 + (1 / 2 + 2 / 3) / 2) / 2)


def test_exception_rankings_for_other_queries():
    with pytest.raises(ArgumentError, match="not 2 for 1"):
        evaluate_revisited(make(({0}, set(), set())), [[0], [0]])


PARTS = st.lists(st.sampled_from(["easy", "hard", "junk", "other"]), min_size=9, max_size=9)


@given(st.permutations(range(9)), PARTS, st.integers(0, 9))
def test_protocol_against_the_definition(order, parts, length):
    """Precision and recall after every picture of the cleaned list, integrated step by step."""
    lists = [{i for i, part in enumerate(parts) if part == p} for p in ("easy", "hard", "junk")]
    ranking = order[:length]
    scores = evaluate_revisited(make(lists, images=9), [ranking])
    for difficulty, right, wrong in (
        ("easy", {"easy"}, {"other"}),
        ("medium", {"easy", "hard"}, {"other"}),
        ("hard", {"hard"}, {"other"}),
    ):
        hits = [parts[i] in right for i in ranking if parts[i] in right | wrong]
        relevant = sum(part in right for part in parts)
        assert scores[difficulty].queries == (relevant > 0)
        if not relevant:
            continue
        recall, precision, area = 0.0, 1.0, 0.0
        for i in range(len(hits)):
            new_recall, new_precision = sum(hits[: i + 1]) / relevant, sum(hits[: i + 1]) / (i + 1)
            area += (new_recall - recall) * (precision + new_precision) / 2
            recall, precision = new_recall, new_precision
        assert scores[difficulty].mean_average_precision == pytest.approx(area)
        for k, found in scores[difficulty].mean_precision.items():
            last = max((i + 1 for i, hit in enumerate(hits) if hit), default=0)
            depth = min(k, last) if sum(hits) == relevant else k
            assert found == pytest.approx(sum(hits[:depth]) / depth)


def write(folder, content, protocol=2):
    (folder / "jpg").mkdir(parents=True)
    for name in "abcq":
        PIL.Image.new("RGB", (10, 8)).save(folder / "jpg" / f"{name}.jpg")
    data = content if isinstance(content, bytes) else pickle.dumps(content, protocol)
    (folder / "gnd_roxford5k.pkl").write_bytes(data)
    return folder


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_read_the_published_layout(tmp_path, protocol):
    entry = ENTRY | {"junk": (1,), "bbx": np.array([1.4, 2, 5.6, 6]), "easy": [np.int64(0)]}
    found = read_revisited(write(tmp_path, TRUTH | {"gnd": [entry]}, protocol))
    assert found.name == "roxford5k"
    assert found.database == tuple(tmp_path / "jpg" / f"{name}.jpg" for name in "abc")
    assert found.queries == (tmp_path / "jpg" / "q.jpg",)
    assert found.boxes == ((1.4, 2, 5.6, 6),)
    assert (found.easy, found.hard, found.junk) == (({0},), ({2},), ({1},))


def test_read_a_pickle_of_old_numpy_and_python_2(tmp_path):
    new = pickle.dumps(TRUTH, 2)
    # NumPy before 2.0 named its insides otherwise.
    old = new.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert old != new
    # Python 2 wrote text as bytes: "q" with the opcode U and one byte for its length.
    older = old.replace(b"X\x01\x00\x00\x00q", b"U\x01q")
    assert older != old
    found = read_revisited(write(tmp_path, older))
    assert (found.queries, found.hard) == ((tmp_path / "jpg" / "q.jpg",), ({2},))


def test_distractors_stand_behind_the_database(tmp_path):
    folder = write(tmp_path / "roxford5k", TRUTH)
    with pytest.raises(ArgumentError, match=r"revisitop1m\.txt: no list of distractors"):
        read_revisited(folder, tmp_path)
    (tmp_path / "revisitop1m.txt").write_text("00/x.jpg\n01/y.jpg\n")
    found = read_revisited(folder, tmp_path)
    assert found.database[:3] == read_revisited(folder).database
    assert found.database[3:] == (tmp_path / "jpg/00/x.jpg", tmp_path / "jpg/01/y.jpg")


def test_the_query_is_cropped_to_its_box(tmp_path):
    truth = read_revisited(write(tmp_path, TRUTH))
    pixels = np.zeros((8, 10, 3), np.uint8)
    # The box (1.4, 2, 5.6, 6) rounds to columns 1 to 5 and rows 2 to 5.
    pixels[2:6, 1:6] = 255
    PIL.Image.fromarray(pixels).save(tmp_path / "jpg" / "q.jpg", "PNG")
    image = truth.query_image(0)
    assert (image.width, image.height, image.name) == (5, 4, str(tmp_path / "jpg" / "q.jpg"))
    assert image.pixels.shape == (4, 5, 3)
    assert image.pixels.min() == 255


def test_a_box_is_cut_off_at_the_edge_of_the_picture(tmp_path):
    entry = ENTRY | {"bbx": [-3, 2, 50, 60]}
    image = read_revisited(write(tmp_path, TRUTH | {"gnd": [entry]})).query_image(0)
    assert (image.width, image.height) == (10, 6)


def test_exception_a_box_outside_the_picture(tmp_path):
    truth = read_revisited(write(tmp_path, TRUTH | {"gnd": [ENTRY | {"bbx": [20, 2, 30, 6]}]}))
    with pytest.raises(ArgumentError, match=r"q\.jpg: the box .* is not in the picture"):
        truth.query_image(0)


class Malicious:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_exception_a_pickle_that_runs_something_is_refused_before_it_does(tmp_path):
    marker = tmp_path / "ran"
    for i, value in enumerate((Malicious(marker), np.array([Malicious(marker)]))):
        with pytest.raises(ArgumentError, match=r"it asks for .*, which is no plain value"):
            read_revisited(write(tmp_path / str(i), TRUTH | {"gnd": value}))
    for i, name in enumerate(("eval", "getattr", "open", "exec")):
        code = f"c__builtin__\n{name}\n(S'1'\ntR.".encode()
        with pytest.raises(ArgumentError, match=f"it asks for __builtin__.{name}"):
            read_revisited(write(tmp_path / f"code{i}", code))
    assert not marker.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not the published ground truth"),
        (b"junk", "not the published ground truth"),
        (pickle.dumps(TRUTH)[:-20], "not the published ground truth"),
        (["no", "dictionary"], "needs imlist, qimlist and gnd"),
        (TRUTH | {"imlist": [1]}, "needs imlist, qimlist and gnd"),
        (TRUTH | {"gnd": []}, "one entry a query"),
        (TRUTH | {"gnd": [3]}, "query 0: the list 'easy' is missing or malformed"),
        (TRUTH | {"gnd": [ENTRY | {"hard": [3]}]}, "query 0: 'hard' must be indices below 3"),
        (TRUTH | {"gnd": [ENTRY | {"junk": [-1]}]}, "query 0: 'junk' must be indices below 3"),
        (TRUTH | {"gnd": [ENTRY | {"easy": [0.5]}]}, "query 0: 'easy' must be indices"),
        (TRUTH | {"gnd": [ENTRY | {"easy": ["a"]}]}, "query 0: 'easy' must be indices"),
        (TRUTH | {"gnd": [ENTRY | {"bbx": [1, 2, 3]}]}, "query 0: 'bbx' must be four finite"),
        (TRUTH | {"gnd": [ENTRY | {"bbx": None}]}, "query 0: 'bbx' must be four finite"),
        (TRUTH | {"imlist": ["a", "x", "y"]}, r"2 of 4 pictures are missing, first x\.jpg"),
    ],
)
def test_exception_malformed(tmp_path, content, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        read_revisited(write(tmp_path, content))
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_exception_missing_ground_truth_says_where_it_is(tmp_path):
    with pytest.raises(ArgumentError, match=r"gnd_roxford5k\.pkl .*cmp\.felk\.cvut\.cz"):
        read_revisited(tmp_path)
