"""Do two pictures show the same? One probability, from what the geometry of their matches says.

A pair with a model is judged by three numbers that any matcher and any kind of geometry have:

- surprise: -log10 of how many models with as many inliers chance would bring (see
  `log10_false_alarms`), which makes 30 inliers of a homography and 60 of a fundamental matrix
  comparable. Neighbouring keypoints agree or disagree together, so places are counted, not
  points: square cells, PLACES along the longer side, of the picture where they are fewer;
- share: of the matches, how many are inliers;
- coverage: of the 8 x 8 cells of a picture, in how many an inlier lies; the lesser of the two.

Inliers in one part of a picture bear witness to one thing, a corner of a frame or a letter; so the
surprise counts by the share of the picture it covers. The log-odds are a weighted sum of
log(1 + surprise * coverage) and log(share), with weights that are not negative: more of any never
makes a pair less likely. A pair without a model is the less likely the more keypoints its pictures
have, log-odds -w log(1 + keypoints / 100): without any the odds are even.

The weights were fitted to pairs rendered from photographs, and pairs of different photographs, by
`python -m covis.training.recipes.verdict`; they lie in `verdict.json`, with what they were fitted
to.
Before the pictures are seen the odds are even. Where pairs that show the same are rare, as among
all pairs of a large folder, the probability is lower by what they are rarer.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from covis.errors import CovisError
from covis.geometry.two_view import default_threshold, log10_false_alarms
from covis.types import (
    BoolArray,
    Features,
    FloatArray,
    GeometryKind,
    Matches,
    Matrix,
    Verdict,
    VerdictLabel,
)

CALIBRATION = Path(__file__).with_suffix(".json")
PLACES = 32
"""Along a picture's longer side. Of 500 pairs of unrelated photographs at 480 pixels, nearest
neighbours, the most surprising had 13 at 48 a side, 9 at 32 and 2 at 16; of 60 pairs of views of
one photograph 53, 53 and 50 had more."""
GRID = 8
"""Cells along each side of a picture whose coverage is counted."""
FEW_KEYPOINTS = 100
"""With so many keypoints in each picture, that no model was found begins to mean something."""
LEAST_SHARE = 1e-4
"""Of the inliers; a lower one counts as this."""


class Evidence(NamedTuple):
    """What a probability is computed from; see above.

    keypoints: in the picture that has fewer. model: whether there is one; without it the other
    numbers are zero.
    """

    keypoints: int
    model: bool = False
    surprise: float = 0.0
    share: float = 0.0
    coverage: float = 0.0

    def terms(self) -> Matrix:
        """What the weights multiply: (3,) with a model, the first 1; (1,) without."""
        if not self.model:
            return np.array([-math.log1p(self.keypoints / FEW_KEYPOINTS)])
        covered = math.log1p(self.surprise * self.coverage)
        return np.array([1.0, covered, math.log(max(self.share, LEAST_SHARE))])


@dataclass(frozen=True)
class Calibration:
    """The weights, and where the labels begin.

    with_model: (3,), the constant's, the covered surprise's, the share's.
    without_model: of the keypoints.
    same: the least probability that is called so. different: the largest.
    least: no probability is nearer to 0 or 1 than this; there were no more pairs to tell.
    """

    with_model: tuple[float, ...]
    without_model: float
    same: float
    different: float
    least: float

    @classmethod
    def read(cls, path: Path = CALIBRATION) -> Self:
        """Read what `training.recipes.verdict` wrote. Raises CovisError for any other file."""
        try:
            stored: dict[str, Any] = json.loads(path.read_text("utf-8"))
            names = ("without_model", "same", "different", "least")
            return cls(tuple(map(float, stored["with_model"])), *(float(stored[n]) for n in names))
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise CovisError(
                f"{path}: not a calibration of the verdict ({error!r}); install covis again."
            ) from error

    def probability(self, evidence: Evidence) -> float:
        weights = self.with_model if evidence.model else (self.without_model,)
        log_odds = float(evidence.terms() @ np.array(weights))
        return min(max(1 / (1 + math.exp(-log_odds)), self.least), 1 - self.least)

    def label(self, probability: float) -> VerdictLabel:
        if probability >= self.same:
            return "same"
        return "different" if probability <= self.different else "unsure"


def judge(matches: Matches, features0: Features, features1: Features) -> Verdict | None:
    """Whether two pictures show the same, by their matches and the geometry fitted to them.

    matches: with the geometry that `estimate_geometry` finds at its default threshold.

    None where no geometry was asked for: bare matches tell too little.
    """
    evidence = find_evidence(matches, features0, features1)
    if evidence is None:
        return None
    calibration = _shipped()
    probability = calibration.probability(evidence)
    return Verdict(calibration.label(probability), probability)


def find_evidence(matches: Matches, features0: Features, features1: Features) -> Evidence | None:
    """What `judge` goes by; None where no geometry was asked for."""
    geometry = matches.geometry
    if geometry is None or geometry.kind == "none":
        return None
    keypoints = min(len(features0), len(features1))
    if geometry.matrix is None:
        return Evidence(keypoints)
    size0, size1 = (features0.width, features0.height), (features1.width, features1.height)
    inliers = geometry.inliers
    threshold = default_threshold(geometry.kind, size0, size1)
    surprise, coverage = agreement(
        geometry.kind, matches.points0, matches.points1, inliers, threshold, size0, size1
    )
    share = int(inliers.sum()) / len(matches)
    return Evidence(keypoints, True, surprise, share, coverage)


def agreement(
    kind: GeometryKind,
    points0: FloatArray,
    points1: FloatArray,
    inliers: BoolArray,
    threshold: float,
    size0: tuple[int, int],
    size1: tuple[int, int],
) -> tuple[float, float]:
    """The surprise and the coverage of a model, see above.

    points0, points1: (N, 2), of all matches, at least one. inliers: (N,) bool.
    kind: not "none". threshold: in pixels, that of the inliers.
    """
    both = ((points0, size0), (points1, size1))
    places = min(_places(points, size) for points, size in both)
    agreeing = min(_places(points[inliers], size) for points, size in both)
    alarms = log10_false_alarms(
        kind, places, agreeing, threshold, size0, size1, matches_each=len(points0) / places
    )
    coverage = min(_coverage(points[inliers], size) for points, size in both)
    return max(-alarms, 0.0), coverage


def _places(points: FloatArray, size: tuple[int, int]) -> int:
    """In how many square cells, PLACES along the longer side, (N, 2) points lie."""
    return _cells(points, np.full(2, PLACES / max(size)), PLACES)


def _coverage(points: FloatArray, size: tuple[int, int]) -> float:
    """The share of a picture's cells, GRID a side, that (N, 2) points lie in, 0..1."""
    return _cells(points, GRID / np.array(size), GRID) / GRID**2


def _cells(points: FloatArray, per_pixel: Matrix, most: int) -> int:
    """In how many cells points lie. per_pixel: (2,), cells a pixel. most: cells along a side."""
    cells = np.clip(points * per_pixel, 0, most - 1).astype(np.int64)
    return len(np.unique(cells[:, 0] * most + cells[:, 1]))


@cache
def _shipped() -> Calibration:
    return Calibration.read()
