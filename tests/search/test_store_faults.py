"""Stores after kills, beside other writers, in threads and forks, on bad disks; how they grow."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lance
import numpy as np
import pytest
from numpy.typing import NDArray
from test_store import IDENTITY, described

from covis.errors import CovisError
from covis.search import Index
from covis.search import store as stores
from covis.search.ingest import LocalEngine, add
from covis.search.store import File, Store

Scene = Callable[..., NDArray[np.uint8]]
Write = Callable[[Path, NDArray[np.uint8]], Path]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("covis.search.integrity.SECONDS", 0.0)


def leave_unnamed(index: Index, content: str = "left") -> None:
    """What a run leaves that is killed between its two commits."""
    identity = index.store.identity
    row = described(content, 5, dimension=identity.descriptor, vector=identity.vector)
    index.store.commit([row], [])
    assert index.store.unnamed() == {content}


def doubled(store: Store, name: str) -> None:
    """A row of a table twice, as two writers once could leave it."""
    table = getattr(store, name)
    lance.write_dataset(table.to_table(limit=1), f"{store.uri}/{name}.lance", mode="append")
    store.refresh()


@pytest.mark.parametrize("how", ["add", "remove"])
def test_pictures_without_names_are_dropped(filled: Index, photos: Path, how: str) -> None:
    leave_unnamed(filled)
    if how == "add":
        filled.add([photos])
    else:
        filled.remove([photos / "0.png"])
    assert filled.verify().problems == []
    assert len(filled) == (6 if how == "add" else 5)


def test_a_picture_named_while_it_is_dropped_stays(
    filled: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run names it after it was looked for, and before it is deleted."""
    leave_unnamed(filled)
    store, other = filled.store, Store.open(filled.uri)
    before = store.images.count_rows()
    latest = store._latest

    def named_meanwhile(name: str):
        table = latest(name)
        if name == "images" and other.unnamed():
            other.commit([], [File("/x.png", 1, 2, "left")])
        return table

    with monkeypatch.context() as patch:
        patch.setattr(store, "images", store.images)
        unnamed = store.unnamed()
        patch.setattr(store, "unnamed", lambda: unnamed)
        patch.setattr(store, "_latest", named_meanwhile)
        assert store.drop_unnamed() == 0
    store.refresh()
    assert store.images.count_rows() == before
    assert store.without_picture() == []


def test_repair_mends_doubled_rows(filled: Index) -> None:
    doubled(filled.store, "images")
    doubled(filled.store, "files")
    problems = filled.verify().problems
    assert len(problems) == 2
    assert all("is stored twice" in problem for problem in problems)
    assert filled.verify(repair=True).problems == []
    assert (len(filled), filled.info().files) == (6, 6)


def test_an_original_that_goes_while_its_copy_is_added(filled: Index, photos: Path) -> None:
    """The content is there when it is looked up, and gone when the copy's name is committed."""
    (photos / "copy.png").write_bytes((photos / "0.png").read_bytes())
    (photos / "new.png").write_bytes((photos / "1.png").read_bytes() + b" ")
    engine = LocalEngine(filled._extractor)

    def removing(files):
        for pair in engine(files):
            Index(filled.uri).remove([photos / "0.png"])
            yield pair

    paths = [photos / "copy.png", photos / "new.png"]
    added = add(filled.store, paths, removing)
    assert (added.added, added.copies, added.failed) == (1, 1, {})
    assert filled.verify().problems == []
    (hit, *_) = filled.search(photos / "copy.png", budget=None).hits
    assert hit.path == str(photos / "copy.png")


def test_verify_beside_an_add_reports_nothing(
    filled: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run is between its two commits."""
    leave_unnamed(filled)

    def finish(_: float) -> None:
        Store.open(filled.uri).commit([], [File("/x.png", 1, 2, "left")])

    monkeypatch.setattr("covis.search.integrity.time.sleep", finish)
    assert filled.verify().problems == []


def test_verify_finds_flipped_bits(tmp_path: Path) -> None:
    store = Store.make(tmp_path / "s", IDENTITY)
    rows = [described(str(i), 200, i) for i in range(8)]
    store.commit(rows, [File(f"/{row.content}", 1, 2, row.content) for row in rows])
    whole = store.images.to_table().to_pylist()
    (data,) = (tmp_path / "s" / "images.lance" / "data").iterdir()
    content, rng = data.read_bytes(), random.Random(0)
    found = 0
    for _ in range(12):
        changed = bytearray(content)
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
        data.write_bytes(changed)
        try:
            problems = Index(tmp_path / "s").verify().problems
            rest = Store.open(tmp_path / "s").images.to_table().to_pylist()
        except CovisError:
            found += 1
            continue
        # What lies between the columns is nobody's data.
        assert bool(problems) == (rest != whole)
        found += bool(problems)
    assert found >= 10


def test_a_store_of_the_first_format_is_read_and_added_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = stores._image_schema
    with monkeypatch.context() as patch:
        patch.setattr(stores, "FORMAT", 1)
        patch.setattr(stores, "_image_schema", lambda identity: schema(identity).remove(10))
        Store.make(tmp_path / "s", IDENTITY)
    store = Store.make(tmp_path / "s", IDENTITY)
    assert "checksum" not in store.images.schema.names
    store.commit([described("a")], [File(str(tmp_path), 1, 2, "a")])
    assert Index(tmp_path / "s").verify().problems == []


@pytest.mark.parametrize("share", [0.0, 0.5])
@pytest.mark.parametrize("what", ["data", "_versions"])
def test_a_damaged_table_is_told_in_one_line(filled: Index, what: str, share: float) -> None:
    for path in (Path(filled.uri) / "images.lance" / what).iterdir():
        content = path.read_bytes()
        path.write_bytes(content[: int(len(content) * share)])
    for call in (lambda i: i.info(), lambda i: i.verify(), lambda i: len(i), lambda i: i.load()):
        try:
            call(Index(filled.uri))
        except CovisError as error:
            assert filled.uri in str(error)  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017


def test_threads_share_an_index(filled: Index, photos: Path, scene: Scene, write: Write) -> None:
    """Seven of them search while the eighth adds and removes."""
    queries = sorted(photos.rglob("*.png"))
    wrong: list[str] = []

    def search(number: int) -> None:
        try:
            for at in range(6):
                query = queries[(number + at) % len(queries)]
                hits = filled.search(query, 1, budget=None).hits
                if [hit.path for hit in hits] != [str(query)]:
                    wrong.append(f"{query}: {hits}")
        except Exception as error:
            wrong.append(repr(error))

    def change() -> None:
        try:
            for number in range(3):
                path = write(photos.parent / "more" / f"{number}.png", scene(20 + number))
                filled.add([path])
                filled.remove([path])
        except Exception as error:
            wrong.append(repr(error))

    threads = [threading.Thread(target=search, args=(number,)) for number in range(7)]
    threads.append(threading.Thread(target=change))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert wrong == []
    assert len(filled) == 6


FORK = """
import os, sys, warnings
warnings.simplefilter("ignore")
from covis.errors import CovisError
from covis.search import Index
index = Index(sys.argv[1])
print(index.search(sys.argv[2], 1, budget=None).hits[0].path, flush=True)
if (child := os.fork()) == 0:
    for use in (lambda: index.search(sys.argv[2], 1), lambda: Index(sys.argv[1])):
        try:
            use()
        except CovisError as error:
            print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
print(len(index), flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_child_is_told_that_it_can_use_no_store(filled: Index, photos: Path) -> None:
    query = str(photos / "2.png")
    command = [sys.executable, "-c", FORK, filled.uri, query]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    lines = done.stdout.splitlines()
    assert (lines[0], lines[-1]) == (query, "6"), done.stderr
    assert len(lines) == 4
    for line in lines[1:3]:
        assert line.startswith(f"{filled.uri}: this process was forked after its parent had opened")


def test_many_small_commits_pile_nothing_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.make(tmp_path / "s", IDENTITY)
    first = [described(f"old{i}", 40, i) for i in range(150)]
    store.commit(first, [File(f"/{row.content}", 1, 2, row.content) for row in first])
    written: list[int] = []
    compact = stores._compact
    largest = max(f.metadata.num_rows for f in store.images.get_fragments())

    def counted(table) -> None:
        before = {f.metadata.id for f in table.get_fragments()}
        compact(table)
        written.extend(
            f.metadata.num_rows
            for f in lance.dataset(table.uri).get_fragments()
            if f.metadata.id not in before
        )

    monkeypatch.setattr(stores, "_compact", counted)
    for number in range(70):
        store.commit([described(str(number), 40, number)], [File(f"/{number}", 1, 2, str(number))])
        store.tidy()
    assert store.images.count_rows() == 220
    assert len(store.images.get_fragments()) <= stores.MANY_FRAGMENTS + 1
    assert any(f.metadata.num_rows == largest for f in store.images.get_fragments())
    assert sum(written) < 2 * 220  # Both tables; the first 150 rows were left alone.


def test_old_versions_go_sooner_where_they_outweigh_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "KEPT_AT_LEAST", stores.timedelta(0))
    monkeypatch.setattr(stores, "MANY_FRAGMENTS", 3)
    store = Store.make(tmp_path / "s", IDENTITY)
    for number in range(24):
        store.commit([described(str(number), 200, number)], [File("/x", 1, 2, str(number))])
        store.drop_unnamed()
        store.tidy()
    live, everything = store.sizes()
    assert everything < 2 * live + 100_000
    assert len(store.images.versions()) < 24


def test_removed_pictures_are_really_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("KEPT", "KEPT_AT_LEAST"):
        monkeypatch.setattr(stores, name, stores.timedelta(0))
    store = Store.make(tmp_path / "s", IDENTITY)
    rows = [described(str(i), 100, i) for i in range(6)]
    store.commit(rows, [File(f"/{row.content}", 1, 2, row.content) for row in rows])
    secret = rows[2].features.scores.tobytes()

    def there() -> bool:
        folder = tmp_path / "s" / "images.lance" / "data"
        return any(secret in path.read_bytes() for path in folder.iterdir())

    assert there()
    store.remove(["/2"])
    store.tidy()
    assert not there()


def test_all_indices_take_up_new_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stores, "VECTOR_INDEX_FROM", 100)
    monkeypatch.setattr(stores, "LOOKED_UP_FROM", 100)
    store = Store.make(tmp_path / "s", IDENTITY)
    for begin in (0, 300):
        rows = [described(str(i), 1, i) for i in range(begin, begin + 300)]
        store.commit(rows, [File(f"/{row.content}", 1, 2, row.content) for row in rows])
        store.tidy()
    for table, names in (
        (store.images, {"vector_idx", "content_idx"}),
        (store.files, {"path_idx", "content_idx"}),
    ):
        assert stores._indices(table) == names
        for name in names:
            assert table.stats.index_stats(name)["num_unindexed_rows"] == 0


def test_a_lost_race_for_an_index_ends_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores, "VECTOR_INDEX_FROM", 0)
    store = Store.make(tmp_path / "s", IDENTITY)
    store.commit([described("a")], [File("/a", 1, 2, "a")])

    def lost(*_: object) -> None:
        raise OSError("Retryable commit conflict for version 3")

    monkeypatch.setattr(stores, "_index_column", lost)
    store.tidy()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("LanceError(IO): No space left on device (os error 28)", "the disk is full; free some"),
        ("Permission denied (os error 13), x.rs:1", "may not write there; change the rights"),
        ("Read-only file system (os error 30)", "may not write there"),
        ("Unable to link: Operation not permitted (os error 1)", "no hard links, which a store"),
        ("Operation not supported (os error 95)", "no hard links"),
        ("Resource temporarily unavailable (os error 11)", "no more threads or files; raise"),
        (
            "called `Result::unwrap()` on an `Err` value: Os { code: 11, kind: WouldBlock, "
            'message: "Resource temporarily unavailable" }',
            "no more threads or files",
        ),
    ],
)
def test_what_the_system_refuses_is_told(text: str, told: str) -> None:
    with pytest.raises(CovisError, match=told) as error, stores.reported("S"):
        raise OSError(text)
    assert "restore" not in str(error.value)


def test_a_panic_of_the_library_is_one_line() -> None:
    panic = type("PanicException", (BaseException,), {})
    told = r"S: the store cannot be used \(index out of bounds\)"
    with pytest.raises(CovisError, match=told), stores.reported("S"):
        raise panic("index out of bounds")


def test_what_an_empty_store_would_take(tmp_path: Path, photos: Path) -> None:
    Store.make(tmp_path / "s", IDENTITY)
    stored, memory = Index(tmp_path / "s").info().forecast(1000)
    assert stored == 1000 * (1000 * 76 + 4 * 512 + 256)
    assert memory == 1000 * (4 * 512 + 256)


def test_what_may_not_be_read_is_not_missing(
    filled: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "1.png").unlink()
    look = os.stat

    def refuse(path, **options):
        if os.fspath(path).endswith("0.png"):
            raise PermissionError(13, "Permission denied")
        return look(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "stat", refuse)
        removed = filled.remove(missing=True)
    assert removed.files == [str(photos / "1.png")]


def test_exception_for_a_store_that_names_a_folder_for_its_model(tmp_path: Path) -> None:
    Store.make(tmp_path / "s", replace(IDENTITY, features=str(tmp_path / "model")))
    with pytest.raises(CovisError, match="names a folder for its model"):
        Index(tmp_path / "s").load()


@pytest.mark.parametrize("k", [0, 10**20, 2.5])
def test_exception_for_a_number_of_hits_that_cannot_be(filled: Index, photos: Path, k) -> None:
    with pytest.raises(CovisError, match="k must be"):
        filled.search(photos / "0.png", k)
