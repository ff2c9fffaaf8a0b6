"""LightGlue's weights for other features as a run's start: only its first step knows descriptors.

What its attentions compare is the projection of a descriptor. A linear map of the new descriptors
comes near that where both features see one place, and is all that has to be learnt anew at first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from covis.errors import TrainingError
from covis.features import Extractor
from covis.nets.lightglue import LightGlue
from covis.types import Features

NEAR = 1.5
"""Pixels between keypoints that are taken for one place."""
LEAST = 10
"""So many places for each number of a descriptor, at least."""
PHOTOS = 100
KEYPOINTS = 2_048
"""Of a photo, among which the places are looked for."""

PROJECTION = "input_proj.weight", "input_proj.bias"


def translated(
    state: dict[str, Tensor],
    net: LightGlue,
    features: str,
    others: str,
    photos: Iterable[NDArray[Any]],
) -> dict[str, Tensor]:
    """`state`, a LightGlue's for the features `others`, with a projection of the descriptors of
    `features` instead: by least squares over the places where both have a keypoint. For `net`.

    photos: (h, w, 3) uint8. Raises TrainingError where `net` projects nothing, or the features meet
    at too few places.
    """
    if net.input_dim == net.dim:
        raise TrainingError(
            f"descriptors of {net.input_dim} numbers and a matcher of that width: it takes them as "
            "they are, and cannot begin with one for other features. Give another --dim, or no "
            "--start."
        )
    own, theirs = (
        Extractor(name, max_keypoints=KEYPOINTS, max_size=0, threshold=0.0, threads=1)
        for name in (features, others)
    )
    met = [_same_places(own(photo), theirs(photo)) for photo in photos]
    here, there = (np.concatenate(each) for each in zip(*met, strict=True))
    if len(here) < LEAST * net.input_dim:
        raise TrainingError(
            f"{own.model} and {theirs.model} have a keypoint in common at {len(here)} places; "
            f"{LEAST * net.input_dim} are needed. Give more photos, or no --start."
        )
    weight, bias = (state.get(key) for key in PROJECTION)
    wanted = torch.from_numpy(there).double()
    if weight is not None and bias is not None:
        wanted = wanted @ weight.double().T + bias.double()
    given = torch.from_numpy(np.column_stack([here, np.ones(len(here))])).double()
    found = torch.linalg.lstsq(given, wanted).solution.float()
    return state | dict(zip(PROJECTION, (found[:-1].T.contiguous(), found[-1]), strict=True))


def _same_places(a: Features, b: Features) -> tuple[NDArray[Any], NDArray[Any]]:
    """Descriptors [n, D] and [n, d] of keypoints that are each other's nearest, and `NEAR`."""
    if not len(a) or not len(b):
        return a.descriptors[:0], b.descriptors[:0]
    here, there = (torch.from_numpy(np.asarray(x.keypoints)).float() for x in (a, b))
    apart = torch.cdist(here, there)
    distance, nearest = apart.min(dim=1)
    mutual = apart.argmin(dim=0)[nearest] == torch.arange(len(a))
    rows = (mutual & (distance < NEAR)).nonzero()[:, 0]
    return a.descriptors[rows.numpy()], b.descriptors[nearest[rows].numpy()]
