"""SIFT in the shape of `Features`."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from covis import Extractor, load_image
from covis.features.sift import extract_sift
from covis.matching.lightglue import LightGlue, Settings


def spot(centre, size=(100, 120), sigma=4.0):
    across, down = np.meshgrid(np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    squared = (across - centre[0]) ** 2 + (down - centre[1]) ** 2
    return (28 + 200 * np.exp(-squared / (2 * sigma**2))).astype(np.uint8)


@pytest.mark.parametrize("centre", [(50.0, 50.0), (40.3, 60.6), (71.5, 33.5)])
def test_convention_a_spot_is_found_where_it_was_painted(centre):
    found = extract_sift(load_image(spot(centre)), 1)
    np.testing.assert_allclose(found.keypoints[0], centre, atol=0.1)


def test_full_size_coordinates():
    found = extract_sift(load_image(spot((200.0, 240.0), (400, 480), 16.0), max_size=120), 1)
    np.testing.assert_allclose(found.keypoints[0], (200.0, 240.0), atol=0.5)
    assert (found.width, found.height) == (480, 400)
    whole = extract_sift(load_image(spot((200.0, 240.0), (400, 480), 16.0)), 1)
    np.testing.assert_allclose(found.scales, whole.scales, rtol=0.1)


def test_features(texture):
    found = Extractor("sift", max_keypoints=200)(texture)
    assert len(found) == 200
    assert found.descriptors.shape == (200, 128)
    assert len(found.scales) == len(found.orientations) == 200
    assert found.model == "sift"


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (31, 33), (2, 3)])
def test_nothing_to_find(size):
    found = Extractor("sift")(np.full(size, 90, np.uint8))
    assert found.keypoints.shape == (0, 2)
    assert found.descriptors.shape == (0, 128)
    for name in ("keypoints", "scores", "descriptors", "scales", "orientations"):
        assert getattr(found, name).dtype == np.float32


def test_mask(texture):
    mask = np.zeros(texture.shape[:2], bool)
    mask[:, 300:] = True
    found = Extractor("sift")(texture, mask=mask)
    assert len(found) > 50
    assert found.keypoints[:, 0].max() < 301
    assert len(Extractor("sift")(texture, mask=np.ones_like(mask))) == 0


@pytest.mark.parametrize("sigma", [3.0, 5.0, 8.0])
def test_convention_scales_are_diameters(sigma):
    """OpenCV's size: twice the deviation of the Gaussian at which the spot stands out most."""
    found = extract_sift(load_image(spot((80.0, 70.0), (140, 160), sigma)), 1)
    np.testing.assert_allclose(found.scales, 2 * sigma, rtol=0.25)


@pytest.mark.parametrize(("direction", "angle"), [((1, 0), 0), ((0, 1), 90), ((-1, 0), 180)])
def test_convention_orientations_go_clockwise_from_the_right(direction, angle):
    """The directions in which it gets brighter, here around the ramp's; radians."""
    across, down = np.meshgrid(np.arange(120) - 60, np.arange(120) - 60)
    ramp = 1.5 * (across * direction[0] + down * direction[1])
    picture = spot((60.0, 60.0), (120, 120)).astype(np.float64) / 2 + 60 + ramp
    found = extract_sift(load_image(picture.clip(0, 255).astype(np.uint8)), 50)
    mean = np.exp(1j * found.orientations).mean()
    assert abs(np.angle(mean * np.exp(-1j * np.radians(angle)))) < 0.3
    assert abs(mean) > 0.5
    assert ((found.orientations >= 0) & (found.orientations <= 2 * np.pi + 1e-6)).all()


def test_convention_what_lightglue_is_given(texture):
    """As the published extractor and matcher have it: OpenCV's `size` and its angle in radians,
    raw, after (pixel - size / 2) / (longest side / 2); descriptors square-rooted. Theirs counts
    pixels from 0 in the corner's centre and lifts the descriptors' zeros by a thousandth."""
    given = {}

    class Encode:
        def __call__(self, outputs, descriptors, positions):
            given[len(positions)] = descriptors, positions
            n = len(positions)
            return [np.zeros((n, 8), np.float32)] + [np.zeros((n, 2), np.float32)] * 2

        on_device = __call__

    matcher = LightGlue({"encode": Encode()}, Settings(1, 128, scale_orientation=True))
    extract = Extractor("sift", max_keypoints=300)
    assert len(matcher(extract(texture), extract(np.zeros((9, 9), np.uint8))).indices) == 0
    descriptors, positions = given[300]
    assert given[0][1].shape == (0, 4)
    assert positions.dtype == np.float32

    grey = cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(nfeatures=300, enable_precise_upscale=True)
    points, raw = sift.detectAndCompute(grey, None)
    order = np.argsort([-point.response for point in points], kind="stable")[:300]
    pixels = np.array([points[i].pt for i in order]) + 0.5
    np.testing.assert_allclose(positions[:, :2], (pixels - [320, 240]) / 320, atol=1e-5)
    np.testing.assert_allclose(positions[:, 2], [points[i].size for i in order], rtol=1e-5)
    angles = np.radians([points[i].angle for i in order])
    np.testing.assert_allclose(positions[:, 3], angles, atol=1e-5)
    root = np.sqrt(np.maximum(raw[order] / raw[order].sum(axis=1, keepdims=True), 1e-6))
    root /= np.linalg.norm(root, axis=1, keepdims=True)
    np.testing.assert_allclose(descriptors, root, atol=1.1e-3)
