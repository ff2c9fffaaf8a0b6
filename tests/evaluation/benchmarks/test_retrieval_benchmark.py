import math
import pickle
import shutil

import cv2
import numpy as np
import pytest
from helpers import trees

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.benchmarks.retrieval import (
    rank,
    reorder,
    run_landmarks,
    run_places,
    run_queries,
    run_recognition,
    run_revisited,
)
from covis.types import Geometry, Matches, Verdict

SIFT = Settings(features="sift", matcher="nearest", max_keypoints=200)


def run(benchmark, data, settings=SIFT):
    told = []
    rows = benchmark(data, settings, lambda *done: told.append(done))
    assert told[-1][0] == told[-1][1] or told[-1][0] == told[-1][1] - rows[0].items
    return {row.method: row for row in rows}


def matches(inliers, label):
    points = np.zeros((10, 2), np.float32)
    kept = np.arange(10) < inliers
    return Matches(
        points,
        points,
        np.ones(10, np.float32),
        geometry=Geometry("homography", None, kept),
        verdict=Verdict(label, 0.5),
    )


def test_rank_keeps_the_order_of_equals():
    [ranking] = rank(np.array([[0.1, 0.5, 0.5, 0.9]], np.float32))
    assert ranking.tolist() == [3, 1, 2, 0]


def test_reorder_by_hand():
    # Only the first three were checked; 7 and 5 have as many inliers, and keep their order.
    ranking = [np.array([7, 5, 3, 1])]
    head = [[matches(4, "unsure"), matches(4, "same"), matches(6, "different")]]
    assert reorder(ranking, head, certain_first=False)[0].tolist() == [3, 7, 5, 1]
    assert reorder(ranking, head, certain_first=True)[0].tolist() == [5, 7, 3, 1]
    assert reorder(ranking, [[]], certain_first=True)[0].tolist() == [7, 5, 3, 1]


def test_queries_of_ones_own(tmp_path):
    trees.queries(tmp_path / "set")
    rows = run(run_queries, tmp_path)
    assert list(rows) == [
        "sift, global (pooled)",
        "sift, global (pooled) + nearest on 20",
        "sift, global (pooled) + nearest on 20, certain first",
    ]
    checked = rows["sift, global (pooled) + nearest on 20, certain first"]
    assert (checked.part, checked.items) == ("set", 4)
    assert checked.figures["recall@1"] == checked.figures["mAP"] == 100
    assert checked.figures["seconds a query"] > 0


def test_top_0_checks_none_and_every_2nd_query(tmp_path):
    trees.queries(tmp_path)
    settings = Settings(features="sift", matcher="nearest", max_keypoints=50, top=0, every=2)
    rows = run(run_queries, tmp_path, settings)
    assert [row.items for row in rows.values()] == [2]
    assert "only one query in 2" in rows["sift, global (pooled)"].note


def test_a_picture_that_cannot_be_read_is_taken_as_blank(tmp_path):
    trees.queries(tmp_path)
    (tmp_path / "db" / "3.png").write_bytes(b"no picture")
    rows = run(run_queries, tmp_path)
    checked = rows["sift, global (pooled) + nearest on 20"]
    assert checked.figures["recall@1"] == 75
    assert "1 picture taken as blank" in checked.note
    assert "3.png" in checked.note


def test_revisited(tmp_path):
    (tmp_path / "jpg").mkdir()
    for name, seed in (("a", 0), ("b", 1), ("c", 2)):
        cv2.imwrite(str(tmp_path / "jpg" / f"{name}.jpg"), trees.views(seed)[0])
    cv2.imwrite(str(tmp_path / "jpg" / "q.jpg"), trees.views(1)[1])
    gnd = [{"easy": [1], "hard": [], "junk": [], "bbx": [0, 0, *trees.SIZE]}]
    truth = {"imlist": ["a", "b", "c"], "qimlist": ["q"], "gnd": gnd}
    (tmp_path / "gnd_roxford5k.pkl").write_bytes(pickle.dumps(truth))
    rows = run(run_revisited, tmp_path)
    figures = rows["sift, global (pooled) + nearest on 100"].figures
    assert figures["mAP medium"] == figures["mAP easy"] == figures["mP@10 medium"] == 100
    assert math.isnan(figures["mAP hard"])


def places(root):
    for seed, east in enumerate((1000.5, 1024.0, 2000.0)):
        first, second = trees.views(seed)
        trees.write(root / "database" / f"@{east}@50.0@x@.png", first)
        if seed == 1:
            # 20 m from its own picture, 43.5 m from the other, which shows something else.
            trees.write(root / "queries" / "@1044.0@50.0@x@.png", second)
    # Another one, of what lies 2 km away: nothing right is in the database within 25 m.
    trees.write(root / "queries" / "@4000.0@50.0@x@.png", trees.views(2)[1])
    return root


def test_places_count_within_25_metres(tmp_path):
    rows = run(run_places, places(tmp_path))
    checked = rows["sift, global (pooled) + nearest on 20"]
    # The query with nothing within 25 m cannot be answered, and is left out.
    assert checked.figures["recall@1"] == 100
    shutil.move(
        tmp_path / "queries" / "@1044.0@50.0@x@.png", tmp_path / "queries" / "@1990.0@50.0@x@.png"
    )
    rows = run(run_places, tmp_path)
    assert rows["sift, global (pooled) + nearest on 20"].figures["recall@1"] == 0


def test_exception_places_without_positions(tmp_path):
    for name in ("database", "queries"):
        trees.write(tmp_path / name / "@a@b@.png", trees.views()[0])
    with pytest.raises(ArgumentError, match="must begin with @EAST@NORTH@"):
        run(run_places, tmp_path)
    shutil.rmtree(tmp_path / "queries")
    with pytest.raises(ArgumentError, match="no pictures named"):
        run(run_places, tmp_path)


def landmarks(root):
    keys = []
    for seed in range(3):
        first, second = trees.views(seed)
        key, other = f"abc{seed}", f"abd{seed}"
        trees.write(root / "index" / "a" / "b" / "c" / f"{key}.jpg", first)
        trees.write(root / "test" / "a" / "b" / "d" / f"{other}.jpg", second)
        keys.append((other, key))
    table = "id,images,Usage\n" + "".join(f"{q},{i},Private\n" for q, i in keys)
    (root / "retrieval_solution_v2.1.csv").write_text(table + "zzz,,Ignored\n")
    return root


def test_landmarks(tmp_path, monkeypatch):
    monkeypatch.setattr("covis.evaluation.benchmarks.retrieval.CHUNK", 2)
    rows = run(run_landmarks, landmarks(tmp_path), Settings(matcher="nearest", max_keypoints=300))
    [row] = rows.values()
    assert (row.part, row.items) == ("private", 3)
    # Found or not, each right one is among the first three.
    assert 100 / 3 <= row.figures["mAP@100"] <= 100


def recognition(root):
    """Query abd3 shows no landmark; of the pictures of train/ abc9 is in no table."""
    landmarks(root)
    (root / "index").rename(root / "train")
    trees.write(root / "train" / "a" / "b" / "c" / "abc9.jpg", trees.views(0)[1])
    trees.write(root / "test" / "a" / "b" / "d" / "abd3.jpg", trees.views(7)[0])
    (root / "train.csv").write_text("id,url,landmark_id\nabc0,,5\nabc1,,6\nabc2,,7\ngone,,8\n")
    (root / "recognition_solution_v2.1.csv").write_text(
        "id,landmarks,Usage\nabd0,5,Private\nabd1,6,Private\nabd2,1 7,Private\nabd3,,Private\n"
    )
    return root


def test_recognition(tmp_path):
    """Copies of training pictures, which are sure, come before the query without a landmark."""
    recognition(tmp_path)
    for seed in range(3):
        copy = tmp_path / "train" / "a" / "b" / "c" / f"abc{seed}.jpg"
        shutil.copy(copy, tmp_path / "test" / "a" / "b" / "d" / f"abd{seed}.jpg")
    rows = run(run_recognition, tmp_path)
    [row] = rows.values()
    assert (row.protocol, row.part, row.items) == ("recognition", "private", 4)
    assert row.figures == {"micro-AP": pytest.approx(100)}
    (tmp_path / "train.csv").write_text("id,url,landmark_id\nabc0,,9\nabc1,,9\nabc2,,9\n")
    [row] = run(run_recognition, tmp_path).values()
    assert row.figures == {"micro-AP": 0}


def test_exception_recognition_without_its_training_pictures(tmp_path):
    recognition(tmp_path)
    (tmp_path / "train.csv").write_text("id,url,landmark_id\nabc0,,x\n")
    with pytest.raises(ArgumentError, match=r"train.csv, line 2: landmark_id must be a whole"):
        run(run_recognition, tmp_path)
    (tmp_path / "train.csv").write_text("id,url,landmark_id\ngone,,8\n")
    with pytest.raises(ArgumentError, match=r"train: no pictures a/b/c/ID.jpg of train.csv"):
        run(run_recognition, tmp_path)
    (tmp_path / "train.csv").write_text("id,url\n")
    with pytest.raises(ArgumentError, match=r"must have the columns id and landmark_id"):
        run(run_recognition, tmp_path)


def test_exception_landmarks_without_a_query_s_picture(tmp_path):
    shutil.rmtree(landmarks(tmp_path) / "test" / "a" / "b" / "d")
    with pytest.raises(ArgumentError, match=r"abd0.jpg: the picture of a query is not there"):
        run(run_landmarks, tmp_path)


def test_exception_semi_dense_search(tmp_path):
    trees.queries(tmp_path)
    with pytest.raises(ArgumentError, match="'semi-dense' is not for search"):
        run(run_queries, tmp_path, Settings(matcher="semi-dense"))
