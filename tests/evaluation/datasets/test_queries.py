import json
from pathlib import Path

import PIL.Image
import pytest

from covis.errors import ArgumentError
from covis.evaluation.datasets.queries import read_queries

ENTRY = {"query": "far/q.png", "relevant": ["b.png", "a.png", "b.png"]}


def write(folder, content):
    for name in ("db/a.png", "db/b.png", "db/more/a.png", "queries/far/q.png"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.new("L", (8, 8)).save(folder / name)
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / "queries.json").write_text(text, "utf-8")
    return folder


def test_right_answers_are_indices_into_the_database(tmp_path):
    found = read_queries(write(tmp_path, [ENTRY, ENTRY | {"relevant": ["more/a.png"]}]))
    assert found.name == tmp_path.name
    assert found.database == tuple(tmp_path / "db" / n for n in ("a.png", "b.png", "more/a.png"))
    assert found.queries == (tmp_path / "queries/far/q.png",) * 2
    assert found.relevant == ({0, 1}, {2})


def test_a_query_may_have_no_right_answer(tmp_path):
    assert read_queries(write(tmp_path, [ENTRY | {"relevant": []}])).relevant == (frozenset(),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not JSON"),
        ("[]", "holds no list of queries"),
        ("{}", "holds no list of queries"),
        ([3], "query 0: must have"),
        ([ENTRY, {"query": "far/q.png"}], "query 1: must have"),
        ([ENTRY | {"query": 3}], "query 0: must have"),
        ([ENTRY | {"relevant": "b.png"}], "query 0: must have"),
        ([ENTRY | {"relevant": [3]}], "query 0: must have"),
        ([ENTRY | {"query": "q.png"}], r"query 0: the picture .*queries.q\.png is not there"),
        ([ENTRY | {"relevant": ["c.png"]}], r"query 0: the picture .*db.c\.png is not there"),
    ],
)
def test_exception_malformed(tmp_path, content, message):
    with pytest.raises(ArgumentError, match=message) as caught:
        read_queries(write(tmp_path, content))
    assert str(tmp_path / "queries.json") in str(caught.value)


def test_exception_missing_folder(tmp_path):
    with pytest.raises(ArgumentError, match="no list of queries to read"):
        read_queries(tmp_path / "nowhere")


DATA = Path(__file__).resolve().parents[4] / "shared" / "data" / "retrieval"


@pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is not there")
def test_the_shared_sets_can_be_read():
    museum, tower = (read_queries(DATA / name) for name in ("museum", "tower"))
    assert (len(museum.database), len(museum.queries)) == (287, 60)
    assert (len(tower.database), len(tower.queries)) == (341, 74)
    assert all(museum.relevant)
    # Relevant is what lies on the same floor, which the names begin with.
    for query, relevant in zip(tower.queries, tower.relevant, strict=True):
        assert {tower.database[i].name[:3] for i in relevant} == {query.name[:3]}
