"""Boxes: readers of the published layouts, IoU, CorLoc and AP by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import PIL.Image
import pytest

from covis.errors import ArgumentError
from covis.evaluation.datasets.boxes import (
    Detections,
    LabelledImage,
    average_precision,
    localised,
    overlaps,
    read_coco20k,
    read_voc07,
    read_yolo,
)

XML = """<annotation><filename>{name}.jpg</filename><size><width>9</width></size>{objects}
</annotation>"""
OBJECT = """<object><name>{0}</name><difficult>1</difficult><bndbox><xmin>{1}</xmin>
<ymin>{2}</ymin><xmax>{3}</xmax><ymax>{4}</ymax></bndbox><part><name>head</name>
<bndbox><xmin>1</xmin></bndbox></part></object>"""


@pytest.fixture
def voc(tmp_path):
    root = tmp_path / "VOCdevkit" / "VOC2007"
    (root / "ImageSets" / "Main").mkdir(parents=True)
    (root / "Annotations").mkdir()
    (root / "ImageSets" / "Main" / "trainval.txt").write_text("000005\n000007\n")
    objects = {
        "000005": OBJECT.format("dog", 1, 1, 10, 20) + OBJECT.format("cat", 3, 4, 5, 6),
        "000007": OBJECT.format("dog", 2, 2, 3, 3),
    }
    for name, each in objects.items():
        text = XML.format(name=name, objects=each)
        (root / "Annotations" / f"{name}.xml").write_text(text)
    return root


def test_voc07(voc):
    for folder in (voc, voc.parent, voc.parent.parent):
        first, second = read_voc07(folder)
        assert first.path == voc / "JPEGImages" / "000005.jpg"
        # Pixels 1 to 10 and 1 to 20 span 10 x 20 of them.
        np.testing.assert_array_equal(first.boxes, [[0, 0, 10, 20], [2, 3, 5, 6]])
        np.testing.assert_array_equal(first.labels, [1, 0])
        np.testing.assert_array_equal(second.labels, [1])


def test_exception_voc07(voc, tmp_path):
    with pytest.raises(ArgumentError, match=r"trainval.txt: no list .* VOCtrainval_06-Nov-2007"):
        list(read_voc07(tmp_path / "nowhere"))
    path = voc / "Annotations" / "000007.xml"
    path.write_text(XML.format(name="x", objects="<object><name>dog</name></object>"))
    with pytest.raises(ArgumentError, match=r"000007.xml: no annotation of VOC"):
        list(read_voc07(voc))
    path.unlink()
    with pytest.raises(ArgumentError, match=r"000007.xml: no annotation to read"):
        list(read_voc07(voc))


def test_coco20k(tmp_path):
    (tmp_path / "annotations").mkdir()
    entries = [
        {"image_id": 9, "category_id": 3, "bbox": [1, 2, 10, 20], "iscrowd": 0},
        {"image_id": 9, "category_id": 1, "bbox": [0, 0, 99, 99], "iscrowd": 1},
        {"image_id": 8, "category_id": 1, "bbox": [0, 0, 5, 5], "iscrowd": 0},
    ]
    annotations = tmp_path / "annotations" / "instances_train2014.json"
    annotations.write_text(json.dumps({"annotations": entries}))
    names = [f"train2014/COCO_train2014_{number:012d}.jpg" for number in (9, 7)]
    (tmp_path / "coco_20k_filenames.txt").write_text("\n".join(names))
    first, second = read_coco20k(tmp_path)
    assert first.path == tmp_path / "train2014" / "COCO_train2014_000000000009.jpg"
    np.testing.assert_array_equal(first.boxes, [[1, 2, 11, 22]])
    np.testing.assert_array_equal(first.labels, [3])
    assert second.boxes.shape == (0, 4)
    annotations.write_text("[]")
    with pytest.raises(ArgumentError, match="not COCO's annotations"):
        list(read_coco20k(tmp_path))
    annotations.unlink()
    with pytest.raises(ArgumentError, match=r"instances_train2014.json: cannot be read"):
        list(read_coco20k(tmp_path))
    with pytest.raises(ArgumentError, match=r"coco_20k_filenames.txt: no list .*train2014.zip"):
        list(read_coco20k(tmp_path / "annotations"))


def test_yolo(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for name in "ab":
        PIL.Image.new("RGB", (100, 50)).save(tmp_path / "images" / f"{name}.png")
    labels = tmp_path / "labels" / "a.txt"
    labels.write_text("2 0.5 0.5 0.2 0.4\n\n0 0.1 0.2 0.2 0.4\n")
    first, second = read_yolo(tmp_path / "images", tmp_path / "labels")
    np.testing.assert_allclose(first.boxes, [[40, 15, 60, 35], [0, 0, 20, 20]], atol=1e-9)
    np.testing.assert_array_equal(first.labels, [2, 0])
    assert len(second.boxes) == 0
    labels.write_text("2 0.5 0.5 0.2\n")
    with pytest.raises(ArgumentError, match=r"a.txt, line 1: not a class and four numbers"):
        list(read_yolo(tmp_path / "images", tmp_path / "labels"))
    with pytest.raises(ArgumentError, match=r"labels: holds no pictures. Give a folder"):
        list(read_yolo(tmp_path / "labels", tmp_path / "labels"))
    with pytest.raises(ArgumentError, match=r"nothing: no such folder"):
        list(read_yolo(tmp_path / "images", tmp_path / "nothing"))


def test_overlaps_by_hand():
    boxes = [[0, 0, 2, 2], [5, 5, 5, 5]]
    others = [[0, 0, 2, 2], [1, 1, 3, 3], [2, 0, 4, 2], [5, 5, 5, 5]]
    np.testing.assert_allclose(overlaps(boxes, others), [[1, 1 / 7, 0, 0], [0, 0, 0, 0]])
    assert overlaps([], others).shape == (0, 4)


def test_localised_from_a_half_on():
    truth = np.array([[0, 0, 10, 10], [50, 50, 60, 60]], float)
    assert localised([0, 0, 10, 5], truth)
    assert not localised([0, 0, 10, 4.9], truth)
    assert localised([50, 50, 60, 60], truth)
    assert not localised([0, 0, 1, 1], np.empty((0, 4)))


def image(*objects):
    boxes = np.array([box for box, _ in objects], float).reshape(-1, 4)
    return LabelledImage(Path("x"), boxes, np.array([label for _, label in objects], int))


def detections(*found):
    boxes = np.array([box for box, _, _ in found], float).reshape(-1, 4)
    labels, scores = (np.array([each[i] for each in found]) for i in (1, 2))
    return Detections(boxes, labels.astype(int), scores.astype(float))


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (40, 0, 50, 10)


def test_average_precision_by_hand():
    truth = [image((A, 0), (B, 0)), image((A, 0))]
    # Surest first: right, wrong (taken already), right; one of three is not found.
    found = [detections((A, 0, 0.9), (A, 0, 0.8)), detections((A, 0, 0.7))]
    # Precision 1 at recall 1/3, 2/3 at 2/3, 0 beyond.
    assert average_precision(found, truth) == pytest.approx((1 + 2 / 3) / 3)
    # The wrong one last does no harm.
    found = [detections((A, 0, 0.9), (C, 0, 0.1)), detections((A, 0, 0.7))]
    assert average_precision(found, truth) == pytest.approx(2 / 3)


def test_precision_beyond_a_recall_counts():
    """Wrong, right, right: 1/2 and 2/3 become 2/3 and 2/3."""
    truth = [image((A, 0), (B, 0))]
    found = [detections((C, 0, 0.9), (A, 0, 0.8), (B, 0, 0.7))]
    assert average_precision(found, truth) == pytest.approx(2 / 3)


def test_classes_weigh_the_same():
    truth = [image((A, 0), (B, 1), (C, 1))]
    # Class 0 is found as class 1; of class 1 one of two is found, behind it. Class 7 has no object.
    found = [detections((A, 1, 0.9), (B, 1, 0.8), (C, 7, 0.95))]
    assert average_precision(found, truth) == pytest.approx((0 + (1 / 2) / 2) / 2)


def test_the_next_best_object_is_taken():
    """Both overlap the left one more; it is taken by the surer, the other takes what is left."""
    truth = [image(((0, 0, 10, 10), 0), ((2, 0, 12, 10), 0))]
    found = [detections(((0, 0, 10, 10), 0, 0.9), ((0.5, 0, 10.5, 10), 0, 0.8))]
    assert average_precision(found, truth) == 1


def test_without_objects_or_detections():
    assert math.isnan(average_precision([detections()], [image()]))
    assert average_precision([detections()], [image((A, 0))]) == 0
