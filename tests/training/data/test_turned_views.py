"""Turned pairs: the homographies say where everything lies."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from covis.training.data.turned_views import Turning, render_turned

SIZE = 128


def smooth(seed):
    """A photo whose grey values change slowly, so that a blur leaves them alone."""
    noise = np.random.default_rng(seed).integers(0, 256, (9, 12, 1)).astype(np.uint8)
    grey = cv2.resize(noise, (640, 480), interpolation=cv2.INTER_CUBIC)
    return cv2.merge([cv2.GaussianBlur(grey, (0, 0), 8)] * 3)


PHOTOS = [smooth(seed) for seed in range(3)]
ANY = Turning(any_rotation_probability=1)


def compared(pair, shift=0.0):
    """Grey of the photo under each view's pixels, less the view, where the photo is seen."""
    photo = PHOTOS[pair.index][:, :, 0]
    differences = []
    for view, warp in zip(pair.clean, pair.views_from_photo, strict=True):
        across, down = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
        pixels = np.column_stack([across.ravel(), down.ravel()]).astype(np.float64)
        points = cv2.perspectiveTransform(pixels[:, None], np.linalg.inv(warp))[:, 0] + shift
        inside = ((points > 6) & (points < [633, 473])).all(axis=1)
        x, y = points[inside].astype(np.float32).T
        seen = cv2.remap(photo, x[:, None], y[:, None], cv2.INTER_LINEAR)[:, 0]
        differences.append(seen.astype(float) - view.ravel()[inside])
    return np.concatenate(differences)


@pytest.mark.parametrize("seed", range(6))
def test_views_show_what_the_homographies_say(seed):
    pair = render_turned(PHOTOS, SIZE, ANY, np.random.default_rng(seed))
    assert pair.views.shape == pair.clean.shape == (2, SIZE, SIZE)
    assert pair.views.dtype == np.uint8
    difference = compared(pair)
    assert len(difference) > 0.3 * 2 * SIZE**2
    assert np.abs(difference).mean() < 2
    assert np.abs(compared(pair, shift=6.0)).mean() > 1.5 * np.abs(difference).mean() + 1


def change(warp):
    """Turn in degrees and enlargement at the view's middle."""
    middle = np.array([SIZE / 2, SIZE / 2])
    steps = middle + np.array([[0, 0], [1, 0], [0, 1]])
    here = cv2.perspectiveTransform(steps[:, None].astype(np.float64), np.linalg.inv(warp))[:, 0]
    jacobian = np.column_stack([here[1] - here[0], here[2] - here[0]])
    turn = np.degrees(np.arctan2(jacobian[0, 1] - jacobian[1, 0], np.trace(jacobian)))
    return turn, np.linalg.det(jacobian) ** -0.5


def test_all_angles_and_zooms_come():
    rng = np.random.default_rng(0)
    pairs = [render_turned(PHOTOS, SIZE, ANY, rng) for _ in range(60)]
    turns, zooms = np.transpose([change(w) for pair in pairs for w in pair.views_from_photo])
    counts, _ = np.histogram(turns, bins=4, range=(-180, 180))
    assert counts.min() > 15
    assert zooms.min() < 0.7
    assert zooms.max() > 1.6
    ratios = np.array([np.divide(*(change(w)[1] for w in p.views_from_photo)) for p in pairs])
    assert np.maximum(ratios, 1 / ratios).max() > 2.5


def test_without_turns_views_stay_upright():
    turning = Turning(rotation=0, any_rotation_probability=0, tilt=0, aspect=0)
    pair = render_turned(PHOTOS, SIZE, turning, np.random.default_rng(0))
    assert change(pair.views_from_photo[0])[0] == pytest.approx(0, abs=1e-6)


def test_the_light_changes_the_views_only():
    dark, plain = (
        render_turned(PHOTOS, SIZE, Turning(light=light), np.random.default_rng(5))
        for light in (1.0, 0.0)
    )
    np.testing.assert_array_equal(dark.clean[0], plain.clean[0])
    np.testing.assert_array_equal(plain.views, plain.clean)
    assert np.abs(dark.views.astype(float) - dark.clean).mean() > 3
