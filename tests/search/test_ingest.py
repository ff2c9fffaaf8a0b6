"""Adding: what is skipped, replaced, refused; kills; two at once."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from covis.errors import ArgumentError, ImageError
from covis.images.picture_files import walk_pictures
from covis.search import Index
from covis.search.ingest import LocalEngine

PHOTOS = ("0.png", "1.png", "2.png", "3.png", "deeper/4.png", "deeper/5.png")
Count = Callable[[], int]
Scene = Callable[..., NDArray[np.uint8]]
Write = Callable[[Path, NDArray[np.uint8]], Path]


def stored(index: Index) -> dict[str, str]:
    """Content by path, of a store that is whole."""
    assert index.verify().problems == []
    rows = index.store.files.to_table(filter="content IS NOT NULL").to_pylist()
    return {row["path"]: row["content"] for row in rows}


def test_every_picture_is_added_at_any_depth(index: Index, photos: Path) -> None:
    told: list[tuple[str, str]] = []
    added = index.add([photos], report=lambda path, why: told.append((path, why)))
    paths = sorted(str(path) for path in photos.rglob("*.png"))
    assert (added.added, added.failed, len(index)) == (6, {}, 6)
    assert sorted(stored(index)) == sorted(path for path, _ in told) == paths


@pytest.mark.parametrize("kind", [str, Path])
def test_a_single_path_is_no_list_of_characters(index: Index, photos: Path, kind: type) -> None:
    """The characters "/" and "." of a string stand for folders that hold everything."""
    assert index.add(kind(photos)).added == 6
    removed = index.remove(kind(photos / "0.png"))
    assert removed.files == [str(photos / "0.png")]
    assert removed.unknown == []
    assert len(index) == 5


def test_exception_for_an_empty_path(filled: Index) -> None:
    with pytest.raises(ArgumentError, match="empty path"):
        filled.remove("")
    with pytest.raises(ArgumentError, match="empty path"):
        filled.add([""])
    assert len(filled) == 6


def test_a_second_run_reads_nothing_again(
    filled: Index, photos: Path, extracted: Count, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = stored(filled)
    monkeypatch.setattr("covis.search.ingest._hashed", None)
    added = filled.add([photos])
    assert (added.added, added.unchanged, added.copies) == (0, 6, 0)
    assert stored(filled) == before
    assert extracted() == 0


def test_a_touched_or_moved_file_is_not_extracted_again(
    filled: Index, photos: Path, extracted: Count
) -> None:
    filled.add([photos])
    count = extracted()
    os.utime(photos / "0.png", (1, 1))
    (photos / "1.png").rename(photos / "moved.png")
    added = filled.add([photos])
    assert (added.added, added.copies, added.unchanged) == (0, 2, 4)
    assert extracted() == count
    found = filled.verify()
    assert (found.gone, found.changed) == ([str(photos / "1.png")], [])


def test_copies_share_one_picture(
    index: Index, tmp_path: Path, write: Write, scene: Scene, extracted: Count
) -> None:
    for name in ("a/x.png", "b/x.png", "b/y.png"):
        write(tmp_path / name, scene(1))
    added = index.add([tmp_path / "a", tmp_path / "b"])
    # One more is the image that the store's model is told by.
    assert (added.added, added.copies, len(index), extracted()) == (1, 2, 1, 2)
    assert len(set(stored(index).values())) == 1


def test_a_changed_file_replaces_its_former_self(
    filled: Index, photos: Path, write: Write, scene: Scene
) -> None:
    before = stored(filled)
    write(photos / "0.png", scene(99))
    added = filled.add([photos])
    after = stored(filled)
    assert (added.added, added.replaced, len(filled)) == (1, 1, 6)
    assert {path for path in before if before[path] != after[path]} == {str(photos / "0.png")}


def test_a_changed_copy_leaves_the_other(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    folder = tmp_path / "p"
    write(folder / "a.png", scene(1))
    write(folder / "b.png", scene(1))
    index.add([folder])
    write(folder / "a.png", scene(2))
    assert index.add([folder]).replaced == 0
    assert len(index) == len(set(stored(index).values())) == 2


def test_bad_files_are_told_kept_and_tried_again(
    index: Index, photos: Path, write: Write, scene: Scene
) -> None:
    good = (photos / "0.png").read_bytes()
    (photos / "0.png").write_bytes(good[:200])
    (photos / "1.png").write_bytes(b"")
    added = index.add([photos])
    assert added.added == 4
    assert sorted(added.failed) == [str(photos / "0.png"), str(photos / "1.png")]
    assert index.failures() == added.failed
    assert "cut short" in added.failed[str(photos / "0.png")]
    (photos / "0.png").write_bytes(good)
    added = index.add([photos])
    assert (added.added, list(index.failures())) == (1, [str(photos / "1.png")])


def test_a_file_that_was_good_and_is_bad_now_loses_its_picture(filled: Index, photos: Path) -> None:
    (photos / "0.png").write_bytes(b"no picture")
    assert filled.add([photos]).replaced == 1
    assert (len(filled), str(photos / "0.png") in stored(filled)) == (5, False)


def test_a_picture_without_features_is_stored(index: Index, tmp_path: Path, write: Write) -> None:
    write(tmp_path / "p" / "grey.png", np.full((40, 40, 3), 128, np.uint8))
    assert index.add([tmp_path / "p"]).added == 1
    assert len(stored(index)) == 1


def test_a_name_that_is_no_utf8_is_told(index: Index, photos: Path) -> None:
    name = os.fsencode(photos) + b"/bad\xff.png"
    try:
        with open(name, "wb") as file:
            file.write((photos / "0.png").read_bytes())
    except OSError:
        pytest.skip("this file system takes no such name")
    added = index.add([photos])
    shown = f"{photos}/bad\\xff.png"
    assert added.added == 6
    assert added.failed == {shown: f"{shown}: its name is not valid UTF-8; rename it."}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes with names here")
def test_a_pipe_does_not_stop_a_run(index: Index, photos: Path) -> None:
    os.mkfifo(photos / "pipe.jpg")
    added = index.add([photos])
    assert (added.added, list(added.failed)) == (6, [str(photos / "pipe.jpg")])
    assert "is a pipe or a device" in added.failed[str(photos / "pipe.jpg")]


def test_folders_that_are_left_out_are_told(index: Index, photos: Path, scene: Scene) -> None:
    (photos / "@eaDir").mkdir()
    (photos / "@eaDir" / "0.png").write_bytes((photos / "0.png").read_bytes())
    assert index.add([photos]).left_out == [
        f"{photos / '@eaDir'} is left out: thumbnails or deleted files of a storage box."
    ]
    assert sorted(stored(index)) == sorted(str(photos / name) for name in PHOTOS)


def test_a_picture_without_memory_for_its_features_does_not_stop_a_run(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from covis.features.extractor import Extractor

    def check(self, image) -> None:
        if image.name.endswith("3.png"):
            raise ImageError(f"{image.name}: too large")

    index._make()
    monkeypatch.setattr(Extractor, "_check_memory", check)
    added = index.add([photos])
    assert (added.added, added.failed) == (
        5,
        {str(photos / "3.png"): f"{photos / '3.png'}: too large"},
    )


def test_exception_for_a_path_that_is_not_there(index: Index, photos: Path) -> None:
    with pytest.raises(ArgumentError, match="no such file or folder"):
        index.add([photos, photos / "none"])
    assert not Path(index.uri).exists()


def test_exception_for_a_folder_without_pictures(index: Index, tmp_path: Path) -> None:
    (tmp_path / "p" / "deeper").mkdir(parents=True)
    (tmp_path / "p" / "notes.txt").touch()
    with pytest.raises(ArgumentError, match=r"/p: no pictures there \(.*\.jpg"):
        index.add(iter([tmp_path / "p"]))
    assert not Path(index.uri).exists()


def test_exception_for_a_store_of_other_settings(filled: Index, photos: Path) -> None:
    with pytest.raises(ArgumentError, match="max keypoints 200 then, 100 now"):
        Index(filled.uri, features="sift", max_keypoints=100).add([photos])
    assert Index(filled.uri).add([photos]).unchanged == 6


def test_an_interrupted_run_keeps_what_it_found(
    index: Index, photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(path: str, why: str) -> None:
        if path.endswith("3.png"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index.add([photos], report=interrupt)
    assert 0 < len(stored(index)) < 6
    index.add([photos])
    assert len(stored(index)) == len(index) == 6


ADD = """
import sys
from covis.search import Index
from covis.search.ingest import LocalEngine, add
index = Index(sys.argv[2], features="sift", max_keypoints=100)
index._make()
print("ready", flush=True)
add(index.store, [sys.argv[1]], LocalEngine(index._extractor), commit=2)
"""


def many_photos(folder: Path, write: Write, scene: Scene, count: int = 40) -> None:
    for number in range(count):
        write(folder / f"{number:02}.png", scene(number % (count - 5), 60, 80))


def start(folder: Path, store: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", ADD, str(folder), str(store)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def count_stored(store: Path) -> int:
    return int(Index(store).store.images.count_rows())


def check_whole(folder: Path, store: Path, count: int = 40) -> None:
    index = Index(store)
    index.add([folder])
    contents = stored(index)
    assert len(contents) == count
    assert len(index) == len(set(contents.values())) == count - 5


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_kills_lose_nothing_and_double_nothing(tmp_path: Path, write: Write, scene: Scene) -> None:
    many_photos(tmp_path / "p", write, scene)
    before = 0
    for _ in range(3):
        process = start(tmp_path / "p", tmp_path / "s")
        while process.poll() is None and count_stored(tmp_path / "s") == before:
            time.sleep(0.002)
        time.sleep(random.uniform(0.0, 0.02))
        process.kill()
        process.wait()
        count = count_stored(tmp_path / "s")
        assert count > before
        before = count
    check_whole(tmp_path / "p", tmp_path / "s")


def test_killed_between_the_two_tables(
    tmp_path: Path, write: Write, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures without files: not there for anyone, and named by the next run."""
    many_photos(tmp_path / "p", write, scene, 10)
    index = Index(tmp_path / "s", features="sift", max_keypoints=100)
    index._make()

    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("covis.search.store._among", killed)
        with pytest.raises(Killed):
            index.store.commit(*described_by(index, tmp_path / "p"))
    index = Index(tmp_path / "s")
    assert (index.store.images.count_rows(), index.store.files.count_rows()) == (5, 0)
    assert len(index.verify().problems) == 5
    check_whole(tmp_path / "p", tmp_path / "s", 10)


def described_by(index: Index, folder: Path):
    """What a run would commit."""
    from covis.search.ingest import _hashed, _Run

    run = _Run(index.store, LocalEngine(index._extractor), None, 100)
    files = [
        _hashed(file) for file in run._unknown(walk_pictures([folder]), np.empty(0, np.uint64))
    ][:5]
    pairs = list(LocalEngine(index._extractor)(iter(files)))
    return [described for _, described in pairs], [file for file, _ in pairs]


def test_two_processes_at_once_store_each_picture_once(
    tmp_path: Path, write: Write, scene: Scene
) -> None:
    many_photos(tmp_path / "p", write, scene)
    processes = [start(tmp_path / "p", tmp_path / "s") for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    index = Index(tmp_path / "s")
    contents = stored(index)
    assert (len(contents), len(index)) == (40, 35)


def test_removing_files_and_folders(filled: Index, photos: Path) -> None:
    none = str(photos / "none.png")
    removed = filled.remove([photos / "deeper", photos / "0.png", none, str(photos)[:-1]])
    assert sorted(removed.files) == [
        str(photos / name) for name in ("0.png", "deeper/4.png", "deeper/5.png")
    ]
    assert removed.unknown == [none, str(photos)[:-1]]
    assert sorted(stored(filled)) == [str(photos / f"{i}.png") for i in (1, 2, 3)]
    assert len(filled) == 3
    assert filled.add([photos]).added == 3


def test_removing_one_of_two_copies_keeps_the_picture(
    index: Index, tmp_path: Path, write: Write, scene: Scene
) -> None:
    a, b = (write(tmp_path / "p" / name, scene(1)) for name in ("a.png", "b.png"))
    index.add([a, b])
    assert index.remove([a]).files == [str(a)]
    assert (list(stored(index)), len(index)) == ([str(b)], 1)
    b.unlink()
    assert index.remove(missing=True).files == [str(b)]
    assert len(index) == 0


def test_verify_names_what_is_wrong_and_repairs(filled: Index, photos: Path) -> None:
    content = stored(filled)[str(photos / "0.png")]
    other = stored(filled)[str(photos / "1.png")]
    filled.store.images.delete(f"content = '{content}'")
    filled.store.files.delete(f"content = '{other}'")
    with (photos / "2.png").open("ab") as file:
        file.write(b"more")
    (photos / "3.png").unlink()
    found = filled.verify()
    assert found.problems == [
        f"{photos / '0.png'}: its picture is missing; add it again.",
        f"picture {other} has no file; 'covis verify --repair' removes it.",
    ]
    assert (found.gone, found.changed) == ([str(photos / "3.png")], [str(photos / "2.png")])
    assert len(filled.verify(repair=True).problems) == 1
    assert filled.add([photos]).added == 3
    assert filled.verify().problems == []


def test_verify_finds_a_vector_and_a_keypoint_out_of_range(filled: Index) -> None:
    import pyarrow as pa

    table = filled.store.images
    rows = table.to_table().to_pylist()[:2]
    rows[0]["vector"] = [2 * value for value in rows[0]["vector"]]
    rows[1]["keypoints"][0] = [500.0, 1.0]
    rows[0]["checksum"] = rows[1]["checksum"] = None  # As in stores of older versions.
    table.merge_insert("content").when_matched_update_all().execute(
        pa.Table.from_pylist(rows, table.schema)
    )
    problems = filled.verify().problems
    assert any("global vector" in text and rows[0]["content"] in text for text in problems)
    assert any("outside" in text and rows[1]["content"] in text for text in problems)
    assert len(problems) == 2
