"""PyTorch's tensors, in the dictionaries that LightGlue and kornia's version of it take and give.

There the centre of the top-left pixel is (0, 0). Needs PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covis.convert.pairs import matches_of
from covis.errors import ArgumentError, CovisError
from covis.messages import extra
from covis.types import Features, Matches

if TYPE_CHECKING:
    import torch

_OPTIONAL = {"scales": "scales", "oris": "orientations"}
"""LightGlue's names and covis'."""


def tensors(features: Features) -> dict[str, torch.Tensor]:
    """Features as the dictionary of one image that LightGlue takes, float32 on the CPU.

    keypoints (1, N, 2), the top-left pixel's centre at (0, 0); keypoint_scores (1, N);
    descriptors (1, N, D); image_size (1, 2), width and height; scales and oris (1, N), in pixels
    and radians, where there are any.

    Raises CovisError where PyTorch is missing.
    """
    torch = need_torch()
    arrays: dict[str, NDArray[Any]] = {
        "keypoints": features.keypoints - np.float32(0.5),
        "keypoint_scores": features.scores,
        "descriptors": features.descriptors,
        "image_size": np.array([features.width, features.height], np.float32),
    }
    for theirs, ours in _OPTIONAL.items():
        if getattr(features, ours) is not None:
            arrays[theirs] = getattr(features, ours)
    # Copied: what is done to a tensor must not change the features.
    return {name: torch.tensor(values)[None] for name, values in arrays.items()}


def features(found: Mapping[str, Any], model: str, size: tuple[int, int] | None = None) -> Features:
    """Features of the dictionary of one image, as LightGlue's extractors give it.

    found: as `tensors` makes it, with or without the first dimension, on any device.
    model: what made them; features of one model alone can be matched.
    size: (width, height) of the image in pixels, where `found` has no image_size.

    Raises ArgumentError where something is missing, or there are several images.
    """
    missing = [name for name in ("keypoints", "descriptors") if name not in found]
    if missing:
        raise ArgumentError(f"{missing[0]} is missing; there are: {', '.join(found)}.")
    points = array(found["keypoints"], 2)
    if size is None:
        if "image_size" not in found:
            raise ArgumentError("image_size is missing; give the image's size.")
        width, height = array(found["image_size"], 1).tolist()
        size = round(width), round(height)
    scores = np.ones(len(points), np.float32)
    if "keypoint_scores" in found:
        scores = array(found["keypoint_scores"], 1)
    return Features(
        keypoints=points + np.float32(0.5),
        scores=scores,
        descriptors=array(found["descriptors"], 2),
        width=size[0],
        height=size[1],
        model=model,
        **{ours: array(found[theirs], 1) for theirs, ours in _OPTIONAL.items() if theirs in found},
    )


def matches(found: Mapping[str, Any], features0: Features, features1: Features) -> Matches:
    """Matches of the dictionary that LightGlue gives for one pair, best first.

    found: `matches0` (1, N0), for each feature of image 0 that of image 1 or -1, and
        `matching_scores0` (1, N0); with or without the first dimension, on any device.
    features0, features1: what it was given, as covis has it.

    Raises ArgumentError where something is missing, or these are not the features that were
    matched.
    """
    missing = [name for name in ("matches0", "matching_scores0") if name not in found]
    if missing:
        raise ArgumentError(f"{missing[0]} is missing; there are: {', '.join(found)}.")
    matches0 = array(found["matches0"], 1).astype(np.int64)
    scores0 = array(found["matching_scores0"], 1)
    first = np.flatnonzero(matches0 >= 0)
    indices = np.column_stack([first, matches0[first]])
    return matches_of(indices, scores0[first], features0, features1)


def array(values: Any, dimensions: int) -> NDArray[Any]:
    """A tensor or array as NumPy has it, without the dimension of one image.

    Raises ArgumentError for several images.
    """
    if hasattr(values, "detach"):
        values = values.detach().cpu().numpy()
    values = np.asarray(values)
    if values.ndim == dimensions + 1 and len(values) == 1:
        values = values[0]
    if values.ndim != dimensions:
        raise ArgumentError(f"the shape {values.shape} is not that of one image; give one.")
    return values


def need_torch() -> Any:
    """The module. Raises CovisError where it is not installed."""
    try:
        import torch
    except ModuleNotFoundError:
        raise CovisError(f"tensors need PyTorch: {extra('train')}") from None
    return torch
