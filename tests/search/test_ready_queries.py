"""Pictures that are made ready before they are searched for, and those that the store knows."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from covis.errors import ArgumentError, ImageError
from covis.search import Index, queries, retrieve


@pytest.fixture(scope="module")
def index(tmp_path_factory, scene, write) -> Index:
    folder = tmp_path_factory.mktemp("queries")
    for number in range(4):
        write(folder / "photos" / f"{number}.png", scene(number, 240, 320))
    index = Index(folder / "store", features="sift", max_keypoints=300)
    index.add(folder / "photos")
    return index


@pytest.fixture
def query(index, tmp_path, scene, write) -> Path:
    """A file that is not in the store: a part of one that is."""
    return write(tmp_path / "query.png", scene(2, 240, 320)[20:220, 30:300])


@pytest.fixture
def read(monkeypatch) -> list[object]:
    """Which pictures are read, and which part of them."""
    found: list[object] = []
    region_of = retrieve._region_of

    def told(source, region, max_size):
        found.append((Path(source).name, region))
        return region_of(source, region, max_size)

    monkeypatch.setattr(retrieve, "_region_of", told)
    return found


def answer(found):
    return [(hit.path, hit.similarity, hit.inliers) for hit in found.hits]


def test_what_was_made_ready_is_not_read_again_and_finds_the_same(index, query, read, scene, write):
    box = (10.0, 10.0, 200.0, 150.0)
    plain, part = Index(index.uri), Index(index.uri)
    expected = [answer(plain.search(query, region=each, budget=None)) for each in (None, box)]
    assert Path(expected[0][0][0]).name == "2.png"
    read.clear()
    for each in (None, box):
        part.prepare(query, region=each)
    assert read == [("query.png", None), ("query.png", box)]
    found = [part.search(str(query), region=each, budget=None) for each in (None, box)]
    assert [answer(each) for each in found] == expected
    assert len(read) == 2
    assert found[0].seconds["extract"] < 0.1 * plain.search(query, budget=None).seconds["total"]
    # What changed since is read as it is now.
    read.clear()
    write(query, scene(3, 240, 320)[:200])
    assert Path(part.search(query, budget=None).hits[0].path).name == "3.png"
    assert read == [("query.png", None)]


def test_a_search_waits_for_the_picture_that_is_being_made_ready(index, query, monkeypatch):
    index = Index(index.uri)
    index.load()
    begun, go = threading.Event(), threading.Event()
    region_of, count = retrieve._region_of, []

    def slowly(*given):
        count.append(given)
        begun.set()
        assert go.wait(10)
        return region_of(*given)

    monkeypatch.setattr(retrieve, "_region_of", slowly)
    ahead = threading.Thread(target=index.prepare, args=(query,))
    ahead.start()
    assert begun.wait(10)
    found = []
    search = threading.Thread(target=lambda: found.append(index.search(query, 1, budget=None)))
    search.start()
    go.set()
    ahead.join(10)
    search.join(10)
    assert [Path(hit.path).name for hit in found[0].hits] == ["2.png"]
    assert len(count) == 1


def test_few_are_kept_and_none_that_failed(index, query, tmp_path, read, monkeypatch):
    index = Index(index.uri)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for _ in range(2):
        with pytest.raises(ImageError, match=r"broken\.png"):
            index.prepare(tmp_path / "broken.png")
    with pytest.raises(ArgumentError, match="does not lie in"):
        index.prepare(query, region=(0, 0, 10_000, 10))
    monkeypatch.setattr(queries, "KEPT", 1)
    index.prepare(query)
    index.prepare(query, region=(0, 0, 100, 100))
    read.clear()
    index.search(query, region=(0, 0, 100, 100))
    index.search(query)
    assert read == [("query.png", None)]


def test_of_a_picture_of_the_store_the_most_similar_are_told_before_it_is_read(index, read):
    photo = Path(index.uri).parent / "photos" / "1.png"
    told = []
    found = index.search(
        photo, 3, budget=None, report=lambda some: told.append((len(read), answer(some)))
    )
    # The same twice: by what the store has, and by the picture.
    assert [before for before, _ in told[:2]] == [0, 1]
    first, second = (some for _, some in told[:2])
    assert [path for path, *_ in first] == [path for path, *_ in second]
    assert first[0] == (str(photo), pytest.approx(1, abs=1e-5), 0)
    assert [similarity for _, similarity, _ in first] == pytest.approx(
        [similarity for _, similarity, _ in second], abs=1e-5
    )
    assert found.hits[0].path == str(photo)
    assert found.hits[0].inliers > 50


def test_a_file_that_changed_since_it_was_added_is_read_first(index, read, scene, write, tmp_path):
    photo = write(tmp_path / "photo.png", scene(9, 240, 320))
    own = Index(tmp_path / "store", features="sift", max_keypoints=300)
    own.add([photo, Path(index.uri).parent / "photos"])
    write(photo, scene(1, 240, 320))
    before = []
    found = own.search(photo, 1, budget=None, report=lambda _: before.append(len(read)))
    assert before[0] == 1
    assert Path(found.hits[0].path).name == "1.png"
    # Of several stores the one that has it is asked.
    told = []
    other = Path(index.uri).parent / "photos" / "3.png"
    both = Index([own.uri, index.uri])
    read.clear()
    both.search(other, 1, budget=None, report=lambda some: told.append((len(read), answer(some))))
    assert told[0] == (0, [(str(other), pytest.approx(1, abs=1e-5), 0)])
