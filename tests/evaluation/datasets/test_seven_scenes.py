"""7-Scenes in both of its layouts."""

from __future__ import annotations

import json

import cv2
import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.datasets.seven_scenes import read_scene

# World from camera: a quarter turn about z, at (1, 2, 3).
POSE = np.array([[0, -1, 0, 1], [1, 0, 0, 2], [0, 0, 1, 3], [0, 0, 0, 1.0]])


def write_frame(folder, number):
    stem = folder / f"frame-{number:06}"
    cv2.imwrite(f"{stem}.color.png", np.full((48, 64, 3), number, np.uint8))
    depth = np.full((48, 64), 1500, np.uint16)
    depth[0, :3] = 0, 65535, 2500
    cv2.imwrite(f"{stem}.depth.png", depth)
    np.savetxt(f"{stem}.pose.txt", POSE)


@pytest.fixture
def published(tmp_path):
    for number, frames in ((1, 2), (3, 1)):
        folder = tmp_path / "heads" / f"seq-{number:02}"
        folder.mkdir(parents=True)
        for frame in range(frames):
            write_frame(folder, frame)
    (tmp_path / "heads/TrainSplit.txt").write_text("sequence1\n")
    (tmp_path / "heads/TestSplit.txt").write_text("sequence3\n\n")
    return tmp_path / "heads"


def test_published_layout(published):
    scene = read_scene(published)
    assert scene.name == "heads"
    names = ["seq-01/frame-000000.color.png", "seq-01/frame-000001.color.png"]
    assert [frame.name for frame in scene.train] == names
    assert [frame.name for frame in scene.test] == ["seq-03/frame-000000.color.png"]
    frame = scene.test[0]
    assert frame.path.is_file()
    np.testing.assert_allclose(frame.pose.position, [1, 2, 3])
    # The camera's x axis lies along the world's y.
    np.testing.assert_allclose(frame.pose.rotation @ [0, 1, 0], [1, 0, 0], atol=1e-9)
    assert frame.lens.params == (52.5, 52.5, 32, 24)
    depth = frame.depth()
    assert np.isnan(depth[0, :2]).all()
    assert depth[0, 2] == 2.5
    assert (depth[1:] == 1.5).all()


def test_layout_with_a_list_of_cameras(tmp_path):
    camera = {"K": [[50, 0, 31.5], [0, 50, 23.5], [0, 0, 1]]}
    camera["T_cam_from_world"] = np.linalg.inv(POSE).tolist()
    for number in range(5):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.zeros((48, 64), np.uint8))
    cameras = {f"{number}.png": camera for number in range(5)}
    (tmp_path / "cameras.json").write_text(json.dumps(cameras))
    scene = read_scene(tmp_path)
    assert [frame.name for frame in scene.train] == ["0.png", "2.png", "3.png"]
    assert [frame.name for frame in scene.test] == ["1.png", "4.png"]
    # Its pixels have the top-left one's centre at (0, 0).
    assert scene.train[0].lens.params == (50, 50, 32, 24)
    np.testing.assert_allclose(scene.train[0].pose.position, [1, 2, 3])


def test_shared_frames_have_depths_that_agree_with_their_poses(shared):
    """A point of one frame, by its depth, appears at that depth in the next one."""
    scene = read_scene(shared / "data" / "pose" / "7scenes")
    assert (len(scene.train), len(scene.test)) == (48, 24)
    one, other = scene.train[0], scene.test[0]
    depth, there = one.depth(), other.depth()
    y, x = (values.ravel()[::997] for values in np.mgrid[:480, :640])
    z = depth[y, x]
    flat = (np.column_stack([x, y]) + 0.5 - one.lens.centre) / one.lens.focal
    world = (np.column_stack([flat * z[:, None], z]) - one.pose.translation) @ one.pose.rotation
    local = world @ other.pose.rotation.T + other.pose.translation
    seen = local[:, :2] / local[:, 2:] * other.lens.focal + other.lens.centre
    inside = (seen > 0).all(1) & (seen < [640, 480]).all(1)
    column, row = seen[inside].astype(int).T
    gap = np.abs(there[row, column] - local[inside, 2])
    assert inside.sum() > 150
    assert np.nanmedian(gap) < 0.03


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("TrainSplit.txt", None, "TrainSplit.txt is missing"),
        ("TrainSplit.txt", "sequence7\n", "seq-07"),
        ("TestSplit.txt", "third\n", "sequence1"),
        ("TestSplit.txt", "", "sequence1"),
        ("seq-03/frame-000000.pose.txt", "1 2 3\n", "4 x 4"),
        ("seq-03/frame-000000.pose.txt", "a b\n", "pose"),
        ("seq-03/frame-000000.pose.txt", None, "pose"),
        ("seq-03/frame-000000.color.png", "text", "cannot be read"),
    ],
)
def test_exception_one_line_says_which_file(published, name, text, words):
    if text is None:
        (published / name).unlink()
    else:
        (published / name).write_text(text)
    with pytest.raises(ArgumentError, match=words) as caught:
        read_scene(published)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"a.png": {}}', '{"a.png": {"K": 3}}'])
def test_exception_no_list_of_cameras(tmp_path, text):
    (tmp_path / "cameras.json").write_text(text)
    with pytest.raises(ArgumentError, match=r"cameras\.json"):
        read_scene(tmp_path)


def test_exception_depth_is_missing(published):
    frame = read_scene(published).train[0]
    frame.depth_path.unlink()
    with pytest.raises(ArgumentError, match="depth"):
        frame.depth()
