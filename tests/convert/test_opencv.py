"""Keypoints and matches of OpenCV."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest

import covis
from covis.convert import opencv
from covis.errors import ArgumentError
from covis.images.decode import load_image


def test_features_come_back(made, alike) -> None:
    truth = made()
    found = opencv.features(opencv.keypoints(truth), truth.descriptors, 640, 480, "made-up")
    alike(found, truth)
    np.testing.assert_allclose(found.scores, truth.scores)
    assert found.model == "made-up"


def test_the_top_left_pixel_is_at_nought(made) -> None:
    assert opencv.keypoints(made())[0].pt == (0, 0)


def test_features_without_shapes(made) -> None:
    truth = made(shapes=False)
    keypoints = opencv.keypoints(truth)
    assert {(each.size, each.angle) for each in keypoints} == {(1, -1)}
    assert opencv.features(keypoints, truth.descriptors, 640, 480).orientations is None


def test_no_features(made) -> None:
    none = made(0)
    assert opencv.keypoints(none) == []
    assert len(opencv.features([], none.descriptors, 640, 480)) == 0


def test_the_same_sift_as_opencvs_own(texture) -> None:
    """OpenCV's keypoints through the conversion are those that covis finds."""
    grey = cv2.cvtColor(texture, cv2.COLOR_RGB2GRAY)
    sift = cv2.SIFT_create(nfeatures=200, enable_precise_upscale=True)
    keypoints, descriptors = sift.detectAndCompute(grey, None)
    order = sorted(range(len(keypoints)), key=lambda place: -keypoints[place].response)[:200]
    found = opencv.features([keypoints[i] for i in order], descriptors[order], 640, 480)
    extract = covis.Extractor("sift", max_keypoints=200, max_size=None)
    truth = extract(load_image(texture))
    np.testing.assert_allclose(found.keypoints, truth.keypoints, atol=1e-4)
    np.testing.assert_allclose(found.scales, truth.scales, atol=1e-4)
    np.testing.assert_allclose(found.orientations, truth.orientations, atol=1e-5)


def test_matches_come_back(two, matched, same) -> None:
    found = opencv.matches(opencv.dmatches(matched), *two)
    same(found, matched)


def test_matches_of_opencvs_matcher_are_those_of_covis(made) -> None:
    """The distance of unit descriptors is what the score says."""
    truth = made(40)
    rng = np.random.default_rng(9)
    noisy = truth.descriptors + rng.normal(0, 0.01, truth.descriptors.shape).astype(np.float32)
    other = replace(truth, descriptors=noisy / np.linalg.norm(noisy, axis=1, keepdims=True))
    theirs = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(truth.descriptors, other.descriptors)
    found = opencv.matches(theirs, truth, other)
    expected = covis.Matcher("nearest")(truth, other)
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.scores, expected.scores, atol=1e-5)


def test_exception_for_matches_without_indices(matched) -> None:
    with pytest.raises(ArgumentError, match="no indices"):
        opencv.dmatches(replace(matched, indices=None))


def test_exception_for_a_match_of_other_features(made, matched) -> None:
    with pytest.raises(ArgumentError, match="match 2 is of features"):
        opencv.matches(opencv.dmatches(matched), made(5), made(5))


def test_exception_for_descriptors_that_are_bits() -> None:
    keypoints = [cv2.KeyPoint(1, 1, 1)]
    with pytest.raises(ArgumentError, match="uint8"):
        opencv.features(keypoints, np.zeros((1, 32), np.uint8), 640, 480)
