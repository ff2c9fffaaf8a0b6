"""Several stores searched as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.search import Index

Pixels = NDArray[np.uint8]
Scene = Callable[..., Pixels]
Write = Callable[[Path, Pixels], Path]


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, scene: Scene, write: Write) -> list[str]:
    """Three scenes in one store, three and one of the others in another; and all in a third."""
    folder = tmp_path_factory.mktemp("stores")
    for number in range(6):
        write(folder / ("a" if number < 3 else "b") / f"{number}.png", scene(number))
    write(folder / "b" / "again.png", scene(1))
    uris = [str(folder / name) for name in ("a.covis", "b.covis", "all.covis")]
    for uri, photos in zip(uris, (["a"], ["b"], ["a", "b"]), strict=True):
        Index(uri, features="sift", max_keypoints=200).add([folder / name for name in photos])
    return uris


def photo(stores: list[str], name: str) -> Path:
    return Path(stores[0]).parent / name


def told(found) -> list[tuple[str, int, float]]:
    return [(hit.path, hit.inliers, round(hit.similarity, 5)) for hit in found.hits]


@pytest.mark.parametrize("name", ["a/2.png", "b/4.png"])
def test_two_stores_answer_as_one_would(stores: list[str], name: str) -> None:
    both, whole = Index(stores[:2]), Index(stores[2])
    assert (len(both), len(whole)) == (7, 6)
    found = both.search(photo(stores, name), 6, budget=None)
    expected = whole.search(photo(stores, name), 6, budget=None)
    assert told(found) == told(expected)
    assert found.hits[0].path == str(photo(stores, name))
    assert [hit.store for hit in found.hits] == [stores["/b/" in hit.path] for hit in found.hits]
    assert {hit.store for hit in expected.hits} == {stores[2]}


def test_what_is_in_both_stores_is_one_hit(stores: list[str]) -> None:
    found = Index(stores[:2]).search(photo(stores, "a/1.png"), 3, budget=None)
    assert len(found.certain) == 1
    hit = found.hits[0]
    assert (hit.path, hit.copies) == (
        str(photo(stores, "a/1.png")),
        (str(photo(stores, "b/again.png")),),
    )
    assert hit.to_dict()["store"] == hit.store == stores[0]


def test_a_mirrored_copy_is_found_in_either_store(stores: list[str], scene: Scene) -> None:
    both = Index(stores[:2])
    for number, store in ((2, stores[0]), (5, stores[1])):
        found = both.search(np.ascontiguousarray(scene(number)[:, ::-1, ::-1]), 1, budget=None)
        assert (found.hits[0].mirrored, found.hits[0].store) == (True, store)


def test_stores_with_an_index_and_without_are_searched_together(
    stores: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    names = "a/0.png", "b/5.png"
    exact = [Index(stores[:2]).search(photo(stores, name), 6, budget=None) for name in names]
    monkeypatch.setattr("covis.search.store.VECTOR_INDEX_FROM", 3)
    Index(stores[1]).store.tidy()
    both = Index(stores[:2])
    assert [store.has_vector_index() for store in both._searched.stores] == [False, True]
    for name, expected in zip(names, exact, strict=True):
        found = both.search(photo(stores, name), 6, budget=None)
        assert found.hits[0].path == expected.hits[0].path == str(photo(stores, name))
        assert {hit.path for hit in found.hits} == {hit.path for hit in expected.hits}


def test_exception_for_what_cannot_be_searched_together(stores: list[str], tmp_path: Path) -> None:
    other = Index(tmp_path / "x.covis", max_keypoints=100)
    other.add([photo(stores, "a")])
    with pytest.raises(ArgumentError, match=r"a.covis and .*x.covis hold different features \(fea"):
        Index([stores[0], other.uri])
    with pytest.raises(ArgumentError, match="no store there"):
        Index([stores[0], tmp_path / "none"])
    with pytest.raises(ArgumentError, match="no store was given"):
        Index([])
    both = Index(stores[:2])
    for call in (both.info, both.duplicates, both.verify, lambda: both.add(photo(stores, "a"))):
        with pytest.raises(ArgumentError, match="are searched together; all else is of one"):
            call()
