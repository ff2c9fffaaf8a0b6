"""Pictures seen in tiles: the same as seen whole."""

from __future__ import annotations

import json
import shutil

import cv2
import numpy as np
import pytest
from helpers import detectors
from helpers.textures import draw_texture, noise
from hypothesis import given, settings
from hypothesis import strategies as st

from covis import Extractor, load_image
from covis.errors import ImageError
from covis.features import aliked, disk, edgepoint, sift, superpoint, tiles, xfeat
from covis.features.tiles import Best, Grey, Resized, whole
from covis.images.decode import to_grey
from covis.runtime import find_bundle, onnx

quick = settings(max_examples=25, deadline=None)


@quick
@given(
    st.integers(1, 2000),
    st.integers(1, 2000),
    st.sampled_from([32, 64, 96]),
    st.sampled_from([100, 256, 500]),
)
def test_every_pixel_is_one_tiles_own(height, width, margin, side):
    taken = np.zeros((height, width), np.uint8)
    found = tiles.tiles((height, width), margin, side**2)
    for tile in found:
        for axis, length in enumerate((height, width)):
            begin, end = tile.seen[axis], tile.seen[axis + 2]
            assert begin % 32 == 0
            assert begin == 0 or tile.own[axis] - begin >= margin
            assert end == length or end - tile.own[axis + 2] >= margin
            assert end - begin <= max(side, 2 * margin + 32, 32)
        top, left, bottom, right = tile.own
        taken[top:bottom, left:right] += 1
    assert (taken == 1).all()
    assert (len(found) == 1) == (max(height, width) <= max(side // 32 * 32, 2 * margin + 32))


@quick
@given(st.integers(0, 60), st.integers(1, 40), st.integers(1, 5), st.integers(0, 99))
def test_the_best_of_several_tiles_are_the_best_of_all(points, count, parts, seed):
    """Of few different scores: equal ones by row, then column."""
    rng = np.random.default_rng(seed)
    xy = rng.permutation(100)[:points, None] // [1, 10] % 10
    scores = rng.integers(0, 4, points).astype(np.float32)
    best = Best(count)
    for part in np.array_split(np.arange(points), parts):
        part = part[np.lexsort([xy[part, 0], xy[part, 1], -scores[part]])][:count]
        part = part[best.promising(scores[part])]
        best.add(xy[part], scores[part], part)
    order = np.lexsort([xy[:, 0], xy[:, 1], -scores])[:count]
    np.testing.assert_array_equal(best.more[0], order)
    np.testing.assert_array_equal(best.xy, xy[order])


@quick
@given(detectors.sizes(90), detectors.sizes(90), st.sampled_from([None, 0.6, 1.3]))
def test_crops_of_what_is_resized(size, other, scale):
    image = load_image(noise(*size))
    grey = to_grey(image)
    if scale is None:
        expected = cv2.resize(grey, other[::-1], interpolation=cv2.INTER_LINEAR)
    else:
        other = tuple(max(int(side * scale), 1) for side in size)
        expected = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
        expected = expected[: other[0], : other[1]]
    resized = Resized(Grey(image), other, scale)
    np.testing.assert_allclose(resized.crop(0, 0, *other), expected, atol=1e-6)
    top, left = other[0] // 3, other[1] // 2
    part = resized.crop(top, left, *other)
    np.testing.assert_allclose(part, expected[top:, left:], atol=1e-6)


def test_statistics_of_what_is_not_at_hand(monkeypatch):
    image = load_image(noise(50, 70))
    monkeypatch.setattr(tiles, "LARGE", 4 * 70 * 11)  # Bands of 11 rows.
    grey = to_grey(image).astype(np.float64)
    assert tiles.statistics(Grey(image)) == pytest.approx((grey.mean(), grey.var()), rel=1e-9)


# Networks.


@pytest.fixture(scope="module")
def picture():
    """Sides that are multiples of nothing; the right half is darker, with less contrast."""
    pixels = draw_texture(610, 790, seed=1)
    pixels[:, 395:] //= 3
    return pixels


@pytest.fixture(scope="module")
def mask():
    hidden = np.zeros((610, 790), bool)
    hidden[150:400, 200:650] = True
    return hidden


def seen_both_ways(monkeypatch, module, side, find):
    """What is found in tiles of about that side, and in the whole."""
    expected = find()
    monkeypatch.setattr(module, "LARGE", 1)
    monkeypatch.setattr(module, "TILE", side**2)
    return find(), expected


def assert_same(found, expected, atol, missing=0):
    """The same features to rounding, in whatever order where scores are equal; of the weakest
    ones, so many may be others."""
    assert len(found) == len(expected) > 100
    assert (np.diff(found.scores) <= 0).all()
    one, two = (
        np.column_stack([each.keypoints, np.zeros((len(each), 2))])
        if each.pixel_sizes is None
        else np.hstack([each.keypoints, each.pixel_sizes])
        for each in (found, expected)
    )
    gaps = np.abs(one[:, None] - two).max(axis=2)
    there = gaps.argmin(axis=1)
    near = gaps.min(axis=1) < 1e-3
    assert (~near).sum() <= missing
    there = there[near]
    assert len(set(there.tolist())) == len(there)
    np.testing.assert_allclose(found.scores[near], expected.scores[there], atol=atol)
    np.testing.assert_allclose(found.descriptors[near], expected.descriptors[there], atol=atol)


@pytest.mark.parametrize(("model", "module"), [("xfeat", xfeat), ("edgepoint-covis", edgepoint)])
def test_shipped_features(monkeypatch, picture, mask, model, module):
    monkeypatch.setattr(onnx, "fast_int8", lambda: False)
    extract = Extractor(model, max_keypoints=1500, threads=1)
    found, expected = seen_both_ways(monkeypatch, module, 544, lambda: extract(picture, mask))
    assert_same(found, expected, 1e-4, missing=2)
    x, y = found.keypoints.astype(int).T
    assert not mask[y, x].any()


def test_semi_dense(monkeypatch, picture, mask):
    monkeypatch.setattr(onnx, "fast_int8", lambda: False)
    extract = Extractor("xfeat", max_keypoints=2000, semi_dense=True, threads=1)
    found, expected = seen_both_ways(monkeypatch, xfeat, 640, lambda: extract(picture, mask))
    assert_same(found, expected, 2e-3, missing=4)  # Not of unit length, but of 5 to 10.


@pytest.mark.parametrize("semi_dense", [False, True])
def test_8_bit_integers_see_nearly_the_same(monkeypatch, picture, mask, semi_dense):
    """What a tile rounds otherwise than the whole moves or trades a few of the weakest points."""
    monkeypatch.setattr(onnx, "fast_int8", lambda: True)
    extract = Extractor("xfeat", max_keypoints=1500, semi_dense=semi_dense, threads=1)
    found, expected = seen_both_ways(monkeypatch, xfeat, 544, lambda: extract(picture, mask))
    gaps = np.linalg.norm(found.keypoints[:, None] - expected.keypoints, axis=2)
    there = gaps.argmin(axis=1)[gaps.min(axis=1) < 0.5]
    assert len(there) > 0.96 * 1500
    likeness = (found.descriptors[gaps.min(axis=1) < 0.5] * expected.descriptors[there]).sum(axis=1)
    lengths = np.linalg.norm(expected.descriptors[there], axis=1) ** 2
    assert np.median(likeness / lengths) > 0.99


def test_the_global_descriptor_is_that_of_the_picture_at_the_default_size(monkeypatch, picture):
    monkeypatch.setattr(xfeat, "DEFAULT_MAX_SIZE", 320)
    expected = Extractor("xfeat", max_size=320, threads=1)(picture).global_descriptor
    monkeypatch.setattr(xfeat, "LARGE", 1)
    found = Extractor("xfeat", max_keypoints=10, threads=1)(picture).global_descriptor
    assert found @ expected > 0.999


def test_a_bundle_of_an_earlier_version_sees_the_whole(monkeypatch, picture, tmp_path):
    """Its graph normalises by what it sees, and takes nothing else."""
    shutil.copytree(find_bundle("xfeat-covis").folder, tmp_path / "old")
    path = tmp_path / "old" / "bundle.json"
    about = json.loads(path.read_text())
    del about["settings"]["statistics"]
    path.write_text(json.dumps(about))
    extract = Extractor(str(tmp_path / "old"), max_keypoints=500, threads=1)
    found, expected = seen_both_ways(monkeypatch, xfeat, 32, lambda: extract(picture[:200, :300]))
    assert_same(found, expected, 0)
    monkeypatch.setattr("covis.features.extractor.LARGE", 100)
    monkeypatch.setattr("covis.features.extractor.free_memory", lambda: 300 * 200 * 110 - 1)
    with pytest.raises(ImageError, match=r"200 or less, or import the weights of 'xfeat-covis' a"):
        extract(picture[:200, :300])


class Bright:
    """Keypoints are where the image is bright, for ALIKED and DISK."""

    def __init__(self, *strides):
        self.strides = strides

    def __call__(self, outputs, pixels):
        height, width = pixels.shape[:2]
        maps = [np.zeros((height // s, width // s, 2), np.float32) for s in self.strides]
        return [pixels.mean(axis=2, dtype=np.float32) / 255, *maps]


class Nothing:
    def __call__(self, outputs, keypoints, **maps):
        return [np.zeros((len(keypoints), 8 if len(maps) > 1 else 128), np.float32)]


@pytest.mark.parametrize(
    ("runs", "module", "strides"),
    [(aliked.Aliked, aliked, (1, 2, 8, 32)), (disk.Disk, disk, (1,))],
)
def test_keypoints_that_the_network_sees_alike(monkeypatch, mask, runs, module, strides):
    network = detectors.plain_network(runs, detect=Bright(*strides), describe=Nothing())
    image = load_image(noise(610, 790), mask=mask)
    monkeypatch.setattr(module, "MARGIN", 32)
    found, expected = seen_both_ways(
        monkeypatch, module, 256, lambda: network.sparse([image], 1000, 0.93)[0]
    )
    assert_same(found, expected, 1e-4)


def test_superpoint(monkeypatch, picture, mask):
    class Cells:
        def __call__(self, outputs, image):
            height, width = (side // 8 for side in image.shape[2:])
            heat = cv2.GaussianBlur(image[0, 0], (0, 0), 1.0)
            blocks = image[0, 0, : 8 * height, : 8 * width].reshape(height, 8, width, 8)
            means = blocks.mean(axis=(1, 3))[..., None] * np.arange(1, 257, dtype=np.float32)
            return [heat[: 8 * height, : 8 * width], np.cos(means)]

    network = detectors.plain_network(superpoint.SuperPoint, detect=Cells())
    image = load_image(picture, mask=mask)
    found, expected = seen_both_ways(
        monkeypatch, superpoint, 256, lambda: network.sparse([image], 1000, 0.001)[0]
    )
    assert_same(found, expected, 1e-5)


def test_sift(monkeypatch, picture, mask):
    """Fine features are the same; coarse ones, of the picture shrunk, are near."""
    extract = Extractor("sift", max_keypoints=10**5)
    found, expected = seen_both_ways(monkeypatch, sift, 640, lambda: extract(picture, mask))
    fine, same = (each.scales <= sift.COARSE for each in (found, expected))
    one, two = (
        np.column_stack([each.keypoints, each.scales, each.orientations])[kept]
        for each, kept in ((found, fine), (expected, same))
    )
    order0, order1 = (np.lexsort(np.round(rows, 2).T) for rows in (one, two))
    assert len(one) > 300
    np.testing.assert_allclose(one[order0], two[order1], atol=1e-3)
    np.testing.assert_allclose(
        found.descriptors[fine][order0], expected.descriptors[same][order1], atol=1e-3
    )
    coarse = expected.keypoints[~same]
    gaps = np.linalg.norm(coarse[:, None] - found.keypoints[~fine], axis=2)
    assert (gaps.min(axis=1) < 8).mean() > 0.5


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (3, 5), (4, 4), (9, 7)])
def test_leave_out_the_border_of_a_whole(size):
    kept = np.ones(size, bool)
    whole(size).leave_out(kept, 2)
    assert kept.sum() == max(size[0] - 4, 0) * max(size[1] - 4, 0)
    assert kept[2:-2, 2:-2].all()
