"""DAVIS-2017 in its published layout, and which frames and objects are counted."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

from covis.dense import DenseFeatures
from covis.errors import ArgumentError
from covis.evaluation.benchmarks import davis
from covis.evaluation.benchmarks.davis import Clip, read_davis, read_labels, score_clips


def write(folder, masks, frames, palette=True):
    """Masks (32, 32) and pictures of them: every label has its own grey."""
    for place in (masks, frames):
        place.mkdir(parents=True, exist_ok=True)
    for number, mask in enumerate(folder):
        image = PIL.Image.fromarray(mask)
        if palette:
            image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tolist())
        image.save(masks / f"{number:05}.png")
        PIL.Image.fromarray(mask * 40).convert("RGB").save(frames / f"{number:05}.jpg", quality=95)


def moving(frames):
    """An object of 8 x 8 pixels that stays, and one that goes 8 pixels a frame."""
    masks = np.zeros((frames, 32, 32), np.uint8)
    masks[:, :8, :8] = 1
    for number, mask in enumerate(masks):
        mask[24:, 8 * (number % 4) : 8 * (number % 4) + 8] = 2
    return masks


@pytest.fixture
def tree(tmp_path):
    (tmp_path / "ImageSets" / "2017").mkdir(parents=True)
    (tmp_path / "ImageSets" / "2017" / "val.txt").write_text("one\ntwo\n")
    for name in ("one", "two"):
        places = (tmp_path / kind / "480p" / name for kind in ("Annotations", "JPEGImages"))
        write(moving(4), *places)
    return tmp_path


def seen(source):
    """A pixel is described by its grey; all that are alike are the same."""
    labels = (np.asarray(PIL.Image.open(source).convert("L")) / 40).round().astype(int)
    return DenseFeatures(np.eye(3, dtype=np.float32)[labels], (1.0, 1.0), 32, 32, "-")


def test_clips(tree, tmp_path):
    first, second = read_davis(tree)
    assert (first.name, second.name) == ("one", "two")
    assert first.frames[2] == tree / "JPEGImages" / "480p" / "one" / "00002.jpg"
    assert first.masks[2] == tree / "Annotations" / "480p" / "one" / "00002.png"
    write(moving(3), tmp_path / "own" / "masks", tmp_path / "own" / "frames")
    (clip,) = read_davis(tmp_path / "own")
    assert (clip.name, len(clip.frames)) == ("own", 3)


def test_masks(tmp_path):
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    write([labels], tmp_path, tmp_path)
    assert read_labels(tmp_path / "00000.png").tolist() == [[0, 1], [2, 0]]
    write([labels], tmp_path, tmp_path, palette=False)
    assert read_labels(tmp_path / "00000.png").tolist() == [[0, 0], [0, 255]]


def test_carried_masks_are_whole(tree):
    """What looks the same is found again, both objects, in all frames."""
    scores = score_clips(list(read_davis(tree)), seen, threads=1)
    assert scores == pytest.approx({"J&F": 1, "J": 1, "F": 1})


def test_first_and_last_frames_do_not_count(tmp_path):
    """Of 4 frames the truth of the last is elsewhere; of the third, one of two objects is half."""
    masks = moving(4)
    places = tmp_path / "masks", tmp_path / "frames"
    write(masks, *places)
    masks[3] = 0
    masks[2, :8, 4:8] = 0
    write(masks, places[0], tmp_path / "unused")
    clip = Clip("-", *(tuple(sorted(place.iterdir())) for place in places[::-1]))
    scores = score_clips([clip], seen, threads=1)
    # Object 1: the second frame 1, the third 1/2; object 2: 1 and 1.
    assert scores["J"] == pytest.approx(((1 + 1 / 2) / 2 + 1) / 2)
    assert scores["J&F"] == pytest.approx((scores["J"] + scores["F"]) / 2)


def test_evaluate(tree):
    def model(lifts):
        return lambda image: seen(image.name)

    table = davis.evaluate(tree, model, every=2, variants=davis.VARIANTS[:1])
    assert table.items == 1
    assert table.rows[0].scores["J&F"] == pytest.approx(1)


def test_exceptions(tree, tmp_path):
    with pytest.raises(ArgumentError, match=r"val.txt: no list of clips .*DAVIS-2017-trainval"):
        list(read_davis(tmp_path / "nothing"))
    (tree / "Annotations" / "480p" / "two" / "00001.png").unlink()
    with pytest.raises(ArgumentError, match=r"two: 4 frames \(\*.jpg\), and 3 masks"):
        list(read_davis(tree))
    write(np.zeros((3, 32, 32), np.uint8), tmp_path / "own" / "masks", tmp_path / "own" / "frames")
    with pytest.raises(ArgumentError, match=r"00000.png: shows no object"):
        score_clips(list(read_davis(tmp_path / "own")), seen)
