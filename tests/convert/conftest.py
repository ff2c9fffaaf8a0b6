from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from covis.types import Features, Matches


def features(count: int = 6, *, shapes: bool = True, model: str = "made-up") -> Features:
    """Random ones of unit length, the first keypoint in the middle of the top-left pixel."""
    rng = np.random.default_rng(count)
    keypoints = (rng.random((count, 2)) * (640, 480)).astype(np.float32)
    keypoints[:1] = 0.5
    descriptors = rng.random((count, 128)).astype(np.float32)
    descriptors /= np.linalg.norm(descriptors, axis=1, keepdims=True)
    angles = rng.uniform(0.1, 6, count).astype(np.float32)
    return Features(
        keypoints=keypoints,
        scores=np.sort(rng.random(count).astype(np.float32))[::-1].copy(),
        descriptors=descriptors,
        width=640,
        height=480,
        model=model,
        scales=rng.uniform(1, 9, count).astype(np.float32) if shapes else None,
        orientations=angles if shapes else None,
    )


@pytest.fixture
def made() -> Callable[..., Features]:
    return features


@pytest.fixture
def two() -> tuple[Features, Features]:
    return features(6), features(5)


@pytest.fixture
def matched(two: tuple[Features, Features]) -> Matches:
    indices = np.array([[2, 0], [0, 4], [5, 1]])
    return Matches(
        points0=two[0].keypoints[indices[:, 0]],
        points1=two[1].keypoints[indices[:, 1]],
        scores=np.array([0.9, 0.5, 0.25], np.float32),
        indices=indices,
        model="made-up",
    )


def assert_alike(found: Features, truth: Features, *, tolerance: float = 1e-4) -> None:
    """The same features but for rounding; angles but for whole turns."""
    np.testing.assert_allclose(found.keypoints, truth.keypoints, atol=tolerance)
    np.testing.assert_allclose(found.descriptors, truth.descriptors, atol=tolerance)
    assert (found.width, found.height) == (truth.width, truth.height)
    for name in ("scales", "orientations"):
        values, expected = getattr(found, name), getattr(truth, name)
        if expected is None:
            assert values is None
            continue
        difference = values - expected
        if name == "orientations":
            difference = np.angle(np.exp(1j * difference))
        np.testing.assert_allclose(difference, 0, atol=tolerance)


@pytest.fixture
def alike() -> Callable[..., None]:
    return assert_alike


def assert_same_matches(found: Matches, truth: Matches) -> None:
    assert found.indices is not None
    np.testing.assert_array_equal(found.indices, truth.indices)
    np.testing.assert_array_equal(found.points0, truth.points0)
    np.testing.assert_array_equal(found.points1, truth.points1)
    np.testing.assert_allclose(found.scores, truth.scores, atol=1e-5)


@pytest.fixture
def same() -> Callable[..., None]:
    return assert_same_matches
