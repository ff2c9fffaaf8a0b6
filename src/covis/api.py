"""Two images in, what they share out: the whole pipeline in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import get_args

from numpy.typing import ArrayLike

from covis.features.extractor import Extractor
from covis.geometry import Camera, estimate_geometry
from covis.geometry.agreement import View
from covis.geometry.camera import as_camera, check_focal
from covis.geometry.look_alikes import judge_by_pictures
from covis.geometry.verdict import judge
from covis.images.decode import enlarged, load_image
from covis.images.orientation import TURNS, Orientation
from covis.matching import Matcher, needs_semi_dense
from covis.options import (
    DEFAULT_GEOMETRY,
    DEFAULT_ROTATE,
    DEFAULT_SEED,
    GeometryKind,
    MatchOptions,
    Rotate,
    RuntimeOptions,
    choice,
)
from covis.types import Features, Image, MaskSource, Matches, Source


def match(
    image0: Source,
    image1: Source,
    *,
    features: str | None = None,
    matcher: str | None = None,
    geometry: GeometryKind = DEFAULT_GEOMETRY,
    max_keypoints: int | None = None,
    max_size: int | None = None,
    rotate: Rotate = DEFAULT_ROTATE,
    full_depth: bool = False,
    mask0: MaskSource | None = None,
    mask1: MaskSource | None = None,
    camera0: Camera | ArrayLike | None = None,
    camera1: Camera | ArrayLike | None = None,
    seed: int = DEFAULT_SEED,
    threads: int | None = None,
) -> Matches:
    """Find the points that two images share. None leaves a value to covis.

    image0, image1: paths, arrays (H, W) or (H, W, 3) RGB, PIL images or `Image`s; see
        `load_image`.
    features: "xfeat" (by default), another bundle's name or folder, or "sift"; see `Extractor`.
    matcher: "auto" (by default), "nearest", "semi-dense", "lightglue", or the name or folder of
        LightGlue weights; see `Matcher`.
    geometry: "homography" (a plane, or a camera that only turns), "fundamental" (any scene),
        "essential" (any scene, known cameras; gives the relative pose) or "none".
    max_keypoints: features an image at most, 4096 by default. max_size: larger images are shrunk
        to this longest side first, in pixels, 960 by default; 0 for full size.
    rotate: "auto" to try image 1 turned by 90, 180 and 270 degrees as well where the verdict is
        not "same"; `Matches.turn` says which turn was best.
    full_depth: let LightGlue run all its layers on all points.
    mask0, mask1: where to find nothing, True or nonzero.
    camera0, camera1: for "essential": a `Camera`, or its 3 x 3 matrix; without them the focal
        length comes from EXIF or is guessed, and `Matches.geometry.note` says so.
    seed: of the robust estimation. threads: processor threads, all by default.

    Returns Matches: points (N, 2) float32 in full-size pixels, the top-left pixel's centre at
    (0.5, 0.5), best first. No match, or too few for a geometry, is an answer, no error.

    Raises ImageError when an image cannot be used, ArgumentError on a value out of range,
    BundleError when the model is not there.
    """
    options = MatchOptions(
        features=features,
        matcher=matcher,
        geometry=geometry,
        max_keypoints=max_keypoints,
        max_size=max_size,
        rotate=rotate,
        full_depth=full_depth,
        seed=seed,
    )
    runtime = RuntimeOptions(threads=threads)
    masks, cameras = (mask0, mask1), (as_camera(camera0), as_camera(camera1))
    return _match_images((image0, image1), options, runtime, masks, cameras)


def _match_images(
    images: tuple[Source, Source],
    options: MatchOptions,
    runtime: RuntimeOptions,
    masks: tuple[MaskSource | None, MaskSource | None],
    cameras: tuple[Camera | None, Camera | None],
) -> Matches:
    """See `match`; everything for image 0, then for image 1."""
    seconds: dict[str, float] = {}
    with _timed(seconds, "load"):
        extract, find = open_pipeline(options, runtime)
    with _timed(seconds, "decode"):
        loaded0, loaded1 = (
            load_image(image, max_size=extract.max_size, mask=mask)
            for image, mask in zip(images, masks, strict=True)
        )
    for number, (camera, loaded) in enumerate(zip(cameras, (loaded0, loaded1), strict=True)):
        if camera is not None:
            check_focal(camera, (loaded.width, loaded.height), f"camera{number}")
    with _timed(seconds, "extract"):
        features0, features1 = extract.batch([enlarged(loaded0), enlarged(loaded1)])

    def turned1(turn: int) -> Features:
        with _timed(seconds, "extract"):
            return extract(Orientation(turn).of_picture(enlarged(loaded1)))

    def timed_find(features0: Features, features1: Features) -> Matches:
        with _timed(seconds, "match"):
            return find(features0, features1)

    def check(found: Matches, kind: GeometryKind) -> Matches:
        with _timed(seconds, "geometry"):
            return verify(
                found,
                features0,
                features1,
                kind,
                camera0=cameras[0],
                camera1=cameras[1],
                focal0=loaded0.focal_length,
                focal1=loaded1.focal_length,
                seed=options.seed,
            )

    found = match_turned(
        timed_find, features0, features1, turned1, check, options.geometry, options.rotate
    )
    with _timed(seconds, "geometry"):
        found = judge_by_pictures(found, View.of(loaded0), View.of(loaded1))
    if options.geometry == "essential":
        found = _with_notes(found, [loaded0, loaded1], cameras)
    return replace(found, seconds=seconds, licence=joint_licence(extract, found))


def open_pipeline(
    options: MatchOptions, runtime: RuntimeOptions | None = None
) -> tuple[Extractor, Matcher]:
    """The extractor, and the matcher for its features, both loaded. Raises as they do."""
    semi_dense = needs_semi_dense(options.matcher)
    extract = Extractor.from_options(replace(options.extractor, semi_dense=semi_dense), runtime)
    find = Matcher.from_options(replace(options.matching, features=extract.source), runtime)
    find.opened(extract.model)
    return extract, find


def match_turned(
    find: Callable[[Features, Features], Matches],
    features0: Features,
    features1: Features,
    turned1: Callable[[int], Features],
    check: Callable[[Matches, GeometryKind], Matches],
    geometry: GeometryKind,
    rotate: Rotate,
) -> Matches:
    """Match and verify; where not the "same" and `rotate` is "auto", with image 1 turned too.

    find: a `Matcher`. turned1: a turn in degrees clockwise -> the features of image 1 turned so.
    check: fits a geometry of a kind and judges, see `verify`.

    Returns the matches of the most probable turn, `Matches.turn`, and of more inliers between
    equals; their points are those of image 1 as it is. Raises ArgumentError on a `rotate` that
    there is not.
    """
    choice("rotate", rotate, get_args(Rotate))

    def evidence(found: Matches) -> tuple[bool, float, int]:
        judged = check(found, "fundamental") if geometry == "none" else found
        assert judged.verdict is not None
        verdict = judged.verdict
        return verdict.label == "same", verdict.probability, int(judged.inliers.sum())

    upright = check(find(features0, features1), geometry)
    if rotate == "none" or evidence(upright)[0]:
        return upright
    tried = [upright]
    for turn in TURNS:
        features = turned1(turn)
        found = find(features0, features)
        back = Orientation(turn).inverse
        points1 = back.of_points(found.points1, (features.width, features.height))
        tried.append(check(replace(found, points1=points1, indices=None, turn=turn), geometry))
    return max(tried, key=evidence)


def joint_licence(extract: Extractor, found: Matches) -> str:
    """The terms of the features, and of the matcher's weights where they are others."""
    if found.licence in ("", extract.licence):
        return extract.licence
    return f"{extract.licence} (features), {found.licence} (matcher)"


def verify(
    matches: Matches,
    features0: Features,
    features1: Features,
    geometry: GeometryKind,
    *,
    camera0: Camera | None = None,
    camera1: Camera | None = None,
    focal0: float | None = None,
    focal1: float | None = None,
    seed: int = 0,
) -> Matches:
    """Fit a geometry to matches and judge the pair. See `match` for the arguments."""
    model = estimate_geometry(
        matches.points0,
        matches.points1,
        geometry,
        size0=(features0.width, features0.height),
        size1=(features1.width, features1.height),
        camera0=camera0,
        camera1=camera1,
        focal0=focal0,
        focal1=focal1,
        scores=matches.scores,
        seed=seed,
    )
    found = replace(matches, geometry=model)
    return replace(found, verdict=judge(found, features0, features1))


def _with_notes(
    found: Matches, images: Sequence[Image], cameras: Sequence[Camera | None]
) -> Matches:
    """The matches, their geometry's note with why focal lengths in EXIF were ignored."""
    ignored = [
        f"image {number}: {image.focal_ignored}"
        for number, (image, camera) in enumerate(zip(images, cameras, strict=True))
        if image.focal_ignored and camera is None
    ]
    geometry = found.geometry
    if geometry is None or not ignored:
        return found
    note = "; ".join(filter(None, [*ignored, geometry.note]))
    return replace(found, geometry=replace(geometry, note=note))


@contextmanager
def _timed(seconds: dict[str, float], stage: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds[stage] = seconds.get(stage, 0) + time.perf_counter() - began
