"""Two images in, what they share out: the whole pipeline in one call."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from covis.features.extractor import DEFAULT_MAX_SIZE, Extractor
from covis.geometry import Camera, estimate_geometry
from covis.images import MaskSource, Source, load_image
from covis.matching.matcher import Matcher, MatcherName
from covis.types import Features, GeometryKind, Matches


def match(
    a: Source,
    b: Source,
    features: str = "xfeat",
    matcher: MatcherName = "nearest",
    geometry: GeometryKind = "fundamental",
    max_keypoints: int = 4096,
    max_size: int | None = DEFAULT_MAX_SIZE,
    *,
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
    matcher: "nearest" or "semi-dense"; see `Matcher`.
    geometry: "homography" (a plane, or a camera that only turns), "fundamental" (any scene),
        "essential" (any scene, known cameras; gives the relative pose) or "none".
    max_keypoints: features an image at most. max_size: larger images are shrunk to this
        longest side first, in pixels; None for never.
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
        find = Matcher(matcher, features=extract.source, threads=threads)
    with _timed(seconds, "decode"):
        image_a = load_image(a, max_size=max_size, mask=mask_a)
        image_b = load_image(b, max_size=max_size, mask=mask_b)
    with _timed(seconds, "extract"):
        features_a, features_b = extract.batch([image_a, image_b])
    with _timed(seconds, "match"):
        found = find(features_a, features_b)
    with _timed(seconds, "geometry"):
        found = verify(
            found,
            features_a,
            features_b,
            geometry,
            camera_a=camera_a,
            camera_b=camera_b,
            focal_a=image_a.focal_length,
            focal_b=image_b.focal_length,
            seed=seed,
        )
    return replace(found, seconds=seconds, licence=extract.licence)


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
    """Fit a geometry to matches; returns them with it. See `match` for the arguments."""
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
    return replace(matches, geometry=model)


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = time.perf_counter() - began
