"""What is stored, and what it costs."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pytest

from covis.errors import ArgumentError, CovisError
from covis.features.extractor import Extractor
from covis.search import Index
from covis.search.pooling import POOLED_DIMENSION, global_vector, pool
from covis.search.store import (
    THUMBNAIL,
    File,
    Identity,
    ImageRecord,
    Store,
    probes,
    quantised,
    restored,
)
from covis.types import Features

IDENTITY = Identity("m", "w", 1000, 960, True, 64, POOLED_DIMENSION)


def unit_rows(rng: np.random.Generator, count: int, dimension: int) -> np.ndarray:
    rows = rng.standard_normal((count, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def described(
    content: str, count: int = 10, seed: int = 0, dimension: int = 64, vector: int = 0
) -> ImageRecord:
    rng = np.random.default_rng(seed)
    features = Features(
        keypoints=(rng.random((count, 2)) * (640, 480)).astype(np.float32),
        scores=rng.random(count).astype(np.float32),
        descriptors=unit_rows(rng, count, dimension),
        width=640,
        height=480,
        model="m",
    )
    thumbnail = rng.integers(0, 256, (16, 16)).astype(np.uint8)
    whole = unit_rows(rng, 1, vector)[0] if vector else global_vector(features)
    return ImageRecord(content, 1, None, thumbnail, whole, features)


def test_features_come_back_as_they_were_stored(tmp_path: Path) -> None:
    store = Store.make(tmp_path / "s", IDENTITY)
    rows = [described("a", 10, 1), described("b", 0, 2), described("c", 7, 3)]
    store.commit(rows, [File(f"/{row.content}.jpg", 1, 2, row.content) for row in rows])
    ids, vectors = Store.open(tmp_path / "s").vectors()
    found = dict(store.features(ids.tolist()))
    for row in rows:
        features = found[row.content]
        np.testing.assert_array_equal(features.keypoints, row.features.keypoints)
        np.testing.assert_array_equal(features.scores, row.features.scores)
        cosines = (features.descriptors * row.features.descriptors).sum(axis=1)
        assert (cosines > 0.9998).all()
        assert (features.width, features.height, features.model) == (640, 480, "m")
    by_content = dict(zip(store.column(store.images, "content"), vectors, strict=True))
    np.testing.assert_array_equal(by_content["c"], rows[2].vector)
    assert not by_content["b"].any()


def test_quantised_descriptors_use_the_full_range_and_come_back_of_unit_length() -> None:
    rows = unit_rows(np.random.default_rng(0), 500, 64)
    codes = quantised(rows)
    assert (np.abs(codes).max(axis=1) == 127).all()
    largest = np.abs(rows).max(axis=1, keepdims=True)
    assert (np.abs(codes * (largest / 127) - rows) <= largest / 254 + 1e-6).all()
    back = restored(codes)
    np.testing.assert_allclose(np.linalg.norm(back, axis=1), 1, atol=1e-6)
    assert ((back * rows).sum(axis=1) > 0.9998).all()


def test_quantised_zeros_stay_zeros() -> None:
    assert not restored(quantised(np.zeros((2, 8), np.float32))).any()


def test_quantising_keeps_nearly_all_matches(shared: Path) -> None:
    from covis.matching.nearest import mutual_nearest

    extract = Extractor(max_keypoints=1000)
    folder = shared / "data" / "homography" / "graf"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    images = sorted(folder.glob("*.[pj]*g"))[:2]
    one, other = (extract(image) for image in images)
    exact, _ = mutual_nearest(one.descriptors, other.descriptors)
    coarse, _ = mutual_nearest(one.descriptors, restored(quantised(other.descriptors)))
    kept = {tuple(pair) for pair in exact.tolist()} & {tuple(pair) for pair in coarse.tolist()}
    assert len(kept) > 0.95 * len(exact) > 100


def test_a_thousand_features_take_less_than_100_kilobytes(tmp_path: Path) -> None:
    store = Store.make(tmp_path / "s", IDENTITY)
    rows = [described(str(i), 1000, i) for i in range(32)]
    store.commit(rows, [File(f"/{row.content}", 1, 2, row.content) for row in rows])
    live, everything = store.sizes()
    assert live <= everything < 32 * 100_000


def test_a_key_is_stored_once(tmp_path: Path) -> None:
    store = Store.make(tmp_path / "s", IDENTITY)
    for _ in range(2):
        store.commit([described("a")], [File("/a", 1, 2, "a")])
    assert (store.images.count_rows(), store.files.count_rows()) == (1, 1)


def test_two_stores_at_one_address_insert_one_key_once(tmp_path: Path) -> None:
    """Both at the same version: the one that comes second sees what the first one did."""
    one, other = (Store.make(tmp_path / "s", IDENTITY) for _ in range(2))
    one.commit([described("a"), described("b")], [File("/a", 1, 2, "a"), File("/b", 1, 2, "b")])
    other.commit([described("b"), described("c")], [File("/b", 1, 2, "b"), File("/c", 1, 2, "c")])
    one.refresh()
    assert sorted(one.column(one.images, "content")) == ["a", "b", "c"]
    assert sorted(one.column(one.files, "path")) == ["/a", "/b", "/c"]


def test_a_commit_tells_which_contents_its_files_had_before(tmp_path: Path) -> None:
    store = Store.make(tmp_path / "s", IDENTITY)
    assert store.commit([described("a")], [File("/x", 1, 2, "a"), File("/o'y", 1, 2, "a")]) == set()
    assert store.commit([described("b")], [File("/x", 2, 3, "b")]) == {"a"}
    assert store.drop_unnamed({"a"}) == 0
    store.commit([], [File("/o'y", 1, 2, "b")])
    assert store.drop_unnamed({"a"}) == 1
    assert store.present(["a", "b"]) == {"b"}


def test_tidying_joins_fragments_and_keeps_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covis.search.store.MANY_FRAGMENTS", 3)
    store = Store.make(tmp_path / "s", IDENTITY)
    for i in range(4):
        store.commit([described(str(i), 5, i)], [File(f"/{i}", 1, 2, str(i))])
    before = dict(store.features(store.vectors()[0].tolist()))
    store.tidy()
    assert len(store.images.get_fragments()) == 1
    after = dict(store.features(store.vectors()[0].tolist()))
    assert sorted(after) == sorted(before)
    for content, features in after.items():
        np.testing.assert_array_equal(features.keypoints, before[content].keypoints)


def test_the_vector_index_finds_what_a_product_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covis.search.store.VECTOR_INDEX_FROM", 100)
    store = Store.make(tmp_path / "s", replace(IDENTITY, vector=16))
    vectors = unit_rows(np.random.default_rng(1), 300, 16)
    rows = [
        replace(described(str(i), 1, i), vector=vector) for i, vector in enumerate(vectors[:299])
    ]
    store.commit(rows, [File(f"/{row.content}", 1, 2, row.content) for row in rows])
    store.tidy()
    assert any(index.name == "vector_idx" for index in store.images.describe_indices())
    # A row that came after the index is found all the same.
    store.commit([replace(described("late", 1), vector=vectors[299])], [])
    found, similarity = store.nearest(vectors[299], 3)
    assert store.take(found.tolist(), ["content"])["content"][0].as_py() == "late"
    assert similarity[0] == pytest.approx(1, abs=0.01)
    found, _ = store.nearest(vectors[7], 1)
    assert store.take(found.tolist(), ["content"])["content"].to_pylist() == ["7"]


def test_files_and_pictures_are_looked_up_with_indices_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("covis.search.store.LOOKED_UP_FROM", 3)
    store = Store.make(tmp_path / "s", IDENTITY)
    rows = [described(str(i), 1, i) for i in range(5)]
    files = [File(f"/it's {row.content}", 1, 2, row.content) for row in rows]
    store.commit(rows[:4], files[:4])
    before = [store.at(file.path, ["size", "content"]) for file in files]
    assert before == [*({"size": 1, "content": str(i)} for i in range(4)), None]
    store.tidy()
    assert {index.name for index in store.files.describe_indices()} == {"path_idx", "content_idx"}
    store.commit(rows[4:], files[4:])  # The index does not know it yet.
    for row, file in zip(rows, files, strict=True):
        assert store.at(file.path, ["content"]) == {"content": row.content}
        assert store.named([row.content], ["path"]) == [{"path": file.path}]
        place = store.row(row.content)
        assert place is not None
        assert store.take([place], ["content"])["content"][0].as_py() == row.content
    assert store.at("/nowhere", ["path"]) is None
    assert store.row("none") is None


def test_searches_look_into_enough_of_the_vector_index() -> None:
    """Of vectors spread as those of photos half of 447 partitions have 99.5 % of the 100 nearest,
    all of them 99.9 %."""
    assert [probes(rows) for rows in (100_001, 1_000_000, 9_000_000)] == [1024, 1024, 1500]


def test_two_writers_store_a_picture_once_with_indices_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lance 14 looks for doubled keys through an index on the key, and then misses those that
    another process has just written."""
    monkeypatch.setattr("covis.search.store.LOOKED_UP_FROM", 100)
    store = Store.make(tmp_path / "s", replace(IDENTITY, vector=16))
    vectors = unit_rows(np.random.default_rng(1), 310, 16)
    rows = [replace(described(str(i), 1, i), vector=vector) for i, vector in enumerate(vectors)]
    files = [File(f"/{row.content}", 1, 2, row.content) for row in rows]
    store.commit(rows[:300], files[:300])
    store.tidy()
    assert any("content" in str(index.name) for index in store.images.describe_indices())
    writers = [Store.open(tmp_path / "s") for _ in range(2)]
    for writer in writers:
        writer.commit(rows[300:], files[300:])
    after = Store.open(tmp_path / "s")
    assert after.images.count_rows() == 310
    assert after.files.count_rows() == 310


def test_lancedb_s_layout(tmp_path: Path) -> None:
    """A table is a folder NAME.lance, as LanceDB has them."""
    Store.make(tmp_path / "s", IDENTITY)
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == ["files.lance", "images.lance"]
    assert lance.dataset(str(tmp_path / "s" / "images.lance")).count_rows() == 0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"features": "other"}, r"\(features m then, other now\)"),
        ({"features": "other", "weights": "", "vector": 8}, r"\(features m then, other now\)"),
        ({"weights": "", "pooled": False, "vector": 8}, r"\(weights w then, none now\)"),
        ({"max_keypoints": 5}, r"\(max keypoints 1000 then, 5 now\)"),
        (
            {"pooled": False, "vector": 8},
            r"\(pooled True then, False now; vector 512 then, 8 now\)",
        ),
    ],
)
def test_exception_for_another_model(tmp_path: Path, change: dict[str, object], told: str) -> None:
    Store.make(tmp_path / "s", IDENTITY)
    with pytest.raises(ArgumentError, match=told + r"\. Use the same, or make a new store"):
        Store.make(tmp_path / "s", replace(IDENTITY, **change))


def test_exception_where_there_is_no_store(tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no store there; make one: covis add"):
        Store.open(tmp_path / "none")
    assert not (tmp_path / "none").exists()


def test_exception_for_a_folder_with_other_things(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(ArgumentError, match="holds other things"):
        Store.make(tmp_path, IDENTITY)
    with pytest.raises(ArgumentError, match="is a file"):
        Store.make(tmp_path / "photo.jpg", IDENTITY)


def test_exception_for_tables_of_something_else(tmp_path: Path) -> None:
    import pyarrow as pa

    lance.write_dataset(pa.table({"x": [1]}), str(tmp_path / "images.lance"))
    with pytest.raises(CovisError, match="are not covis'"):
        Store.find(tmp_path)


def test_exception_for_a_newer_format(tmp_path: Path) -> None:
    Store.make(tmp_path / "s", IDENTITY)
    table = lance.dataset(str(tmp_path / "s" / "images.lance"))
    values = json.loads(table.schema.metadata[b"covis"])
    table.update_schema_metadata({"covis": json.dumps({**values, "format": 99})})
    with pytest.raises(CovisError, match="has format 99"):
        Store.find(tmp_path / "s")


def test_pooling_tells_scenes_apart_and_needs_no_order() -> None:
    rng = np.random.default_rng(0)
    base = unit_rows(rng, 200, 32)
    scores = rng.random(200).astype(np.float32)
    vector = pool(base, scores)
    order = rng.permutation(200)
    np.testing.assert_allclose(pool(base[order], scores[order]), vector, atol=1e-5)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-6)
    skewed = base * np.linspace(0.1, 2, 32, dtype=np.float32)
    near = base + 0.05 * rng.standard_normal(base.shape).astype(np.float32)
    assert vector @ pool(near, scores) > vector @ pool(skewed, scores)


def test_pooling_takes_the_square_root_of_the_second_moment(monkeypatch) -> None:
    """By hand: half of the weight on each axis of two, so the root is 1/sqrt(2) on the diagonal."""
    monkeypatch.setattr("covis.search.pooling.POOLED_DIMENSION", 3)
    monkeypatch.setattr("covis.search.pooling._projection", lambda size: np.eye(size, dtype="f"))
    vector = pool(np.array([[1, 0], [0, 1]], np.float32), np.array([2, 2], np.float32))
    np.testing.assert_allclose(vector, [2**-0.5, 0, 2**-0.5], atol=1e-6)
    vector = pool(np.array([[0.6, 0.8]], np.float32), np.array([1], np.float32))
    np.testing.assert_allclose(vector, [0.36, 0.48 * 2**0.5, 0.64], atol=1e-6)


def test_a_model_s_own_global_vector_is_taken() -> None:
    own = np.array([0, 1, 0], np.float32)
    assert global_vector(replace(described("a").features, global_descriptor=own)) is own


def test_info_counts_and_forecasts(filled: Index, photos: Path) -> None:
    (photos / "bad.jpg").write_bytes(b"no picture")
    filled.add([photos])
    info = filled.info()
    assert (info.images, info.files, info.failed) == (6, 6, 1)
    files = [path for path in Path(filled.uri).rglob("*") if path.is_file()]
    assert info.everything == sum(path.stat().st_size for path in files)
    assert info.stored == sum(p.stat().st_size for p in files if p.parent.name == "data")
    assert info.memory == 6 * (4 * POOLED_DIMENSION + THUMBNAIL**2)
    assert info.forecast(600) == (100 * info.stored, 100 * info.memory)
    assert list(filled.failures()) == [str(photos / "bad.jpg")]


def test_an_address_is_taken_as_it_is(tmp_path: Path) -> None:
    """As s3:// would be: Lance opens it, nothing here looks at the disk."""
    address = (tmp_path / "s").as_uri() + "/"
    store = Store.make(address, IDENTITY)
    store.commit([described("a")], [File("/a", 1, 2, "a")])
    assert Store.open(tmp_path / "s").present(["a"]) == {"a"}
    assert store.uri == address.rstrip("/")
