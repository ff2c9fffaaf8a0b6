"""EdgePoint2 on images: where things lie, with a network that is plain to see."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import detectors
from helpers.contracts import assert_sound
from helpers.textures import noise
from hypothesis import given, settings

from covis import Extractor, load_image
from covis.features.edgepoint import EdgePoint, between_pixels, network_input, sample_descriptors

quick = settings(max_examples=15, deadline=None)


class PlainNetwork:
    """Keypoints are where the image is bright; a cell's descriptor says where it lies."""

    def __call__(self, outputs, image):
        assert outputs == ["scores", "descriptors"]
        assert image.dtype == np.float32
        assert image.shape[1] == 1
        assert all(side % 32 == 0 for side in image.shape[2:])
        height, width = (side // 4 for side in image.shape[2:])
        cells = detectors.cell_places(height, width)
        return [image[:, 0].copy(), np.repeat(cells[None], len(image), axis=0)]


@pytest.fixture(scope="module")
def plain():
    return detectors.plain_network(EdgePoint, detect=PlainNetwork())


@detectors.any_size(150, (1, 1), (1, 2000), (8, 8), (9, 9), (31, 33))
def test_keypoints_of_images_of_any_size(plain, size):
    image = load_image(noise(*size))
    (found,) = plain.sparse([image], 300, 0.0)
    assert_sound(found, image, 300)
    assert found.descriptors.shape == (len(found), 3)
    assert ((found.scores > 0) & (found.scores < 1)).all()
    last = [side - 4 for side in size[::-1]]
    assert ((found.keypoints > 4) & (found.keypoints < last)).all()
    assert len(found) > 0 or min(last) < 12


@quick
@given(detectors.spots(150))
def test_convention_a_spot_is_found_where_it_was_painted(plain, spot):
    """The centre of the top-left pixel is (0.5, 0.5)."""
    found, centre = detectors.find_spot(plain, spot, 1.5, 0.5)
    assert (np.abs(found.keypoints[0] - centre) <= 0.05).all()
    # The network's descriptors say in which cell of four pixels they were made.
    column, row, one = found.descriptors[0]
    # They are sampled at the pixel's centre, at most half a pixel from the spot.
    np.testing.assert_allclose([column / one, row / one], found.keypoints[0] / 4 - 0.5, atol=0.14)


def test_maxima_are_found_between_pixels():
    """A parabola's top is where it was put, to a thousandth of a pixel."""
    tops = np.array([[10.0, 12.0], [30.3, 11.6], [20.45, 30.55]])
    logits = np.full((40, 40), -50, np.float32)
    for x, y in tops:
        across, down = np.meshgrid(np.arange(40) - x, np.arange(40) - y)
        logits = np.maximum(logits, 5 - across**2 - 2 * down**2).astype(np.float32)
    xy = np.rint(tops).astype(np.intp)
    np.testing.assert_allclose(between_pixels(logits, xy), tops, atol=1e-3)


def test_flat_maxima_stay_where_they_are():
    np.testing.assert_array_equal(
        between_pixels(np.zeros((9, 9), np.float32), np.array([[4, 4]])), [[4, 4]]
    )


def test_neighbours_are_five_pixels_apart(plain):
    image = np.zeros((64, 64), np.uint8)
    image[20, [20, 22, 25, 40]] = 255, 250, 249, 200
    (found,) = plain.sparse([load_image(image)], 10, 0.9)
    np.testing.assert_allclose(
        found.keypoints, [[20.5, 20.5], [25.5, 20.5], [40.5, 20.5]], atol=0.02
    )


def test_enlarged_images(plain):
    detectors.assert_doubled(plain, rtol=1e-6)


@detectors.masks(150)
def test_nothing_is_found_under_the_mask(plain, size, seed, share):
    detectors.assert_masked(plain, size, seed, share)


@quick
@given(detectors.sizes(150))
def test_padding_does_not_change_the_image(size):
    """Mean and variance are the image's own."""
    grey = np.random.default_rng(0).random(size).astype(np.float32) + np.float32(0.1)
    found = network_input(grey)
    assert found.shape == tuple(-(-side // 32) * 32 for side in size)
    inner = found[: size[0], : size[1]]
    np.testing.assert_allclose(inner.mean(), 0, atol=1e-5)
    if min(size) > 1:
        np.testing.assert_allclose(inner.std(), 1, atol=1e-2)
    beside = found[: size[0], size[1] :]
    assert (beside == found[: size[0], size[1] - 1 : size[1]]).all()
    assert (found[size[0] :] == found[size[0] - 1]).all()


@pytest.mark.parametrize("size", [(2, 2), (5, 9), (2, 30)])
def test_convention_sampling_is_what_pytorch_does_at_pixel_centres(size):
    torch = pytest.importorskip("torch", reason="grid_sample is PyTorch's: covis[train]")
    rng = np.random.default_rng(0)
    height, width = 4 * size[0], 4 * size[1]
    xy = np.column_stack([rng.integers(0, width, 50), rng.integers(0, height, 50)])
    cells = rng.standard_normal((*size, 16)).astype(np.float32)
    grid = 2 * (torch.from_numpy(xy).float() + 0.5) / torch.tensor([width, height]) - 1
    sampled = torch.nn.functional.grid_sample(
        torch.from_numpy(cells).permute(2, 0, 1)[None],
        grid[None, None],
        align_corners=False,
        padding_mode="border",
    )
    expected = torch.nn.functional.normalize(sampled[0, :, 0].T, dim=1)
    np.testing.assert_allclose(sample_descriptors(cells, xy), expected, atol=1e-4)


@pytest.mark.usefixtures("home", "edgepoint_bundle")
@pytest.mark.parametrize("size", [(64, 96), (70, 100)])
def test_the_bundle_gives_what_the_network_gives(random_edgepoint, texture, size):
    """Padded at the right and below only: the image itself lies where it lay."""
    torch = pytest.importorskip("torch", reason="networks need PyTorch: covis[train]")
    picture = np.ascontiguousarray(texture[: size[0], : size[1]])
    found = Extractor("edgepoint", max_keypoints=50, threshold=0.0)(picture)
    grey = torch.from_numpy(picture).permute(2, 0, 1)[None].float().mean(dim=1, keepdim=True) / 255
    grey = random_edgepoint.normalise(grey)
    padded = torch.nn.functional.pad(grey, (0, -size[1] % 32, 0, -size[0] % 32), mode="replicate")
    with torch.inference_mode():
        maps = random_edgepoint.maps(padded)
    scores = maps.scores[0, 0, : size[0], : size[1]].sigmoid().numpy()
    assert len(found) > 10
    columns, rows = found.keypoints.astype(int).T
    np.testing.assert_allclose(found.scores, scores[rows, columns], atol=1e-4)
    cells = np.ascontiguousarray(maps.descriptors[0].permute(1, 2, 0).numpy())
    expected = sample_descriptors(cells, found.keypoints.astype(np.intp))
    np.testing.assert_allclose(found.descriptors, expected, atol=1e-3)
