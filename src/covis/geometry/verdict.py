"""Do two pictures show the same? One probability, from what the geometry of their matches says.

A pair with a model is judged by four numbers that any matcher and any kind of geometry have:

- surprise: -log10 of how many models with as many inliers chance would bring (see
  `log10_false_alarms`), which makes 30 inliers of a homography and 60 of a fundamental matrix
  comparable;
- density: how many inliers there are for each keypoint of the picture with fewer, and a hundred
  more. A matcher that is sparing with matches has few that disagree, of any two pictures;
  keypoints are the same for all matchers;
- coverage: of the 8 x 8 cells of a picture, in how many an inlier lies; the lesser of the two;
- coherence: of neighbouring inliers, how many are turned and scaled alike from one picture to the
  other. An epipolar line leaves a match free along itself: what chance puts there lies anywhere
  on it, what is really there stays beside its neighbours. Keypoints of one corner, which agree or
  disagree together, are no neighbours here.

Inliers in one part of a picture bear witness to one thing, a corner of a frame or a letter; so the
surprise counts by the share of the picture it covers, the density by the root of that. The log-odds
are a weighted sum of log(1 + surprise * coverage), log(density * sqrt(coverage)) and
coherence * surprise / (1 + surprise), with weights that are not negative: more of any never makes a
pair less likely. A pair without a model is the less likely the more keypoints its pictures have,
log-odds -w log(1 + keypoints / 100): without any the odds are even.

The weights were fitted to pairs rendered from photographs, and pairs of different photographs, by
`python -m covis.training.recipes.verdict`; they lie in `verdict.json`, with what they were fitted
to.
Where the pictures are at hand, as in `covis.match`, `look_alikes` looks at them, too.
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
from covis.geometry.independent_places import coverage
from covis.geometry.two_view import default_threshold, log10_false_alarms
from covis.types import Features, FloatArray, Matches, Matrix, Verdict, VerdictLabel

CALIBRATION = Path(__file__).with_suffix(".json")
FEW_KEYPOINTS = 100
"""With so many keypoints in each picture, what was found and what was not begins to mean much."""
WEIGHTS = 4
"""Of a pair with a model; see `Evidence.terms`."""
LEAST_DENSITY = 1e-4
"""A lower one counts as this."""
NEIGHBOURS = 6
"""Of an inlier whose coherence is looked at, the nearest in picture 0."""
APART = 1 / 32
"""How far neighbours lie from each other at least, in longer sides, and half as far in picture 1:
closer ones may be one corner, found twice."""
ALIKE = 0.35
"""How far a neighbour's turn and scale may be from the median, as a share of that."""
SAMPLED = 400
"""Inliers whose coherence is looked at, at most: all distances between them are taken."""


class Evidence(NamedTuple):
    """What a probability is computed from; see above.

    keypoints: in the picture that has fewer. model: whether there is one; without it the other
    numbers are zero.
    """

    keypoints: int
    model: bool = False
    surprise: float = 0.0
    density: float = 0.0
    coverage: float = 0.0
    coherence: float = 0.0

    def terms(self) -> Matrix:
        """What the weights multiply: (4,) with a model, the first 1; (1,) without."""
        if not self.model:
            return np.array([-math.log1p(self.keypoints / FEW_KEYPOINTS)])
        covered = math.log1p(self.surprise * self.coverage)
        density = math.log(max(self.density * math.sqrt(self.coverage), LEAST_DENSITY))
        # The few matches that determine a model are coherent by that alone.
        coherence = self.coherence * self.surprise / (1 + self.surprise)
        return np.array([1.0, covered, density, coherence])


@dataclass(frozen=True)
class Calibration:
    """The weights, and where the labels begin.

    with_model: (4,), the constant's, the covered surprise's, the density's, the coherence's.
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
            weights = tuple(map(float, stored["with_model"]))
            if len(weights) != WEIGHTS:
                raise ValueError(f"{len(weights)} weights with a model, not {WEIGHTS}")
            return cls(weights, *(float(stored[n]) for n in names))
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
    calibration = shipped()
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
    both = ((matches.points0, size0), (matches.points1, size1))
    count = int(inliers.sum())
    threshold = default_threshold(geometry.kind, size0, size1)
    alarms = log10_false_alarms(geometry.kind, len(matches), count, threshold, size0, size1)
    places0, places1 = (points[inliers] / np.float32(max(size)) for points, size in both)
    return Evidence(
        keypoints,
        model=True,
        surprise=max(-alarms, 0.0),
        density=count / (keypoints + FEW_KEYPOINTS),
        coverage=min(coverage(points[inliers], size) for points, size in both),
        coherence=_coherence(places0, places1, matches.mirrored),
    )


def _coherence(places0: FloatArray, places1: FloatArray, mirrored: bool) -> float:
    """The share of neighbours, 0..1, that are turned and scaled alike; 0 where there are too few.

    places0, places1: (N, 2), in longer sides. mirrored: whether picture 1 is.
    """
    step = max(1, math.ceil(len(places0) / SAMPLED))
    z0, z1 = (places[::step] @ np.array([1, 1j]) for places in (places0, places1))
    z1 = z1.conj() if mirrored else z1
    away0, away1 = z0 - z0[:, None], z1 - z1[:, None]
    usable = (abs(away0) > APART) & (abs(away1) > APART / 2)
    distance = np.where(usable, abs(away0), np.inf)
    nearest = np.argsort(distance, axis=1, kind="stable")[:, :NEIGHBOURS]
    rows = np.arange(len(z0))[:, None]
    # The quotient of two steps as complex numbers is a turn and a scale in one.
    chosen = usable[rows, nearest]
    moved = away1[rows, nearest][chosen] / away0[rows, nearest][chosen]
    if not len(moved):
        return 0.0
    middle = np.median(moved.real) + 1j * np.median(moved.imag)
    return float((abs(moved - middle) < ALIKE * abs(middle)).mean())


@cache
def shipped() -> Calibration:
    """That of the package."""
    return Calibration.read()
