"""Kornia's local affine frames (LAFs). Needs PyTorch, not kornia.

A LAF is (2, 3): half the axes of the patch around a keypoint, and its centre, the top-left pixel's
centre at (0, 0). Kornia counts angles counter-clockwise, covis clockwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from covis.convert.torch import array, need_torch
from covis.errors import ArgumentError
from covis.types import Features

if TYPE_CHECKING:
    import torch

PATCH = 6.0
"""How many times as large as the feature's scale the patch is, as kornia has it for OpenCV's."""


def lafs(features: Features, patch: float = PATCH) -> torch.Tensor:
    """(1, N, 2, 3) float32: the frames of features; upright and of scale 1 where they have none.

    patch: a LAF's size over the feature's scale, `mrSize` in kornia.

    Raises CovisError where PyTorch is missing.
    """
    torch = need_torch()
    count = len(features)
    sizes = np.ones(count) if features.scales is None else features.scales
    angles = np.zeros(count) if features.orientations is None else features.orientations
    across, down = patch * sizes * np.cos(angles), patch * sizes * np.sin(angles)
    frames = np.empty((1, count, 2, 3), np.float32)
    frames[0, :, 0] = np.column_stack([across, -down, features.keypoints[:, 0] - 0.5])
    frames[0, :, 1] = np.column_stack([down, across, features.keypoints[:, 1] - 0.5])
    return torch.from_numpy(frames)


def features(
    lafs: torch.Tensor,
    responses: torch.Tensor,
    descriptors: torch.Tensor,
    size: tuple[int, int],
    model: str = "kornia",
    patch: float = PATCH,
) -> Features:
    """Features of what kornia's `LocalFeature` gives for one image, in its order.

    lafs: (1, N, 2, 3). responses: (1, N), the scores. descriptors: (1, N, D). Each with or without
        the first dimension, on any device.
    size: (width, height) of the image in pixels. model: what made them.
    patch: as for `lafs`. What a frame has of slant is lost; its area and orientation are kept.

    Raises ArgumentError for several images, and for arrays that do not belong together.
    """
    frames = array(lafs, 3).astype(np.float32)
    if frames.shape[1:] != (2, 3):
        raise ArgumentError(f"LAFs have the shape (1, N, 2, 3), not {tuple(lafs.shape)}.")
    axes = frames[:, :, :2]
    return Features(
        keypoints=frames[:, :, 2] + np.float32(0.5),
        scores=array(responses, 1),
        descriptors=array(descriptors, 2),
        width=size[0],
        height=size[1],
        model=model,
        scales=np.sqrt(np.abs(np.linalg.det(axes))) / np.float32(patch),
        orientations=-np.arctan2(axes[:, 0, 1], axes[:, 0, 0]),
    )
