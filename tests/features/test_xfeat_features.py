"""The way from an image to keypoints: where things lie, with a network that is plain to see."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from helpers import detectors
from helpers.contracts import assert_sound
from helpers.textures import noise
from hypothesis import given, settings
from hypothesis import strategies as st

from covis import Extractor, load_image
from covis.features import nms, xfeat
from covis.features.xfeat import XFeat, best_cells, peaks, sample_descriptors
from covis.types import Image

quick = settings(max_examples=25, deadline=None)


class PlainNetwork:
    """Keypoints are where the image is bright; a cell's descriptor and reliability its mean."""

    def __call__(self, outputs, image):
        assert image.dtype == np.float32
        assert image.shape[1] == 1
        assert image.shape[2] % 32 == 0
        assert image.shape[3] % 32 == 0
        batch, _, height, width = image.shape
        blocks = image.reshape(batch, height // 8, 8, width // 8, 8)
        mean = blocks.mean(axis=(2, 4))
        ramp = np.arange(1, 65, dtype=np.float32)
        features = np.cos(mean[..., None] * ramp)
        made = {"keypoints": image[:, 0], "features": features, "reliability": mean}
        return [np.ascontiguousarray(made[name], np.float32) for name in outputs]


def plain_xfeat():
    return detectors.plain_network(XFeat, detect=PlainNetwork())


@pytest.fixture(scope="module")
def plain():
    return plain_xfeat()


# Any size.


@detectors.any_size(200, (1, 1), (1, 5000), (5000, 1), (31, 33), (32, 32), (63, 95), count=25)
def test_keypoints_lie_inside_images_of_any_size(plain, size):
    image = load_image(noise(*size))
    (sparse,) = plain.sparse([image], 300, 0.0)
    assert len(sparse) > 0
    assert_sound(sparse, image, 300)
    dense = plain.semi_dense(image, 300)
    assert len(dense) > 0
    assert_sound(dense, image, 300)
    assert (dense.pixel_sizes > 0).all()


@quick
@given(detectors.sizes(200), st.sampled_from([0, 255]))
def test_images_of_one_colour(plain, size, value):
    """Black shows nothing above the threshold: no keypoints, which is an answer."""
    image = load_image(np.full(size, value, np.uint8))
    (sparse,) = plain.sparse([image], 100, 0.05)
    assert_sound(sparse, image, 100)
    assert (len(sparse) == 0) == (value == 0)
    assert sparse.descriptors.shape[1] == 64
    assert_sound(plain.semi_dense(image, 100), image, 100)


# Coordinates.


@quick
@given(detectors.spots(200))
def test_convention_a_spot_is_found_where_it_was_painted(plain, spot):
    """The centre of the top-left pixel is (0.5, 0.5): a keypoint is within half a pixel of the
    network's input of what it shows, whatever the size."""
    found, centre = detectors.find_spot(plain, spot, 4.0, 0.5)
    height, width = spot[:2]
    pixel = np.array([width / (width // 32 * 32), height / (height // 32 * 32)])
    assert (np.abs(found.keypoints[0] - centre) <= 0.5 * pixel + 0.1).all()


@quick
@given(st.integers(1, 4), st.integers(1, 4), st.integers(2, 5), st.integers(0, 99))
def test_enlarged_whole_times_and_shrunk_back(plain, rows, columns, factor, seed):
    """An image enlarged k times and shrunk to its old size on loading: keypoints times k."""
    pixels = noise(32 * rows, 32 * columns, seed)
    large = np.kron(pixels, np.ones((factor, factor, 1), np.uint8))
    small, again = load_image(pixels), load_image(large, max_size=max(pixels.shape))
    np.testing.assert_array_equal(again.pixels, pixels)
    one, two = plain.sparse([small, again], 200, 0.0)
    np.testing.assert_array_equal(two.keypoints, one.keypoints * factor)
    np.testing.assert_array_equal(two.scores, one.scores)
    np.testing.assert_array_equal(two.descriptors, one.descriptors)
    one, two = (plain.semi_dense(image, 200) for image in (small, again))
    np.testing.assert_allclose(two.keypoints, one.keypoints * factor, rtol=1e-6)
    np.testing.assert_allclose(two.pixel_sizes, one.pixel_sizes * factor, rtol=1e-6)


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_padding_shifts_keypoints(plain, left, top, seed):
    pixels = noise(64, 96, seed)
    padded = np.pad(pixels, ((32 * top, 0), (32 * left, 0), (0, 0)))
    one, two = plain.sparse([load_image(pixels), load_image(padded)], 10**6, 0.05)
    shifted = {(x + 32 * left, y + 32 * top) for x, y in one.keypoints.tolist()}
    assert {(x, y) for x, y in two.keypoints.tolist()} == shifted


@quick
@given(st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_transposed_images_have_transposed_keypoints(plain, rows, columns, seed):
    pixels = noise(32 * rows, 32 * columns, seed)
    one, two = plain.sparse(
        [load_image(pixels), load_image(pixels.transpose(1, 0, 2))], 10**6, 0.05
    )
    assert len(one) > 0
    assert sorted(one.keypoints[:, ::-1].tolist()) == sorted(two.keypoints.tolist())


def test_convention_semi_dense_cells(plain):
    """640 x 480: passes of 384 x 288 and 832 x 624 -> 832 x 608; a cell is its first pixel."""
    found = plain.semi_dense(load_image(noise(480, 640)), 10**6)
    step = np.array([[640 / 384, 480 / 288], [640 / 832, 480 / 608]], np.float32)
    for size, cells in zip(step, ((48, 36), (104, 76)), strict=True):
        mine = np.isclose(found.pixel_sizes, size, rtol=1e-6).all(axis=1)
        grid = (found.keypoints[mine] / size - 0.5) / 8
        np.testing.assert_allclose(grid, grid.round(), atol=1e-3)
        assert sorted(map(tuple, grid.round().astype(int).tolist())) == sorted(
            (x, y) for x in range(cells[0]) for y in range(cells[1])
        )


def test_semi_dense_shares(plain):
    found = plain.semi_dense(load_image(noise(480, 640)), 1000)
    coarse = found.pixel_sizes[:, 0] > 1
    assert (coarse.sum(), (~coarse).sum()) == (200, 800)


# Masks.


@detectors.masks(200, count=25)
def test_nothing_is_found_under_the_mask(plain, size, seed, share):
    detectors.assert_masked(plain, size, seed, share)
    mask = np.random.default_rng(seed).random(size) < share
    image = load_image(noise(*size, seed), mask=mask)
    found = plain.semi_dense(image, detectors.MANY)
    assert_sound(found, image, detectors.MANY)
    columns, rows = found.keypoints.astype(int).T
    assert not mask[rows, columns].any()


# The parts, against slow and plain references.


def slow_peaks(heat, threshold):
    found = []
    for y in range(heat.shape[0]):
        for x in range(heat.shape[1]):
            window = heat[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
            if heat[y, x] == window.max() and heat[y, x] > threshold:
                found.append((x, y))
    return found


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 999), st.sampled_from([4, 300]))
def test_peaks(rows, columns, seed, levels):
    """Four levels of brightness make many ties and plateaus."""
    rng = np.random.default_rng(seed)
    heat = (rng.integers(0, levels, (32 * rows, 32 * columns)) / levels).astype(np.float32)
    reliability = np.ones((4 * rows, 4 * columns), np.float32)
    xy, scores = peaks(heat, reliability, 10**6, 0.3)
    assert sorted(map(tuple, xy.tolist())) == sorted(slow_peaks(heat, 0.3))
    assert scores.dtype == np.float32
    assert (np.diff(scores) <= 0).all()
    some, best = peaks(heat, reliability, 7, 0.3)
    np.testing.assert_array_equal(some, xy[:7])
    np.testing.assert_array_equal(best, scores[:7])


def test_peaks_ties_go_to_the_upper_then_the_left():
    heat = np.zeros((32, 64), np.float32)
    places = [(20, 20), (40, 20), (12, 12), (30, 12)]
    for x, y in places:
        heat[y, x] = 0.5
    xy, scores = peaks(heat, np.ones((4, 8), np.float32), 3, 0.05)
    assert (scores == 0.5).all()
    assert xy.tolist() == [[12, 12], [30, 12], [20, 20]]


def test_best_cells():
    reliability = np.array([[0.1, 0.9, 0.5], [0.9, 0.2, 0.3]], np.float32)
    cells, scores = best_cells(reliability, 3)
    assert cells.tolist() == [[1, 0], [0, 1], [2, 0]]
    np.testing.assert_array_equal(scores, np.array([0.9, 0.9, 0.5], np.float32))
    mask = np.array([[False, True, False], [False, False, True]])
    cells, _ = best_cells(reliability, 10, mask)
    assert cells.tolist() == [[0, 1], [2, 0], [1, 1], [0, 0]]
    assert len(best_cells(reliability, 10, np.ones((2, 3), bool))[0]) == 0


def cubic(d, a=-0.75):
    d = abs(d)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def linear(d):
    return max(1 - abs(d), 0.0)


def slow_sample(maps, x, y, shape, kernel):
    """The map (h, w, D) under pixel (x, y) of an image of `shape`, 0 beyond the border."""
    position = [
        ((2 * p / (n - 1) - 1) + 1) * m / 2 - 0.5
        for p, n, m in ((y, shape[0], maps.shape[0]), (x, shape[1], maps.shape[1]))
    ]
    total = np.zeros(maps.shape[2])
    for i in range(maps.shape[0]):
        for j in range(maps.shape[1]):
            total += kernel(position[0] - i) * kernel(position[1] - j) * maps[i, j]
    return total


def corners_and_more(shape, rng, count=25):
    height, width = shape
    xy = np.column_stack([rng.integers(0, width, count), rng.integers(0, height, count)])
    corners = [[0, 0], [width - 1, 0], [0, height - 1], [width - 1, height - 1]]
    return np.concatenate([xy, corners])


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
def test_sample_descriptors(rows, columns, seed):
    rng = np.random.default_rng(seed)
    shape = (32 * rows, 32 * columns)
    maps = rng.standard_normal((4 * rows, 4 * columns, 6)).astype(np.float32)
    xy = corners_and_more(shape, rng)
    found = sample_descriptors(maps, xy, shape)
    assert found.dtype == np.float32
    units = maps / np.linalg.norm(maps, axis=2, keepdims=True)
    for (x, y), vector in zip(xy, found, strict=True):
        expected = slow_sample(units.astype(np.float64), x, y, shape, cubic)
        np.testing.assert_allclose(vector, expected / np.linalg.norm(expected), atol=2e-4)


@quick
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 999))
def test_scores_of_peaks_are_heat_times_reliability(rows, columns, seed):
    rng = np.random.default_rng(seed)
    heat = rng.random((32 * rows, 32 * columns), np.float32)
    reliability = rng.random((4 * rows, 4 * columns), np.float32)
    xy, scores = peaks(heat, reliability, 20, 0.0)
    for (x, y), score in zip(xy, scores, strict=True):
        (expected,) = slow_sample(reliability[..., None], x, y, heat.shape, linear)
        assert score == pytest.approx(heat[y, x] * expected, abs=1e-5)


@pytest.mark.parametrize("cells", [(4, 4), (4, 12), (44, 60), (1, 1)])
def test_sampling_is_what_pytorch_does(cells):
    """grid_sample with align_corners=False and the grid of the official code.

    Its nearest pixel of the last row and column lies outside, so it gives keypoints there no
    score. Ours have the one of their own pixel.
    """
    torch = pytest.importorskip("torch", reason="grid_sample is PyTorch's: covis[train]")
    rng = np.random.default_rng(0)
    shape = (8 * cells[0], 8 * cells[1])
    maps = rng.standard_normal((*cells, 64)).astype(np.float32)
    reliability = rng.random(cells, np.float32)
    heat = rng.random(shape, np.float32)
    xy, scores = peaks(heat, reliability, 10**6, 0.0)
    grid = 2 * torch.from_numpy(xy).float() / torch.tensor([shape[1] - 1, shape[0] - 1]) - 1

    def sample(maps, mode):
        sampled = torch.nn.functional.grid_sample(
            maps[None], grid[None, None], mode=mode, align_corners=False
        )
        return sampled[0, :, 0].T

    units = torch.nn.functional.normalize(torch.from_numpy(maps), dim=2).permute(2, 0, 1)
    expected = torch.nn.functional.normalize(sample(units, "bicubic"), dim=1).numpy()
    np.testing.assert_allclose(sample_descriptors(maps, xy, shape), expected, atol=2e-4)
    bilinear = sample(torch.from_numpy(reliability)[None], "bilinear")[:, 0].numpy()
    nearest = sample(torch.from_numpy(heat)[None], "nearest")[:, 0].numpy()
    inner = (xy < [shape[1] - 1, shape[0] - 1]).all(axis=1)
    np.testing.assert_allclose(nearest[inner], heat[xy[inner, 1], xy[inner, 0]])
    assert inner.any()
    assert (nearest[~inner] == 0).all()
    np.testing.assert_allclose(scores, bilinear * heat[xy[:, 1], xy[:, 0]], atol=1e-5)


def test_nothing_to_sample():
    maps = np.ones((4, 4, 64), np.float32)
    assert sample_descriptors(maps, np.empty((0, 2), np.intp), (32, 32)).shape == (0, 64)
    black = np.zeros((32, 32), np.float32)
    xy, scores = peaks(black, np.ones((4, 4), np.float32), 10, 0.05)
    assert xy.shape == (0, 2)
    assert scores.shape == (0,)
    assert scores.dtype == np.float32


def test_sampling_in_blocks_changes_nothing(monkeypatch):
    rng = np.random.default_rng(0)
    maps = rng.standard_normal((8, 8, 64)).astype(np.float32)
    xy = corners_and_more((64, 64), rng, 100)
    whole = sample_descriptors(maps, xy, (64, 64))
    monkeypatch.setattr(nms, "BLOCK", 7)
    np.testing.assert_array_equal(sample_descriptors(maps, xy, (64, 64)), whole)


def test_cells_without_a_descriptor_do_not_spoil_their_neighbours():
    maps = np.zeros((4, 4, 64), np.float32)
    maps[0, 0, 0] = 1
    xy = np.array([[0, 0], [31, 31]])
    found = sample_descriptors(maps, xy, (32, 32))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 0], atol=1e-6)


# A real bundle.


def fields(features):
    return features.keypoints, features.scores, features.descriptors


def test_batches_equal_singles_bit_for_bit(random_bundle):
    extract = Extractor(str(random_bundle.folder), threshold=0.0, max_keypoints=500)
    pictures = [
        noise(*size, seed)
        for seed, size in enumerate([(96, 128), (100, 130), (64, 64), (97, 140), (1, 7), (96, 128)])
    ]
    together = extract.batch(pictures)
    assert min(len(features) for features in together) > 0
    for picture, features in zip(pictures, together, strict=True):
        for one, two in zip(fields(features), fields(extract(picture)), strict=True):
            np.testing.assert_array_equal(one, two)
    assert extract.batch([]) == []


def test_one_extractor_in_many_threads(random_bundle):
    extract = Extractor(str(random_bundle.folder), threshold=0.0, max_keypoints=500)
    pictures = [noise(96, 128, seed) for seed in range(8)]
    alone = [extract(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        for one, two in zip(alone, pool.map(extract, pictures), strict=True):
            for left, right in zip(fields(one), fields(two), strict=True):
                np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("semi_dense", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (1, 300), (33, 31), (70, 100)])
def test_a_real_bundle_on_odd_sizes(random_bundle, size, semi_dense):
    extract = Extractor(
        str(random_bundle.folder), threshold=0.0, max_keypoints=50, semi_dense=semi_dense
    )
    for picture in (noise(*size), np.full(size, 77, np.uint8)):
        image = load_image(picture)
        features = extract(image)
        assert_sound(features, image, 50)
        assert features.model == "random"
        assert features.descriptors.shape[1] == 64
    masked = extract(noise(*size), mask=np.ones(size, bool))
    assert len(masked) == 0
    assert masked.descriptors.shape == (0, 64)


def test_max_size_keeps_full_coordinates(random_bundle):
    image = noise(480, 640)
    features = Extractor(str(random_bundle.folder), threshold=0.0, max_size=128)(image)
    assert (features.width, features.height) == (640, 480)
    assert features.keypoints.max() > 500
    assert (features.keypoints < [640, 480]).all()


def test_views_of_arrays(random_bundle):
    """Pixels that are not contiguous are the pixels one sees."""
    extract = Extractor(str(random_bundle.folder), threshold=0.0)
    large = noise(192, 256)
    for one, two in zip(
        fields(extract(large[::2, ::2])), fields(extract(large[::2, ::2].copy())), strict=True
    ):
        np.testing.assert_array_equal(one, two)


def test_fit_is_opencv_linear():
    grey = np.random.default_rng(0).random((75, 100), np.float32)
    expected = cv2.resize(grey, (96, 64), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(xfeat.fit(grey), expected)
    assert xfeat.fit(np.zeros((5, 1000), np.float32)).shape == (32, 992)


def test_masks_of_an_image_reach_the_network():
    mask = np.zeros((64, 64), bool)
    mask[:, :32] = True
    net = plain_xfeat()
    image = Image(noise(64, 64), 640, 640, mask=mask)
    (found,) = net.sparse([image], 100, 0.0)
    assert len(found) > 0
    assert found.keypoints[:, 0].min() >= 320
