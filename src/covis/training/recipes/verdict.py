"""Calibrate the verdict on pairs with known answers.

    python -m covis.training.recipes.verdict --photos DIR --out src/covis/geometry/verdict.json

Pairs that show the same: two views of one photograph, rendered by `render_pair` or cut from it
and warped, in different light. Pairs that do not: two photographs, half of them as they are, at one
of several sizes and with all keypoints, and half a view of each; half of all are those with the
most alike colours. Each pair takes one of the methods and one kind of geometry, each view a number
of keypoints at random, half of them the default 4,096, so that one calibration holds for all. A
view belongs to one fold alone; the thresholds are set on probabilities by weights that were fitted
without the pair's fold.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.api import verify
from covis.errors import CovisError, TrainingError
from covis.evaluation.metrics.calibration import (
    brier_score,
    describe,
    even_weights,
    log_loss,
    rates,
)
from covis.features import Extractor
from covis.files.atomic import replacing
from covis.geometry.verdict import Calibration, Evidence, find_evidence
from covis.images.decode import load_image
from covis.images.picture_files import pictures_below
from covis.matching import Matcher, needs_semi_dense
from covis.training.data.photometric import degrade
from covis.training.data.photos import read_photo
from covis.training.data.scenes import Scenes
from covis.training.data.synthetic import Difficulty, render_pair
from covis.types import BoolArray, Features, GeometryKind, Matrix

Pixels = NDArray[Any]
Views = list[Pixels]
KINDS: tuple[GeometryKind, ...] = ("homography", "fundamental", "essential")
METHODS = ("xfeat:nearest", "sift:nearest", "xfeat:semi-dense", "xfeat:lightglue")
"""Features and matcher."""

FOLDS = 4
CHUNK = 40
"""Photographs held at a time; look-alikes are looked for among them."""
LOOK_ALIKES, OTHERS = 2, 2
"""Pairs that show different things, for each view."""
MAX_KEYPOINTS, MIN_KEYPOINTS = 4096, 8
SIZES = (320, 480, 640, 960, 1600)
"""Longer sides that photographs as they are are shrunk to, in pixels."""
MIN_OVERLAP = 0.1
"""What two views of one photograph share at least, of either."""
FALSE_ALARMS = 0.001
"""How many pairs of different photographs may be called the same."""
WORST_FALSE_ALARMS = 0.0025
"""The same within any one method and kind of geometry."""
SCENES = 0.5
"""Pairs of scenes for each view of a photograph, where there are some."""
MISSES = 0.02
"""How many pairs of one photograph may be called different."""
DAMPING = 1e-3
"""Keeps weights finite that the pairs do not determine."""


@dataclass(frozen=True)
class Sample:
    """One pair: whether it shows the same, what was found, and how."""

    same: bool
    evidence: Evidence
    fold: int
    method: str
    kind: GeometryKind


def render_views(photo: Pixels, rng: np.random.Generator) -> list[Pixels]:
    """Two grey views of a photo (BGR), 400 to 960 pixels wide, that share MIN_OVERLAP or more."""
    light = rng.uniform(0, 2)
    if rng.random() < 0.5:
        return [degrade(view, light, rng) for view in _cuttings(photo, rng)]
    difficulty = Difficulty(
        rotation=45, zoom=2.5, tilt=rng.uniform(20, 60), bend_probability=0.15, light=light
    )
    while True:
        pair = render_pair([photo], int(rng.choice([480, 640])), difficulty, rng)
        if pair.visible.mean() >= MIN_OVERLAP:
            return list(pair.views)


def _cuttings(photo: Pixels, rng: np.random.Generator) -> Iterator[Pixels]:
    """Two parts of a photo, each seen at its own slant, and of its own size and shape."""
    whole = np.array(photo.shape[1::-1])
    while True:
        quads = _quad(whole, rng), _quad(whole, rng)
        shared, _ = cv2.intersectConvexConvex(quads[0], quads[1])
        if shared >= MIN_OVERLAP * max(cv2.contourArea(quad) for quad in quads):
            break
    for quad in quads:
        width = int(rng.integers(400, 961))
        height = round(width * float(rng.uniform(0.6, 1.1)))
        corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
        yield cv2.warpPerspective(
            photo,
            cv2.getPerspectiveTransform(quad, corners),
            (width, height),
            flags=cv2.INTER_CUBIC,
            borderMode=cv2.BORDER_REFLECT,
        )


def _quad(whole: NDArray[Any], rng: np.random.Generator) -> NDArray[np.float32]:
    """(4, 2): the corners of a leaning, uneven part of a picture of size (w, h), convex."""
    side = whole * rng.uniform(0.45, 1)
    centre = rng.uniform(side / 2, whole - side / 2)
    corners = side * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
    corners = corners * (1 + rng.uniform(-0.2, 0.2, (4, 2)))
    angle = math.radians(rng.normal(0, 12))
    turn = np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    return (corners @ turn + centre).astype(np.float32)


def collect(
    folder: Path, methods: Sequence[str], seed: int, scenes: Scenes | None = None
) -> Iterator[Sample]:
    """Render, match and measure pairs of the photographs under `folder`, without end.

    The folds come round first, then the methods, then other photographs. Raises TrainingError
    when there are too few photographs, ArgumentError or BundleError on a method that there is not.
    """
    rng = np.random.default_rng(seed)
    tools = [_Method(method) for method in methods]
    paths = pictures_below(folder)
    order = rng.permutation(len(paths))
    for turn in count():
        tool = tools[turn // FOLDS % len(tools)]
        fold, begin = turn % FOLDS, turn // FOLDS * CHUNK
        mine = np.roll(order[fold::FOLDS], -begin)[:CHUNK]
        photos = [photo for i in mine if (photo := read_photo(paths[i])) is not None]
        if len(photos) <= LOOK_ALIKES + OTHERS:
            raise TrainingError(f"{folder}: {len(paths)} pictures are too few to calibrate with.")
        pairs: list[Views] = []
        if scenes is not None:
            chosen = scenes.pairs[fold::FOLDS]
            chosen = chosen[rng.integers(len(chosen), size=int(SCENES * len(photos)))]
            pairs = [[_scene_view(scenes, i, rng) for i in pair] for pair in chosen]
        yield from _measure(photos, pairs, fold, tool, rng)


def _scene_view(scenes: Scenes, index: int, rng: np.random.Generator) -> Pixels:
    """One picture of a scene, grey, as a camera might have seen it that day."""
    pixels = load_image(scenes.cameras[index].image).pixels
    return degrade(np.ascontiguousarray(pixels[:, :, ::-1]), rng.uniform(0, 1), rng)


class _Method:
    """Features and a matcher by name, "xfeat:nearest"."""

    def __init__(self, name: str) -> None:
        features, _, matcher = name.partition(":")
        self.name = name
        self.extract = Extractor(
            features, max_keypoints=MAX_KEYPOINTS, semi_dense=needs_semi_dense(matcher), threads=1
        )
        self.match = Matcher(matcher, features=self.extract.source, threads=1)

    def sample(
        self,
        same: bool,
        features0: Features,
        features1: Features,
        fold: int,
        rng: np.random.Generator,
        all_of_them: bool = False,
    ) -> Sample:
        """What a pair brings with some kind of geometry and, half the time, fewer keypoints."""
        limit = MAX_KEYPOINTS
        if not all_of_them and rng.random() < 0.5:
            limit = int(MIN_KEYPOINTS * (MAX_KEYPOINTS / MIN_KEYPOINTS) ** rng.random())
        kind = KINDS[rng.integers(len(KINDS))]
        best = slice(limit)
        evidence = match_and_measure(self.match, features0.take(best), features1.take(best), kind)
        return Sample(same, evidence, fold, self.name, kind)


def _measure(
    photos: list[Pixels],
    scenes: list[Views],
    fold: int,
    tool: _Method,
    rng: np.random.Generator,
) -> Iterator[Sample]:
    """The pairs of some photographs, and those of scenes."""
    views = [[tool.extract(view) for view in render_views(photo, rng)] for photo in photos]
    whole = [tool.extract(_shrunk(photo, int(rng.choice(SIZES)))) for photo in photos]
    likeness = np.array([colours(photo) for photo in photos])
    likeness = likeness @ likeness.T
    np.fill_diagonal(likeness, 0)
    alike = np.argsort(-likeness, axis=1, kind="stable")[:, :LOOK_ALIKES]
    for index, (view0, view1) in enumerate(views):
        others = rng.permutation(np.delete(np.arange(len(views)), index))[:OTHERS]
        pairs = [(True, view0, view1, False)]
        for other in (*alike[index], *others):
            if rng.random() < 0.5:
                pairs.append((False, whole[index], whole[other], True))
            else:
                pairs.append((False, view0, views[other][1], False))
        for same, features0, features1, as_it_is in pairs:
            yield tool.sample(same, features0, features1, fold, rng, all_of_them=as_it_is)
    for scene in scenes:
        yield tool.sample(True, tool.extract(scene[0]), tool.extract(scene[1]), fold, rng)


def _shrunk(photo: Pixels, side: int) -> Pixels:
    """A photo (BGR) as RGB, of a longer side of at most `side` pixels."""
    return load_image(np.ascontiguousarray(photo[:, :, ::-1]), max_size=side).pixels


def match_and_measure(
    match: Matcher, features0: Features, features1: Features, kind: GeometryKind
) -> Evidence:
    """The evidence of one pair, as `covis.match` finds it."""
    evidence = find_evidence(
        verify(match(features0, features1), features0, features1, kind), features0, features1
    )
    assert evidence is not None  # There is a kind of geometry.
    return evidence


def colours(photo: Pixels) -> Matrix:
    """(384,) of unit length: how often each colour occurs in a photo (BGR)."""
    lab = cv2.cvtColor(photo, cv2.COLOR_BGR2LAB)
    counts = cv2.calcHist([lab], [0, 1, 2], None, [6, 8, 8], [0, 256] * 3).ravel()
    return np.sqrt(counts / counts.sum()).astype(np.float64)


def fit(samples: Sequence[Sample]) -> Calibration:
    """The weights that make the samples most likely, right and wrong pairs weighing the same.

    Its labels are not set: "same" from 1, "different" to 0. Raises ArgumentError without pairs
    of both sorts.
    """
    weights = len(samples) * even_weights([sample.same for sample in samples])
    found: dict[bool, Matrix] = {}
    for model in (True, False):
        here = [i for i, sample in enumerate(samples) if sample.evidence.model == model]
        if not here:
            raise TrainingError("too few pairs: all have a geometry, or none has.")
        terms = np.array([samples[i].evidence.terms() for i in here])
        same = np.array([samples[i].same for i in here])
        found[model] = logistic(terms, same, weights[here], free=1 if model else 0)
    return Calibration(
        with_model=tuple(found[True].tolist()),
        without_model=float(found[False][0]),
        same=1.0,
        different=0.0,
        least=1 / len(samples),
    )


def logistic(x: Matrix, y: BoolArray, weights: Matrix, free: int = 0) -> Matrix:
    """Logistic regression by Newton's method, coefficients but the first `free` at least 0.

    x: (N, D). y: (N,). weights: (N,). A coefficient that would be negative is left out, the most
    negative first.
    """
    used = np.ones(x.shape[1], bool)
    while True:
        solution = np.zeros(x.shape[1])
        solution[used] = _newton(x[:, used], y, weights)
        worst = free + int(np.argmin(solution[free:])) if free < len(solution) else 0
        if solution[worst] >= 0 or worst < free:
            return solution
        used[worst] = False


def _newton(x: Matrix, y: BoolArray, weights: Matrix) -> Matrix:
    solution = np.zeros(x.shape[1])
    for _ in range(100):
        p = 1 / (1 + np.exp(-np.clip(x @ solution, -500, 500)))
        slope = x.T @ (weights * (p - y)) + DAMPING * solution
        curvature = (x * (weights * p * (1 - p))[:, None]).T @ x + DAMPING * np.eye(len(solution))
        step = np.linalg.solve(curvature, slope)
        solution -= step * min(1, 3 / np.abs(step).max(initial=1e-300))
        if np.abs(step).max(initial=0) < 1e-9:
            break
    return solution


def held_out(samples: Sequence[Sample]) -> Matrix:
    """(N,): each pair's probability by the weights that the other folds give."""
    probabilities = np.zeros(len(samples))
    for fold in {sample.fold for sample in samples}:
        calibration = fit([sample for sample in samples if sample.fold != fold])
        for i, sample in enumerate(samples):
            if sample.fold == fold:
                probabilities[i] = calibration.probability(sample.evidence)
    return probabilities


def thresholds(
    probabilities: Matrix, same: BoolArray, groups: Sequence[object] = ()
) -> tuple[float, float]:
    """The least probability to call "same", and the largest to call "different".

    At most FALSE_ALARMS of the wrong pairs, and WORST_FALSE_ALARMS of those of any one group, lie
    at or above the first, above one half; at most MISSES of the right ones at or below the
    second, below one half. groups: one a pair; none for one group of all. Of a group with too few
    wrong pairs to tell so small a share nothing is asked.
    """
    most = _exceeded_by(FALSE_ALARMS, probabilities[~same])
    for group in set(groups):
        here = np.array([each == group for each in groups]) & ~same
        if here.sum() * WORST_FALSE_ALARMS >= 1:
            most = max(most, _exceeded_by(WORST_FALSE_ALARMS, probabilities[here]))
    right = np.sort(probabilities[same])
    least = right[int(MISSES * len(right))]
    return max(float(np.nextafter(most, 1)), 0.5), min(float(np.nextafter(least, 0)), 0.5)


def _exceeded_by(share: float, probabilities: Matrix) -> float:
    """The probability that at most this share of all are above."""
    return float(np.sort(probabilities)[::-1][int(share * len(probabilities))])


def calibrate(samples: Sequence[Sample]) -> Calibration:
    """Weights from all samples, thresholds from those that were held out in turn."""
    probabilities = held_out(samples)
    same, different = thresholds(
        probabilities,
        np.array([sample.same for sample in samples]),
        [(sample.method, sample.kind) for sample in samples],
    )
    return replace(fit(samples), same=same, different=different)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--photos", type=Path, required=True, help="a folder of photographs")
    parser.add_argument("--out", type=Path, required=True, help="write the calibration there")
    parser.add_argument("--scenes", type=Path, help="pairs with depth, in MegaDepth's layout")
    parser.add_argument("--pairs", type=int, default=9000)
    parser.add_argument("--methods", default=",".join(METHODS), help="features:matcher, ...")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    try:
        run(arguments)
    except CovisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run(arguments: argparse.Namespace) -> None:
    cv2.setNumThreads(1)
    methods = arguments.methods.split(",")
    samples = []
    scenes = None if arguments.scenes is None else Scenes(arguments.scenes)
    pairs = collect(arguments.photos, methods, arguments.seed, scenes)
    for sample in islice(pairs, arguments.pairs):
        samples.append(sample)
        if len(samples) % 100 == 0:
            print(f"{len(samples)} pairs", file=sys.stderr)
    calibration = calibrate(samples)
    probabilities, same = held_out(samples), np.array([sample.same for sample in samples])
    print("\n".join(describe(probabilities, same, [0.5, 0.9, 0.99, calibration.same])))
    save(calibration, samples, arguments.out, f"seed {arguments.seed}")


def save(calibration: Calibration, samples: Sequence[Sample], path: Path, note: str) -> None:
    """Write what `Calibration.read` reads, with what it was fitted to and how it held there."""
    probabilities, same = held_out(samples), np.array([sample.same for sample in samples])
    false_alarms, recall = rates(probabilities, same, calibration.same)
    content = {
        **asdict(calibration),
        "fitted_to": {
            "methods": sorted({sample.method for sample in samples}),
            "same": int(same.sum()),
            "different": int((~same).sum()),
            "note": note,
        },
        "held_out": {
            "brier": round(brier_score(probabilities, same), 4),
            "log_loss": round(log_loss(probabilities, same), 4),
            "same_false_alarms": round(false_alarms, 5),
            "same_recall": round(recall, 4),
            "different_misses": round(
                float((probabilities[same] <= calibration.different).mean()), 4
            ),
        },
    }
    with replacing(path) as file:
        file.write((json.dumps(content, indent=2) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
