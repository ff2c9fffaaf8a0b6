"""Two images in, what they share out: the whole pipeline in one call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike

from covis.effort.attempts import joint_licence
from covis.effort.escalate import Escalation
from covis.effort.pictures import Pictures, Tools
from covis.effort.plan import Plan
from covis.features.extractor import Extractor
from covis.geometry import Camera, estimate_geometry
from covis.geometry.agreement import View
from covis.geometry.camera import as_camera, check_focal
from covis.geometry.look_alikes import judge_by_pictures
from covis.geometry.two_view import NO_POSE
from covis.geometry.verdict import judge
from covis.images.decode import enlarged, load_image
from covis.images.orientation import TURNS, Orientation
from covis.matching import Matcher, needs_semi_dense
from covis.options import (
    DEFAULT_DEVICE,
    DEFAULT_EFFORT,
    DEFAULT_GEOMETRY,
    DEFAULT_ROTATE,
    DEFAULT_SEED,
    Device,
    Effort,
    GeometryKind,
    MatchOptions,
    Rotate,
    RuntimeOptions,
    choice,
)
from covis.timing import timed
from covis.types import Features, Geometry, Image, MaskSource, Matches, Source


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
    device: Device = DEFAULT_DEVICE,
    effort: Effort = DEFAULT_EFFORT,
    budget: float | None = None,
) -> Matches:
    """Find the points that two images share. None leaves a value to covis.

    image0, image1: paths, arrays (H, W) or (H, W, 3) RGB, PIL images or `Image`s; see
        `load_image`.
    features: a bundle's name or folder, or "sift"; see `Extractor`. By default what `effort` takes,
        and "xfeat" for a matcher that was named.
    matcher: "auto" (by default), for what `effort` takes; or "nearest", "semi-dense", "lightglue",
        or the name or folder of LightGlue weights, for that one alone; see `Matcher`.
    geometry: "homography" (a plane, or a camera that only turns), "fundamental" (any scene),
        "essential" (any scene, known cameras; gives the relative pose) or "none".
    max_keypoints: features an image at most, 4096 by default. max_size: larger images are shrunk
        to this longest side first, in pixels, 960 by default; 0 for full size.
    rotate: "auto" to try image 1 turned by 90, 180 and 270 degrees as well where the verdict is
        not "same"; `Matches.turn` says which turn was best.
    full_depth: let LightGlue, where it matches, run all its layers on all points.
    mask0, mask1: where to find nothing, True or nonzero.
    camera0, camera1: for "essential": a `Camera`, or its 3 x 3 matrix; without them the focal
        length comes from EXIF or is guessed, and `Matches.geometry.note` says so. Where image 1 is
        mirrored (`Matches.mirrored`) there is no pose.
    seed: of the robust estimation. threads: processor threads, all by default. device: where
        networks run, "auto" by default; see `RuntimeOptions`.
    effort: "fast" for one cheap attempt, nearest neighbours; "auto" for others as well where that
        is not sure or places the geometry badly: SIFT, LightGlue, other turns and scales, another
        look at what both show, both drawn as edges where their greys differ, and image 1 mirrored;
        "thorough" for the best weights that the user has imported, too, except those for
        non-commercial use. `Matches.attempts` says what was tried.
    budget: seconds after which no new attempt begins; None for all the time that they take. With
        one, the answer depends on how fast the machine is.

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
        effort=effort,
        budget=budget,
    )
    runtime = RuntimeOptions(threads=threads, device=device)
    masks, cameras = (mask0, mask1), (as_camera(camera0), as_camera(camera1))
    pair = _Pair((image0, image1), masks, cameras)
    return (
        _match_with_effort(pair, options, runtime)
        if options.escalates
        else _match_one_way(pair, options, runtime)
    )


class _Pair(NamedTuple):
    """What `match` was given, for image 0 and image 1."""

    images: tuple[Source, Source]
    masks: tuple[MaskSource | None, MaskSource | None]
    cameras: tuple[Camera | None, Camera | None]

    def load(self, max_size: int) -> tuple[Image, Image]:
        """Both pictures. Raises ImageError, and ArgumentError for a camera that cannot be."""
        loaded0, loaded1 = (
            load_image(image, max_size=max_size, mask=mask)
            for image, mask in zip(self.images, self.masks, strict=True)
        )
        for number, (camera, loaded) in enumerate(
            zip(self.cameras, (loaded0, loaded1), strict=True)
        ):
            if camera is not None:
                check_focal(camera, (loaded.width, loaded.height), f"camera{number}")
        return loaded0, loaded1

    def verify(
        self,
        loaded: tuple[Image, Image],
        found: Matches,
        features: tuple[Features, Features],
        kind: GeometryKind,
        seed: int,
    ) -> Matches:
        """See `verify`."""
        return verify(
            found,
            *features,
            kind,
            camera0=self.cameras[0],
            camera1=self.cameras[1],
            focal0=loaded[0].focal_length,
            focal1=loaded[1].focal_length,
            seed=seed,
        )

    def finish(
        self, found: Matches, loaded: tuple[Image, Image], seconds: dict[str, float]
    ) -> Matches:
        """The matches, pages doubted, with what is to be said of the cameras."""
        with timed(seconds, "geometry"):
            found = judge_by_pictures(found, View.of(loaded[0]), View.of(loaded[1]))
        if found.geometry is not None and found.geometry.kind == "essential":
            found = _with_notes(found, loaded, self.cameras)
        return replace(found, seconds=seconds)


def _match_with_effort(pair: _Pair, options: MatchOptions, runtime: RuntimeOptions) -> Matches:
    """See `match`; several ways, as many as the pair needs."""
    tools = Tools(options.extractor, runtime, options.full_depth)
    plan = Plan.of(options.effort, options.features)
    max_size = tools.extractor(plan.cheap.features).max_size
    with timed(tools.seconds, "decode"):
        loaded = pair.load(max_size)

    def check(found: Matches, kind: GeometryKind, one: Features, two: Features) -> Matches:
        with timed(tools.seconds, "geometry"):
            return pair.verify(loaded, found, (one, two), kind, options.seed)

    pictures = Pictures(lambda number: loaded[number], tools)
    found = escalate(pictures, plan, check, options)
    return pair.finish(found, loaded, tools.seconds)


def escalate(
    pictures: Pictures,
    plan: Plan,
    check: Callable[[Matches, GeometryKind, Features, Features], Matches],
    options: MatchOptions,
) -> Matches:
    """The best of the attempts at a pair.

    check: fits a geometry of a kind to the matches of features 0 and 1, and judges, see `verify`.
    Bare matches tell too little of how good they are: where none is asked for, that of any scene
    says which are the best; it does so where image 1 is mirrored and a pose is asked for, too,
    which there is not then.
    """
    kind = "fundamental" if options.geometry == "none" else options.geometry

    def check_kind(found: Matches, features0: Features, features1: Features) -> Matches:
        fits = "fundamental" if found.mirrored and kind == "essential" else kind
        return check(found, fits, features0, features1)

    found = Escalation(
        pictures,
        plan,
        check_kind,
        turns=options.rotate == "auto",
        budget=options.budget,
    ).run()
    if options.geometry == "none":
        bare = Geometry("none", None, np.ones(len(found), bool))
        found = replace(found, geometry=bare, verdict=None)
    elif found.mirrored and options.geometry == "essential":
        found = replace(found, geometry=Geometry("essential", None, found.inliers, NO_POSE))
    return found


def _match_one_way(pair: _Pair, options: MatchOptions, runtime: RuntimeOptions) -> Matches:
    """See `match`; by the one matcher that was named."""
    seconds: dict[str, float] = {}
    with timed(seconds, "load"):
        extract, find = open_pipeline(options, runtime)
    with timed(seconds, "decode"):
        loaded = loaded0, loaded1 = pair.load(extract.max_size)
    with timed(seconds, "extract"):
        features0, features1 = extract.batch([enlarged(loaded0), enlarged(loaded1)])

    def turned1(turn: int) -> Features:
        with timed(seconds, "extract"):
            return extract(Orientation(turn).of_picture(enlarged(loaded1)))

    def timed_find(features0: Features, features1: Features) -> Matches:
        with timed(seconds, "match"):
            return find(features0, features1)

    def check(found: Matches, kind: GeometryKind) -> Matches:
        with timed(seconds, "geometry"):
            return pair.verify(loaded, found, (features0, features1), kind, options.seed)

    found = match_turned(
        timed_find, features0, features1, turned1, check, options.geometry, options.rotate
    )
    found = replace(found, licence=joint_licence(extract, found))
    return pair.finish(found, loaded, seconds)


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
        mirrored=matches.mirrored,
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
