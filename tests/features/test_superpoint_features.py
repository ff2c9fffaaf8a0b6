"""SuperPoint on images: where things lie, with a network that is plain to see."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import detectors
from helpers.contracts import assert_sound
from helpers.textures import noise
from hypothesis import given, settings

from covis import load_image
from covis.features.superpoint import SuperPoint, sample_descriptors

quick = settings(max_examples=15, deadline=None)


class PlainNetwork:
    """Keypoints are where the image is bright; a cell's descriptor says where it lies."""

    def __call__(self, outputs, image):
        assert image.dtype == np.float32
        assert image.shape[:2] == (1, 1)
        height, width = (side // 8 for side in image.shape[2:])
        scores = np.ascontiguousarray(image[0, 0, : 8 * height, : 8 * width])
        return [scores, np.pad(detectors.cell_places(height, width), ((0, 0), (0, 0), (0, 253)))]


@pytest.fixture(scope="module")
def plain():
    return detectors.plain_network(SuperPoint, detect=PlainNetwork())


@detectors.any_size(150, (1, 1), (1, 2000), (7, 200), (8, 8), (9, 9), (15, 16))
def test_keypoints_of_images_of_any_size(plain, size):
    image = load_image(noise(*size))
    (found,) = plain.sparse([image], 300, 0.0)
    assert_sound(found, image, 300)
    assert found.descriptors.shape == (len(found), 256)
    last = [side // 8 * 8 - 4 for side in size[::-1]]
    assert ((found.keypoints > 4) & (found.keypoints < last)).all()
    # What the border has may suppress all there is in a small picture.
    assert len(found) == 0 if min(last) <= 4 else len(found) > 0 or min(last) < 20


@quick
@given(detectors.spots(150))
def test_convention_a_spot_is_found_where_it_was_painted(plain, spot):
    """The centre of the top-left pixel is (0.5, 0.5): within half a pixel of what it shows."""
    found, centre = detectors.find_spot(plain, spot, 1.5, 0.2)
    assert (np.abs(found.keypoints[0] - centre) <= 0.51).all()


def test_enlarged_images(plain):
    detectors.assert_doubled(plain)


@detectors.masks(150)
def test_nothing_is_found_under_the_mask(plain, size, seed, share):
    detectors.assert_masked(plain, size, seed, share)


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
