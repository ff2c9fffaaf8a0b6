"""Rendered pairs: the correspondences are exact, whatever the scene."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from covis.images.picture_files import pictures_below
from covis.training.data.photometric import degrade
from covis.training.data.photos import load_photos, photos_below
from covis.training.data.synthetic import (
    NO_PLANE,
    Difficulty,
    Pair,
    _correspondences,
    render_pair,
)

SIZE = 256


def smooth(seed):
    """A photo whose grey values change slowly, so that a blur leaves them alone."""
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (9, 12, 1)).astype(np.uint8)
    grey = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    return cv2.merge([cv2.GaussianBlur(grey, (0, 0), 8)] * 3)


PHOTOS = [smooth(seed) for seed in range(4)]


def differences(pair, shift=(0.0, 0.0)):
    """Grey of view 1 at its visible cells less that of view 0 where they lie."""
    rows, columns = np.nonzero(pair.visible)
    at = pair.points0[rows, columns] + np.float32(shift)
    seen = cv2.remap(
        pair.views[0].astype(np.float32),
        at[:, :1],
        at[:, 1:],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT,
    )[:, 0]
    return np.abs(pair.views[1][8 * rows, 8 * columns].astype(np.float32) - seen)


@pytest.mark.parametrize(
    ("planes", "bend"), [(0, 0), (0, 1), (1, 0), (1, 1)], ids=["plane", "bent", "planes", "both"]
)
@pytest.mark.parametrize("seed", range(4))
def test_corresponding_points_look_alike(planes, bend, seed):
    difficulty = Difficulty(light=0, planes_probability=planes, bend_probability=bend)
    pair = render_pair(PHOTOS, SIZE, difficulty, np.random.default_rng(seed))
    assert pair.views.shape == (2, SIZE, SIZE)
    assert pair.views.dtype == np.uint8
    assert pair.points0.shape == (SIZE // 8, SIZE // 8, 2)
    assert pair.points0.dtype == np.float32
    assert pair.visible.sum() > 50
    seen = pair.points0[pair.visible]
    assert (seen >= -0.5).all()
    assert (seen <= SIZE - 0.5).all()
    found = differences(pair)
    # Cells at the edge of a plane may be drawn from two.
    assert np.median(found) < 1.5
    assert np.quantile(found, 0.9) < 6
    # The test tells three pixels off from right.
    off = min(np.median(differences(pair, shift)) for shift in ((3, 0), (-3, 0), (0, 3), (0, -3)))
    assert off > 2 * np.median(found)


def test_deterministic():
    one, two, other = (
        render_pair(PHOTOS, 64, Difficulty(planes_probability=1), np.random.default_rng(seed))
        for seed in (5, 5, 6)
    )
    for name in ("views", "points0", "visible"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))
    assert (one.views != other.views).any()


def test_no_view_is_changed_by_another():
    """Rendering shares tables between calls; none may be written to."""
    difficulty = Difficulty(bend_probability=1)
    before = render_pair(PHOTOS, 64, difficulty, np.random.default_rng(0))
    for seed in range(1, 4):
        render_pair(PHOTOS, 64, difficulty, np.random.default_rng(seed))
    after = render_pair(PHOTOS, 64, difficulty, np.random.default_rng(0))
    np.testing.assert_array_equal(before.views, after.views)
    np.testing.assert_array_equal(before.points0, after.points0)


def occluded():
    """Plane 0 fills both views unmoved; plane 1 before it hides columns 0-31 of view 0 and
    columns 32-63 of view 1."""
    labels = [np.zeros((64, 64), np.uint8) for _ in range(2)]
    labels[0][:, :32] = 1
    labels[1][:, 32:] = 1
    right = np.array([[1, 0, 32], [0, 1, 0], [0, 0, 1.0]])
    return [(np.eye(3), np.eye(3)), (np.eye(3), right)], labels


def test_what_is_hidden_is_not_visible():
    to_views, labels = occluded()
    points0, visible = _correspondences(to_views, labels, None, 64)
    own = np.stack(np.meshgrid(np.arange(0, 64, 8), np.arange(0, 64, 8)), -1)
    # Left half of view 1: the far plane, hidden in view 0. Right half: the near one, seen.
    np.testing.assert_array_equal(points0[:, :4], own[:, :4])
    assert not visible[:, :4].any()
    np.testing.assert_array_equal(points0[:, 4:], own[:, 4:] - [32, 0])
    assert visible[:, 4:].all()


def test_what_lies_outside_or_on_the_backdrop_is_not_visible():
    to_views, labels = occluded()
    to_views[1] = (np.array([[1, 0, 24], [0, 1, 0], [0, 0, 1.0]]), to_views[1][1])
    labels[0][:] = 1
    points0, visible = _correspondences(to_views, labels, None, 64)
    assert visible[:, 4:].all()
    to_views[1] = (np.array([[1, 0, 48], [0, 1, 0], [0, 0, 1.0]]), to_views[1][1])
    points0, visible = _correspondences(to_views, labels, None, 64)
    np.testing.assert_array_equal(visible[:, 4:], points0[:, 4:, 0] < 63.5)
    assert not visible[:, 6:].any()
    labels[1][:] = NO_PLANE
    assert not _correspondences(to_views, labels, None, 64)[1].any()


def test_bends_are_followed():
    to_views, labels = [(np.eye(3), np.eye(3))], [np.zeros((64, 64), np.uint8)] * 2
    bend = np.zeros((64, 64, 2), np.float32)
    bend[..., 0] = 2.5
    points0, visible = _correspondences(to_views, labels, bend, 64)
    np.testing.assert_allclose(points0[..., 0], np.arange(0, 64, 8)[None] + 2.5 + np.zeros((8, 1)))
    assert visible.all()


def test_corresponding_cells():
    torch = pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
    from covis.training.recipes.xfeat import corresponding_cells

    points0 = np.full((2, 2, 2), 3.0, np.float32)
    points0[0, 1] = (5.0, 3.9)  # nearer to cell (1, 0)'s point (8, 0) than to (0, 0)'s
    points0[1, 0] = (12.5, 4.0)  # rounds to column 2, which is not there
    visible = np.array([[True, True], [True, False]])
    pair = Pair(np.zeros((2, 16, 16), np.uint8), points0, visible)
    cells0, cells1, offsets = corresponding_cells(pair)
    assert cells0.tolist() == [[0, 0], [1, 0]]
    assert cells1.tolist() == [[0, 0], [1, 0]]
    torch.testing.assert_close(offsets, torch.tensor([[3.0, 3.0], [-3.0, 3.9]]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("seed", range(3))
def test_corresponding_cells_of_rendered_pairs(seed):
    pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
    from covis.training.recipes.xfeat import corresponding_cells

    pair = render_pair(PHOTOS, SIZE, Difficulty(planes_probability=1), np.random.default_rng(seed))
    cells0, cells1, offsets = (part.numpy() for part in corresponding_cells(pair))
    assert len(cells0) > 50
    assert ((cells0 >= 0) & (cells0 < SIZE // 8)).all()
    assert ((offsets >= -4) & (offsets <= 4)).all()
    assert pair.visible[cells1[:, 1], cells1[:, 0]].all()
    np.testing.assert_allclose(
        8 * cells0 + offsets, pair.points0[cells1[:, 1], cells1[:, 0]], atol=1e-3
    )


def test_corner_labels():
    pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
    from covis.training.recipes.xfeat import corner_labels

    view = np.zeros((64, 64), np.uint8)
    view[20:, 28:] = 255
    labels = corner_labels(view)
    assert labels.shape == (8, 8)
    ((row, column),) = np.argwhere(labels < 64)
    y, x = divmod(int(labels[row, column]), 8)
    assert abs(8 * row + y - 20) <= 2
    assert abs(8 * column + x - 28) <= 2
    assert (corner_labels(np.zeros((32, 32), np.uint8)) == 64).all()


# Light.


def test_no_strength_leaves_the_light_alone():
    grey = degrade(PHOTOS[0], 0, np.random.default_rng(0))
    assert grey.dtype == np.uint8
    np.testing.assert_allclose(grey, PHOTOS[0][..., 0], atol=1)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0])
def test_degraded_views_are_views(strength):
    for seed in range(40):
        view = degrade(PHOTOS[seed % 4][:64, :80], strength, np.random.default_rng(seed))
        assert view.shape == (64, 80)
        assert view.dtype == np.uint8
        again = degrade(PHOTOS[seed % 4][:64, :80], strength, np.random.default_rng(seed))
        np.testing.assert_array_equal(view, again)


# Photos.


def test_load_photos(tmp_path):
    from covis.errors import TrainingError

    (tmp_path / "deep").mkdir()
    cv2.imwrite(str(tmp_path / "b.png"), smooth(0))
    cv2.imwrite(str(tmp_path / "deep" / "a.JPG"), smooth(1))
    cv2.imwrite(str(tmp_path / "small.png"), smooth(2)[:100, :100])
    cv2.imwrite(str(tmp_path / "large.png"), cv2.resize(smooth(3), (1280, 960)))
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    (tmp_path / "notes.txt").write_text("hello")
    assert [path.name for path in pictures_below(tmp_path)] == [
        "b.png",
        "broken.jpg",
        "a.JPG",
        "large.png",
        "small.png",
    ]
    paths = photos_below(tmp_path)
    assert [photo.shape for photo in load_photos(paths)] == [(480, 640, 3)] * 3
    (tmp_path / "b.png").unlink()
    for folder, count in ((tmp_path / "none", 0), (tmp_path / "deep", 1), (tmp_path, 2)):
        with pytest.raises(TrainingError, match=f"{count} photos with sides of 128 pixels or more"):
            photos_below(folder)
