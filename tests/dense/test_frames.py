"""Frames from folders and videos, and working ahead."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from covis.dense import Frames, ahead
from covis.errors import ArgumentError, ImageError


def grey(value):
    return np.full((48, 64, 3), value, np.uint8)


def test_a_folder_by_name(tmp_path):
    for name, value in (("b.png", 20), ("a.jpg", 10), ("c.PNG", 30)):
        cv2.imwrite(str(tmp_path / name), grey(value))
    (tmp_path / "notes.txt").write_text("-")
    (tmp_path / ".hidden.png").write_bytes(b"")
    frames = Frames.open(tmp_path, max_size=32)
    assert frames.count == 3
    read = list(frames)
    assert [name for name, _ in read] == ["a", "b", "c"]
    assert [image.pixels.mean().round() for _, image in read] == [10, 20, 30]
    assert read[0][1].pixels.shape == (24, 32, 3)
    assert (read[0][1].width, read[0][1].height) == (64, 48)


def test_numbers_in_names_go_by_their_value(tmp_path):
    names = ["frame-2", "frame-10", "frame-9", "1", "b", "02", "a12b3", "a12b20"]
    for name in names:
        cv2.imwrite(str(tmp_path / f"{name}.png"), grey(9))
    assert [name for name, _ in Frames.open(tmp_path)] == [
        "1", "02", "a12b3", "a12b20", "b", "frame-2", "frame-9", "frame-10",
    ]  # fmt: skip


def test_a_video(tmp_path):
    path = tmp_path / "clip.avi"
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    for value in (40, 80, 120):
        frame = grey(value)
        frame[..., 2] += 50
        video.write(frame)
    video.release()
    frames = Frames.open(path)
    assert frames.count == 3
    read = list(frames)
    assert [name for name, _ in read] == ["00000", "00001", "00002"]
    for (_, image), value in zip(read, (40, 80, 120), strict=True):
        np.testing.assert_allclose(image.pixels.mean((0, 1)), (value + 50, value, value), atol=4)


@pytest.mark.parametrize("count", [1, 3])
def test_ahead_keeps_the_order_and_works_elsewhere(count):
    here, threads = threading.get_ident(), set()

    def items():
        for n in range(5):
            threads.add(threading.get_ident())
            yield n

    assert list(ahead(items(), count)) == [0, 1, 2, 3, 4]
    assert here not in threads


def test_ahead_passes_errors_on_where_they_belong():
    def items():
        yield 1
        raise ImageError("broken")

    found = ahead(items())
    assert next(found) == 1
    with pytest.raises(ImageError, match="broken"):
        next(found)


def test_exceptions(tmp_path):
    with pytest.raises(ArgumentError, match="no pictures in it"):
        Frames.open(tmp_path)
    with pytest.raises(ArgumentError, match="none: no such folder or file"):
        Frames.open(tmp_path / "none")
    (tmp_path / "a.mp4").write_bytes(b"no video")
    with pytest.raises(ImageError, match=r"a\.mp4 is no video that covis can read"):
        Frames.open(tmp_path / "a.mp4")
