"""What belongs together, in rendered pairs and in real scenes."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
h5py = pytest.importorskip("h5py", reason="scenes need h5py: covis[train]")

from covis.errors import TrainingError  # noqa: E402
from covis.features import Extractor  # noqa: E402
from covis.training.data import scenes  # noqa: E402
from covis.training.data.labelled_pairs import (  # noqa: E402
    NO_PARTNER,
    UNKNOWN,
    LabelledPair,
    labelled,
    partners,
    positions,
    render_views,
)
from covis.training.data.pair_pool import PairPool  # noqa: E402
from covis.training.data.scenes import Camera, Scenes  # noqa: E402
from covis.training.data.synthetic import Difficulty, Pair, pixel_grid  # noqa: E402
from covis.types import Features  # noqa: E402

SIDE = 160
EASY = Difficulty(rotation=5, zoom=1.1, tilt=10, planes_probability=0, light=0.2)
SHIFT = np.array([20.0, -8.0], np.float32)


@pytest.fixture
def shifted():
    """View 1 shows what view 0 shows SHIFT further; its left half is hidden."""
    cells = pixel_grid(SIDE)[::8, ::8]
    visible = cells[..., 0] >= SIDE / 2
    return Pair(np.zeros((2, SIDE, SIDE), np.uint8), cells + SHIFT, visible)


def test_rendered_partners(shifted):
    points1 = np.array(
        [[100.0, 50], [110, 60], [120, 70], [20, 50], [76, 80], [130, 90]], np.float32
    )
    points0 = points1 + SHIFT
    points0[1] += (4, 0)  # Too far for a partner, too near for none.
    points0[2] += (0, 60)  # Far from everything.
    points0[5] = points0[0] + (1, 0)  # The second nearest of one point.
    # The fourth is hidden, and whether the fifth is the cells are too coarse to tell.
    labels = partners(shifted, points0[[5, 4, 3, 2, 1, 0]], points1)
    assert labels[0].tolist() == [UNKNOWN, UNKNOWN, NO_PARTNER, NO_PARTNER, UNKNOWN, 0]
    assert labels[1].tolist() == [5, UNKNOWN, NO_PARTNER, NO_PARTNER, UNKNOWN, NO_PARTNER]


def test_partners_name_each_other(texture):
    photos = [texture, texture[::-1].copy()]
    extract = Extractor("sift", max_keypoints=200, max_size=0, threads=1)
    pair = labelled(render_views(photos, 256, EASY, np.random.default_rng(1)), extract, 150)
    there, back = pair.partners
    matched = np.flatnonzero(there >= 0)
    assert len(matched) > 20
    assert (back[there[matched]] == matched).all()
    assert (there >= 0).sum() == (back >= 0).sum()
    assert pair.positions.shape[2] == 4


def test_pair_of_fewer_features_has_no_partners_beyond():
    zeros = np.zeros((2, 3, 2), np.float32)
    pair = LabelledPair(zeros, zeros, zeros, np.array([[2, 0, NO_PARTNER], [1, UNKNOWN, 0]]))
    kept = pair.first(2)
    assert kept.partners.tolist() == [[NO_PARTNER, 0], [1, UNKNOWN]]
    assert kept.points.shape == (2, 2, 2)


def test_judge_counts_only_what_is_certain():
    zeros = np.zeros((2, 4, 2), np.float32)
    labels = np.array([[1, 2, NO_PARTNER, UNKNOWN], [NO_PARTNER, 0, 1, UNKNOWN]])
    pair = LabelledPair(zeros, zeros, zeros, labels)
    assert pair.judge(np.array([[0, 1], [1, 0], [2, 3], [3, 2]])).tolist() == [1, 2, 2]
    assert pair.judge(np.empty((0, 2), np.int64)).tolist() == [0, 0, 2]


def test_convention_positions_are_those_of_the_matcher():
    features = Features(
        keypoints=np.array([[0, 0], [320, 240], [640, 480]], np.float32),
        scores=np.ones(3, np.float32),
        descriptors=np.zeros((3, 4), np.float32),
        width=640,
        height=480,
        model="-",
    )
    assert positions(features).tolist() == [[-1, -0.75], [0, 0], [1, 0.75]]


# Real scenes: a wall 4 m away, seen by two cameras 1 m apart, and a box before it.

K = np.array([[200.0, 0, 99.5], [0, 200, 74.5], [0, 0, 1]])
WALL, BOX = 4.0, 2.0


def camera(x):
    pose = np.eye(4)
    pose[0, 3] = -x
    return Camera("-", "-", K, pose)


def depth_map(x):
    """The box covers -0.25..0.25 m around the middle of the first camera's view."""
    depth = np.full((150, 200), WALL)
    left, right = (200 * (edge - x) / BOX + 99.5 for edge in (-0.25, 0.25))
    depth[50:100, max(int(left), 0) : max(int(right), 0)] = BOX
    return depth


def project(points, x):
    seen = (np.asarray(points) - (x, 0, 0)) @ K.T
    return seen[:, :2] / seen[:, 2:]


@pytest.fixture
def wall_and_box():
    """Four points: on the wall, on the box, on the wall hidden by the box from camera 0, and on
    the wall out of camera 1's sight."""
    space = np.array([[0.5, 1.0, WALL], [0.1, 0, BOX], [0.36, 0, WALL], [-1.5, 0.5, WALL]])
    return space, [camera(0), camera(1)], [depth_map(0), depth_map(1)]


def test_scene_partners(wall_and_box):
    space, cameras, depths = wall_and_box
    points = np.stack([project(space, 0), project(space, 1)[::-1]])
    labels = scenes.partners(points, cameras, depths)
    # In photo 0 the third lies on the box, which camera 1 sees elsewhere.
    assert labels[0].tolist() == [3, 2, NO_PARTNER, NO_PARTNER]
    assert labels[1].tolist() == [NO_PARTNER, NO_PARTNER, 1, 0]


def test_scene_partners_without_depth_are_known_by_their_lines(wall_and_box):
    space, cameras, depths = wall_and_box
    points = np.stack([project(space, 0), project(space, 1)])
    unknown = [np.zeros_like(depth) for depth in depths]
    # One point of photo 1 on the line of the first of photo 0: nobody knows.
    points[1, 1:] = [[10, 10], [30, 10], [50, 10]]
    labels = scenes.partners(points, cameras, unknown)
    assert labels[0].tolist() == [UNKNOWN, NO_PARTNER, NO_PARTNER, NO_PARTNER]
    assert labels[1].tolist() == [UNKNOWN, NO_PARTNER, NO_PARTNER, NO_PARTNER]


@pytest.fixture
def megadepth(tmp_path, texture):
    """One scene of three photos of a wall in MegaDepth's layout; the third has no depth."""
    (tmp_path / "scene_info").mkdir()
    images, depth_paths, poses = [], [], []
    scale = 200 / WALL
    for i, x in enumerate((0.0, 0.4)):
        name = f"{i}.png"
        left = round(x * scale)
        cv2.imwrite(str(tmp_path / name), texture[:150, left : left + 200])
        with h5py.File(tmp_path / f"{i}.h5", "w") as file:
            file["depth"] = np.full((150, 200), WALL, np.float32)
        images.append(name)
        depth_paths.append(f"{i}.h5")
        poses.append(camera(left / scale).pose)
    overlap = np.array([[1, 0.5, 0.5], [0.5, 1, 0.5], [0.5, 0.5, 1]])
    np.savez(
        tmp_path / "scene_info" / "0000.npz",
        image_paths=np.array([*images, None], object),
        depth_paths=np.array([*depth_paths, None], object),
        intrinsics=np.stack([K] * 3),
        poses=np.stack([*poses, np.eye(4)]),
        overlap_matrix=overlap,
    )
    return tmp_path


def test_scenes_give_pairs_that_belong_together(megadepth):
    found = Scenes(megadepth)
    assert found.pairs.tolist() == [[0, 1]]
    extract = Extractor(threshold=0.0, max_keypoints=100, max_size=0, threads=1)
    pair = labelled(found.views(200, EASY, 0, np.random.default_rng(0)), extract, 80)
    there = pair.partners[0]
    matched = np.flatnonzero(there >= 0)
    assert len(matched) > 20
    moved = pair.points[1][there[matched]] - pair.points[0][matched]
    assert np.abs(np.abs(moved[:, 0]) - 20).max() < 3
    assert np.abs(moved[:, 1]).max() < 3


def brightness(picture, points):
    x, y = (points - 0.5).astype(np.float32).T[:, :, None]
    return cv2.remap(np.asarray(picture).mean(axis=2), x, y, cv2.INTER_LINEAR)[:, 0]


@pytest.mark.parametrize(
    ("size", "turned", "shape"), [(200, 0, (150, 200)), (100, 0, (75, 100)), (200, 1, (150, 150))]
)
def test_shrunk_and_turned_scenes_show_the_same_at_partners(megadepth, size, turned, shape):
    found = Scenes(megadepth)
    turning = Difficulty(rotation=90, any_rotation_probability=0.5)
    count = 0
    for seed in range(4):
        rng = np.random.default_rng(seed)
        views = found.views(size, turning, turned, rng)
        assert all(picture.shape == shape for picture in views.pictures)
        # A point in each of view 0's pixels that is no gap of the other's, and noise around it.
        grid = np.stack(np.meshgrid(*(np.arange(5.0, side, 7) for side in shape[::-1])), axis=-1)
        points0 = grid.reshape(-1, 2)
        sample = rng.uniform(2, np.array(shape[::-1]) - 2, (4 * len(points0), 2))
        points0 = np.concatenate([points0, rng.uniform(2, 70, (len(sample) - len(points0), 2))])
        points = np.stack([points0, sample]).astype(np.float32)
        there = views.partners(points)[0]
        near = np.flatnonzero(there >= 0)
        values = [
            brightness(cv2.GaussianBlur(view, (0, 0), 3), each)
            for view, each in zip(
                views.clean, (points[0][near], points[1][there[near]]), strict=True
            )
        ]
        count += len(near)
        assert np.corrcoef(*values)[0, 1] > 0.8
    assert count > 200


def test_first_pairs_of_scenes_are_kept_apart(megadepth):
    found = Scenes(megadepth)
    found.pairs = np.arange(14).reshape(7, 2)
    held_out, others = found.split(2)
    assert held_out.pairs.tolist() == [[0, 1], [2, 3]]
    assert others.pairs.tolist() == np.arange(4, 14).reshape(5, 2).tolist()
    held_out, others = found.split(5)
    assert (len(held_out.pairs), len(others.pairs)) == (2, 5)


def test_a_pair_is_made_once_for_all_that_it_is_made_of(tmp_path):
    rng = np.random.default_rng(0)
    pair = LabelledPair(
        points=rng.random((2, 3, 2), np.float32),
        positions=rng.random((2, 3, 2), np.float32),
        descriptors=rng.random((2, 3, 4), np.float32),
        partners=np.array([[2, UNKNOWN, NO_PARTNER], [NO_PARTNER, UNKNOWN, 0]]),
        taught=rng.random((5, 2, 3, 4)).astype(np.float16),
        said=np.array([[0, 1, NO_PARTNER], [0, 1, NO_PARTNER]]),
    )
    made = []

    def make():
        made.append(1)
        return pair

    pool = PairPool(tmp_path)
    first = pool.get(("a", 1), 7, make)
    again = PairPool(tmp_path).get(("a", 1), 7, make)
    assert len(made) == 1
    for name, values in vars(pair).items():
        for got in (getattr(first, name), getattr(again, name)):
            assert np.allclose(got, values, atol=1e-3)
            assert name in ("descriptors",) or np.array_equal(got, values)
    pool.get(("a", 1), 8, make)
    pool.get(("a", 2), 7, make)
    assert len(made) == 3


def test_a_scene_may_be_a_bare_pickle(megadepth):
    """As LoFTR publishes its own; nothing in it is run."""
    path = megadepth / "scene_info" / "0000.npz"
    with np.load(path, allow_pickle=True) as stored:
        content = dict(stored)
    path.write_bytes(pickle.dumps(content))
    assert Scenes(megadepth).pairs.tolist() == [[0, 1]]
    path.write_bytes(pickle.dumps({name: content[name] for name in content if name != "poses"}))
    with pytest.raises(TrainingError, match=r"0000\.npz: not a scene.*poses"):
        Scenes(megadepth)
    path.write_bytes(pickle.dumps({"image_paths": Path}))
    with pytest.raises(TrainingError, match=r"0000\.npz: not the published ground truth"):
        Scenes(megadepth)


def test_exception_no_scenes(tmp_path):
    with pytest.raises(TrainingError, match="MegaDepth's layout"):
        Scenes(tmp_path)


def test_exception_not_a_scene(megadepth):
    np.savez(megadepth / "scene_info" / "0001.npz", poses=np.eye(4)[None])
    with pytest.raises(TrainingError, match=r"0001\.npz: not a scene"):
        Scenes(megadepth)


def test_exception_depth_is_missing(megadepth):
    found = Scenes(megadepth)
    (megadepth / "0.h5").unlink()
    with pytest.raises(TrainingError, match=r"0\.h5: no depth map"):
        found.views(200, EASY, 0, np.random.default_rng(0))
