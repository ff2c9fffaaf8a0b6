"""Photographs with labels, in the layouts they come in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from covis.errors import TrainingError
from covis.training.data.image_labels import read_csv, read_folders, read_unlabelled


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def by_name(found):
    return {p.name: found.classes[i] for p, i in zip(found.paths, found.labels, strict=True)}


def test_without_labels_each_is_its_own(tmp_path):
    found = read_unlabelled(make(tmp_path, "a/1.jpg", "b/1.jpg", "2.png", "notes.txt"))
    assert len(found) == len(found.classes) == 3
    assert sorted(found.labels.tolist()) == [0, 1, 2]


def test_folders_are_classes(tmp_path):
    found = read_folders(make(tmp_path, "cat/1.jpg", "cat/2.jpg", "dog/small/3.jpg", "4.jpg"))
    assert by_name(found) == {"1.jpg": "cat", "2.jpg": "cat", "3.jpg": "dog/small"}


def test_csv(tmp_path):
    images = make(tmp_path / "images", "a.jpg", "b/c.png", "d.jpg")
    table = tmp_path / "labels.csv"
    table.write_text("id,label,image\n1,tower,a.jpg\n2,bridge,b/c.png\n3,tower,gone.jpg\n")
    assert by_name(read_csv(images, table)) == {"a.jpg": "tower", "c.png": "bridge"}
    table.write_text("path,class\na.jpg,1\nd.jpg,1\nb/c.png,2\n")
    assert by_name(read_csv(images, table)) == {"a.jpg": "1", "d.jpg": "1", "c.png": "2"}


def test_gldv2(tmp_path):
    """train.csv has a line a picture, train_clean.csv a line a landmark."""
    images = make(tmp_path / "train", "a/b/c/abc1.jpg", "a/b/c/abc2.jpg", "0/f/9/0f9d.jpg")
    table = tmp_path / "train.csv"
    table.write_text("id,url,landmark_id\nabc1,http://x,7\n0f9d,http://y,12\nabc2,http://z,7\n")
    expected = {"abc1.jpg": "7", "abc2.jpg": "7", "0f9d.jpg": "12"}
    assert by_name(read_csv(images, table)) == expected
    table.write_text("landmark_id,images\n7,abc1 abc2\n12,0f9d\n")
    assert by_name(read_csv(images, table)) == expected


def test_some_of_them(tmp_path):
    found = read_folders(make(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg", "c/4.jpg"))
    some = found.only(np.array([1, 3]))
    assert [p.name for p in some.paths] == ["2.jpg", "4.jpg"]
    assert some.classes == ("b", "c")
    assert some.labels.tolist() == [0, 1]


def test_exception_no_pictures(tmp_path):
    for read in (read_unlabelled, read_folders):
        with pytest.raises(TrainingError, match="no pictures to learn from"):
            read(tmp_path)


def test_exception_one_folder(tmp_path):
    with pytest.raises(TrainingError, match=r"pictures in one folder only \('a'\)"):
        read_folders(make(tmp_path, "a/1.jpg", "a/2.jpg"))


@pytest.mark.parametrize("text", ["", "name,kind\na.jpg,1\n", "image\na.jpg\n"])
def test_exception_other_columns(tmp_path, text):
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(TrainingError, match="needed are 'image' and 'label'"):
        read_csv(make(tmp_path, "a.jpg"), tmp_path / "labels.csv")


def test_exception_none_is_there(tmp_path):
    (tmp_path / "labels.csv").write_text("image,label\nx.jpg,1\n")
    with pytest.raises(TrainingError, match=r"none of its 1 pictures is under .* Check --photos"):
        read_csv(tmp_path, tmp_path / "labels.csv")


def test_exception_no_table(tmp_path):
    with pytest.raises(TrainingError, match=r"labels\.csv: cannot be read as CSV"):
        read_csv(tmp_path, tmp_path / "labels.csv")
