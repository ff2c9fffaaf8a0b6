"""Two images in, what they share out: the whole pipeline in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Literal, get_args

from covis.errors import ArgumentError
from covis.features.extractor import DEFAULT_MAX_SIZE, Extractor
from covis.geometry import Camera, estimate_geometry
from covis.geometry.verdict import judge
from covis.images.decode import MaskSource, Source, load_image
from covis.images.orientation import TURNS, turn_back, turn_image
from covis.matching.matcher import DEFAULT_MATCHER, Matcher
from covis.types import Features, GeometryKind, Matches

Rotate = Literal["none", "auto"]


def match(
    a: Source,
    b: Source,
    features: str = "xfeat",
    matcher: str = DEFAULT_MATCHER,
    geometry: GeometryKind = "fundamental",
    max_keypoints: int = 4096,
    max_size: int | None = DEFAULT_MAX_SIZE,
    *,
    rotate: Rotate = "none",
    full_depth: bool = False,
    mask_a: MaskSource | None = None,
    mask_b: MaskSource | None = None,
    camera_a: Camera | None = None,
    camera_b: Camera | None = None,
    seed: int = 0,
    threads: int | None = None,
) -> Matches:
    """Find the points that two images share.

    a, b: paths, arrays (H, W) or (H, W, 3) RGB, PIL images or `Image`s; see `load_image`.
    features: "xfeat", another bundle's name or folder, or "sift"; see `Extractor`.
    matcher: "nearest", "semi-dense", "lightglue", or the name or folder of LightGlue weights;
        see `Matcher`.
    geometry: "homography" (a plane, or a camera that only turns), "fundamental" (any scene),
        "essential" (any scene, known cameras; gives the relative pose) or "none".
    max_keypoints: features an image at most. max_size: larger images are shrunk to this
        longest side first, in pixels; None for never.
    rotate: "auto" to try b turned by 90, 180 and 270 degrees as well where the verdict is not
        "same"; `Matches.turn` says which turn was best.
    full_depth: let LightGlue run all its layers on all points.
    mask_a, mask_b: where to find nothing, True or nonzero.
    camera_a, camera_b: for "essential"; without them the focal length comes from EXIF or is
        guessed, and `Matches.geometry.note` says so.
    seed: of the robust estimation. threads: processor threads, all by default.

    Returns Matches: points (N, 2) float32 in full-size pixels, the top-left pixel's centre at
    (0.5, 0.5), best first. No match, or too few for a geometry, is an answer, no error.

    Raises ImageError when an image cannot be used, ArgumentError on a value out of range,
    BundleError when the model is not there.
    """
    seconds: dict[str, float] = {}
    with _timed(seconds, "load"):
        extract = Extractor(
            features,
            max_keypoints=max_keypoints,
            max_size=max_size,
            semi_dense=matcher == "semi-dense",
            threads=threads,
        )
        find = Matcher(matcher, features=extract.source, full_depth=full_depth, threads=threads)
        find.bundle(extract.model)
    with _timed(seconds, "decode"):
        image_a = load_image(a, max_size=max_size, mask=mask_a)
        image_b = load_image(b, max_size=max_size, mask=mask_b)
    with _timed(seconds, "extract"):
        features_a, features_b = extract.batch([image_a, image_b])

    def turned_b(turn: int) -> Features:
        with _timed(seconds, "extract"):
            return extract(turn_image(image_b, turn))

    def timed_find(features_a: Features, features_b: Features) -> Matches:
        with _timed(seconds, "match"):
            return find(features_a, features_b)

    def check(found: Matches, kind: GeometryKind) -> Matches:
        with _timed(seconds, "geometry"):
            return verify(
                found,
                features_a,
                features_b,
                kind,
                camera_a=camera_a,
                camera_b=camera_b,
                focal_a=image_a.focal_length,
                focal_b=image_b.focal_length,
                seed=seed,
            )

    found = match_turned(timed_find, features_a, features_b, turned_b, check, geometry, rotate)
    return replace(found, seconds=seconds, licence=joint_licence(extract, found))


def match_turned(
    find: Callable[[Features, Features], Matches],
    features_a: Features,
    features_b: Features,
    turned_b: Callable[[int], Features],
    check: Callable[[Matches, GeometryKind], Matches],
    geometry: GeometryKind,
    rotate: Rotate,
) -> Matches:
    """Match and verify; where they are not the "same" and `rotate` is "auto", with b turned too.

    find: a `Matcher`. turned_b: a turn in degrees clockwise -> the features of b turned so.
    check: fits a geometry of a kind and judges, see `verify`.

    Returns the matches of the most probable turn, `Matches.turn`, and of more inliers between
    equals; their points are those of b as it is. Raises ArgumentError on a `rotate` that there
    is not.
    """
    if rotate not in get_args(Rotate):
        raise ArgumentError(f"no rotate '{rotate}'; there are: {', '.join(get_args(Rotate))}.")

    def evidence(found: Matches) -> tuple[bool, float, int]:
        judged = check(found, "fundamental") if geometry == "none" else found
        assert judged.verdict is not None
        verdict = judged.verdict
        return verdict.label == "same", verdict.probability, int(judged.inliers.sum())

    upright = check(find(features_a, features_b), geometry)
    if rotate == "none" or evidence(upright)[0]:
        return upright
    tried = [upright]
    for turn in TURNS:
        features = turned_b(turn)
        found = find(features_a, features)
        points1 = turn_back(found.points1, turn, (features.width, features.height))
        tried.append(check(replace(found, points1=points1, indices=None, turn=turn), geometry))
    return max(tried, key=evidence)


def joint_licence(extract: Extractor, found: Matches) -> str:
    """The terms of the features, and of the matcher's weights where they are others."""
    if found.licence in ("", extract.licence):
        return extract.licence
    return f"{extract.licence} (features), {found.licence} (matcher)"


def verify(
    matches: Matches,
    features_a: Features,
    features_b: Features,
    geometry: GeometryKind,
    *,
    camera_a: Camera | None = None,
    camera_b: Camera | None = None,
    focal_a: float | None = None,
    focal_b: float | None = None,
    seed: int = 0,
) -> Matches:
    """Fit a geometry to matches and judge the pair. See `match` for the arguments."""
    model = estimate_geometry(
        matches.points0,
        matches.points1,
        geometry,
        size0=(features_a.width, features_a.height),
        size1=(features_b.width, features_b.height),
        camera0=camera_a,
        camera1=camera_b,
        focal0=focal_a,
        focal1=focal_b,
        scores=matches.scores,
        seed=seed,
    )
    found = replace(matches, geometry=model)
    return replace(found, verdict=judge(found, features_a, features_b))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0) + time.perf_counter() - began
