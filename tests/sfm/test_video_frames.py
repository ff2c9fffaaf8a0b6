"""Frames of videos in maps."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from helpers.corner import WALLS, look, render, texture

from covis.errors import ArgumentError, ImageError
from covis.sfm import Map, MapOptions, build_map
from covis.sfm.video_frames import drop_frames, find_videos, take_frames


def write(path, frames, rate=10.0):
    height, width = frames[0].shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), rate, (width, height))
    for frame in frames:
        video.write(frame)
    video.release()
    return path


def numbers(taken):
    return [int(path.stem) for path in taken]


@pytest.fixture(scope="module")
def pan(tmp_path_factory):
    """10 frames that stand still, 30 that move by 2 % of the width each, every fourth blurred."""
    wall = texture(5)
    frames = []
    for number in range(40):
        at = round(6.4 * max(0, number - 10))
        frame = wall[100:340, 50 + at : 370 + at]
        frames.append(cv2.blur(frame, (9, 9)) if number % 4 == 0 else frame)
    return write(tmp_path_factory.mktemp("pan") / "pan.avi", frames)


def test_a_frame_a_step_and_none_that_is_blurred(pan, tmp_path):
    taken = numbers(take_frames(pan, tmp_path, 100, None))
    assert taken[0] == 0
    assert taken[1] > 10
    assert not any(number % 4 == 0 for number in taken[1:])
    # A step is 5 %, three frames at most.
    assert max(np.diff(taken[1:])) <= 4
    assert 8 <= len(taken) <= 16


def test_no_more_than_asked_for(pan, tmp_path):
    taken = numbers(take_frames(pan, tmp_path, 5, None))
    assert len(taken) == 5
    assert taken[0] == 0
    assert taken[-1] > 30
    assert (tmp_path / f"pan.avi-{_digest(tmp_path)}").is_dir()


def test_so_many_a_second_and_the_sharpest(pan, tmp_path):
    taken = numbers(take_frames(pan, tmp_path, 100, 2.5))
    assert len(taken) == 10  # 4 seconds.
    assert [number // 4 for number in taken] == list(range(10))
    assert not any(number % 4 == 0 for number in taken)


def test_frames_are_taken_once_and_go_with_their_video(pan, tmp_path):
    video, folder = shutil.copyfile(pan, tmp_path / "clip.avi"), tmp_path / "frames"
    taken = take_frames(video, folder, 5, None)
    before = [path.stat().st_mtime_ns for path in taken]
    again = take_frames(video, folder, 5, None)
    assert [path.stat().st_mtime_ns for path in again] == before
    assert len(take_frames(video, folder, 4, None)) == 4
    drop_frames(folder)
    assert len(list(folder.iterdir())) == 1
    video.unlink()
    drop_frames(folder)
    assert list(folder.iterdir()) == []


def test_a_picture_of_nothing_is_taken_once(tmp_path):
    dark = write(tmp_path / "dark.avi", [np.zeros((48, 64, 3), np.uint8)] * 30)
    assert numbers(take_frames(dark, tmp_path / "frames", 100, None)) == [0]


def test_videos_of_a_folder(tmp_path):
    for name in ("b.MP4", "sub/a.avi", ".hidden/c.mov", "map/frames/d.mp4", "e.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_videos(tmp_path, [tmp_path / "map"])
    assert found == [tmp_path / "b.MP4", tmp_path / "sub" / "a.avi"]


@pytest.mark.parametrize("content", [b"", b"just words", b"#EXTM3U\nhttp://localhost/a.ts\n"])
def test_exception_for_what_is_no_video(tmp_path, content, colmap):
    (tmp_path / "a.mp4").write_bytes(content)
    with pytest.raises(ImageError, match=r"a\.mp4 is no video that covis can read"):
        take_frames(tmp_path / "a.mp4", tmp_path / "frames", 5, None)
    with pytest.raises(ImageError, match="is no video"):
        build_map(tmp_path / "a.mp4", tmp_path / "map")


def test_a_video_is_mapped(scene, colmap, tmp_path):
    textures = [texture(seed) for seed in range(len(WALLS))]
    frames = []
    for angle in np.radians(np.linspace(-20, 20, 13)):
        centre = np.array([4.0 * np.sin(angle), -0.3, 2.0 - 4.0 * np.cos(angle)])
        frames.append(render(look(centre, np.array([0, -0.3, 2.0])), centre, textures))
    clip = write(tmp_path / "clip.avi", frames)
    out = tmp_path / "map"
    options = MapOptions(max_keypoints=600, pairs="sequential", overlap=3)
    summary = build_map(clip, out, options=options)
    assert summary.registered == summary.photos == summary.videos["clip.avi"] >= 6
    assert len(Map.open(out).reconstruction.cameras) == 1
    # Photos and videos of a folder together; what is damaged is told.
    photos = shutil.copytree(scene.folder, tmp_path / "photos")
    shutil.move(clip, photos / "clip.avi")
    (photos / "bad.mp4").write_bytes(b"words")
    summary = build_map(photos, tmp_path / "both", options=MapOptions(max_keypoints=600))
    assert summary.photos == 7 + summary.videos["clip.avi"]
    assert summary.registered == summary.photos
    assert list(summary.failed) == [str(photos / "bad.mp4")]
    assert "clip.avi: " in summary.changes()[0]


def test_exceptions_of_options():
    for wrong in ({"video_frames": 0}, {"video_rate": 0}, {"video_rate": "fast"}):
        with pytest.raises(ArgumentError, match=next(iter(wrong))):
            MapOptions(**wrong)


def _digest(folder):
    (record,) = folder.glob("*/video.json")
    return json.loads(record.read_text())["content"][:8]
