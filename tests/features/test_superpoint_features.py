"""SuperPoint on images: where things lie, with a network that is plain to see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from covis import Extractor, load_image
from covis.features.superpoint import SuperPoint, sample_descriptors
from covis.runtime.bundle import Bundle

quick = settings(max_examples=15, deadline=None)
sizes = st.tuples(st.integers(1, 150), st.integers(1, 150))


class PlainNetwork:
    """Keypoints are where the image is bright; a cell's descriptor says where it lies."""

    def __call__(self, outputs, image):
        assert image.dtype == np.float32
        assert image.shape[:2] == (1, 1)
        height, width = (side // 8 for side in image.shape[2:])
        column, row = np.meshgrid(np.arange(width), np.arange(height))
        cells = np.stack([column, row, np.ones_like(row)], axis=2).astype(np.float32)
        scores = np.ascontiguousarray(image[0, 0, : 8 * height, : 8 * width])
        return [scores, np.pad(cells, ((0, 0), (0, 0), (0, 253)))]


@pytest.fixture(scope="module")
def plain():
    bundle = Bundle("plain", "superpoint", {}, "-", "-", Path())
    return SuperPoint(bundle, graphs={"detect": PlainNetwork()})


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.uint8)


@quick
@example((1, 1))
@example((1, 2000))
@example((7, 200))
@example((8, 8))
@example((9, 9))
@example((15, 16))
@given(sizes)
def test_keypoints_of_images_of_any_size(plain, size):
    (found,) = plain.sparse([load_image(noise(*size))], 300, 0.0)
    assert len(found) <= 300
    assert found.descriptors.shape == (len(found), 256)
    for name in ("keypoints", "scores", "descriptors"):
        assert getattr(found, name).dtype == np.float32
    assert (np.diff(found.scores) <= 0).all()
    last = [side // 8 * 8 - 4 for side in size[::-1]]
    assert ((found.keypoints > 4) & (found.keypoints < last)).all()
    assert (len(found) > 0) == (min(last) > 4)


@quick
@given(st.integers(40, 150), st.integers(40, 150), st.floats(0.2, 0.8), st.floats(0.2, 0.8))
def test_convention_a_spot_is_found_where_it_was_painted(plain, height, width, x, y):
    """The centre of the top-left pixel is (0.5, 0.5): within half a pixel of what it shows."""
    centre = np.array([x * width, y * height])
    across, down = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    spot = np.exp(-((across - centre[0]) ** 2 + (down - centre[1]) ** 2) / (2 * 1.5**2))
    (found,) = plain.sparse([load_image((spot * 255).astype(np.uint8))], 1, 0.2)
    assert (np.abs(found.keypoints[0] - centre) <= 0.51).all()


def test_enlarged_images(plain):
    pixels = noise(50, 60)
    large = np.kron(pixels, np.ones((2, 2, 1), np.uint8))
    one, two = plain.sparse([load_image(pixels), load_image(large, max_size=60)], 200, 0.0)
    np.testing.assert_array_equal(two.keypoints, 2 * one.keypoints)
    np.testing.assert_array_equal(two.descriptors, one.descriptors)


@quick
@given(sizes, st.integers(0, 99), st.floats(0.0, 1.0))
def test_nothing_is_found_under_the_mask(plain, size, seed, share):
    mask = np.random.default_rng(seed).random(size) < share
    (found,) = plain.sparse([load_image(noise(*size, seed), mask=mask)], 10**6, 0.0)
    (free,) = plain.sparse([load_image(noise(*size, seed))], 10**6, 0.0)
    columns, rows = found.keypoints.astype(int).T
    assert not mask[rows, columns].any()
    columns, rows = free.keypoints.astype(int).T
    assert (~mask[rows, columns]).sum() == len(found)


@pytest.mark.parametrize("size", [(2, 2), (5, 9), (2, 30)])
def test_convention_sampling_is_what_pytorch_does_on_the_published_grid(size):
    torch = pytest.importorskip("torch", reason="grid_sample is PyTorch's: covis[train]")
    rng = np.random.default_rng(0)
    height, width = 8 * size[0], 8 * size[1]
    xy = np.column_stack([rng.integers(4, width - 4, 50), rng.integers(4, height - 4, 50)])
    cells = rng.standard_normal((*size, 16)).astype(np.float32)
    grid = torch.from_numpy(xy).float() - 8 / 2 + 0.5
    grid = 2 * grid / torch.tensor([width - 8 / 2 - 0.5, height - 8 / 2 - 0.5]) - 1
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(cells).permute(2, 0, 1)[None], grid[None, None], align_corners=True
    )
    expected = torch.nn.functional.normalize(sampled[0, :, 0].T, dim=1)
    np.testing.assert_allclose(sample_descriptors(cells, xy), expected, atol=1e-4)


@pytest.mark.usefixtures("home", "superpoint_bundle")
def test_extractor(texture):
    extract = Extractor("superpoint", max_keypoints=100, max_size=160)
    found = extract(texture)
    assert len(found) == 100
    assert (found.descriptors.shape[1], found.model) == (256, "superpoint")
    np.testing.assert_allclose(np.linalg.norm(found.descriptors, axis=1), 1, atol=1e-5)
    assert (found.keypoints < [640, 480]).all()
    assert found.keypoints.max() > 400
    grey = np.random.default_rng(0).integers(0, 256, (40, 50)).astype(np.uint8)
    batch = extract.batch([grey, texture, np.dstack([grey] * 3), np.zeros((1, 1), np.uint8)])
    np.testing.assert_array_equal(batch[1].descriptors, found.descriptors)
    np.testing.assert_array_equal(batch[0].keypoints, batch[2].keypoints)
    assert batch[3].descriptors.shape == (0, 256)
    assert len(extract(texture, mask=np.ones(texture.shape[:2], bool))) == 0
