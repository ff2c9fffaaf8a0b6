"""Maps and places in them, beside pycolmap's SIFT in the same run, as Markdown tables.

    python benchmarks/map.py                          # all that takes minutes
    python benchmarks/map.py --parts strecha
    python benchmarks/map.py --parts many --count 100 --out runs/map   # hours

strecha: fountain-P11 and Herz-Jesus-P8: photos placed, mean error of the camera positions after
the best similarity, seconds. Both sides know the intrinsics. Of halves: the median and the range of
that error when a random half of the points is adjusted anew, which tells how much of it is chance;
seeds change less. Both sides' positions are also compared with each other: where they agree better
than with the truth, the truth, the intrinsics or the lens is the limit.
relief: the same for rendered walls with real photos on them (`rendered_walls.py`); their truth is
exact.
scenes: 7-Scenes: a map of two thirds of the frames, the others located in it; photos of other
places must not be. With the map's own poses, aligned to the true ones by the best similarity of
its cameras, and with points triangulated from the given poses, as hloc does it: the first is what
a user gets, the second compares features alone, but takes over the given poses' errors.
places: fountain and Herz-Jesus in one folder, at several sizes, as they are, with a time stamp and
with a logo on all: the photos of each model, verified pairs of photos of different places and of
one, photos placed, and the position error of each model. Two models are right, and no pair across.
kills: kill -9 at --kills random moments while a map is made or takes up more photos; each goes on.
locate: rendered rooms (`rendered_room.py`) with exact poses, photos of other cameras than the map's
located in them, with EXIF that is right, wrong or absent and lenses of several distortions: squared
errors of the position, normalised by the promised covariance, and the errors. The cameras'
principal points are off the middle by as much as common lenses' are.
loop: --loop photos of a rendered room, taken all around from a circle, looking out: the first and
the last see the same wall, and only their neighbours overlap. Which pairs are matched by itself
against all pairs; exact poses, and the focal length in EXIF.
many: as many photos of 2 megapixels as --count says, the fountain's seen by cameras turned about
their centres; no side knows the intrinsics.

Seconds are wall time; processor seconds, of all threads, tell more on a busy machine. What is done
is kept in --out: run it again to go on. To measure on 2 cores: taskset -c 0,1.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import multiprocessing
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import common
import cv2
import map_kills
import map_places
import numpy as np
from common import DATA
from rendered_room import Room, looking, save, standing
from rendered_walls import LENS, make_relief

from covis.evaluation.benchmarks.localisation import link_photos, write_poses
from covis.evaluation.datasets.pairs import PosePair, read_pairs
from covis.evaluation.datasets.seven_scenes import Frame, read_scene
from covis.evaluation.metrics.localisation import (
    aligned_position_errors,
    chained_poses,
    localisation_errors,
)
from covis.evaluation.tables import markdown
from covis.geometry import Camera
from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose import Pose
from covis.geometry.pose_fit import CENTRE_DEVIATION
from covis.geometry.similarity import umeyama

PARTS = ("strecha", "relief", "scenes", "places", "kills", "locate", "loop", "many")
HALVES = 5
MEGAPIXELS = 2.0
SIDES = {
    "covis": ("covis", {}),
    "covis, SIFT": ("covis", {"features": "sift"}),
    "covis, LightGlue": ("covis", {"matcher": "lightglue"}),
    "covis, all pairs": ("covis", {"pairs": "exhaustive"}),
    "pycolmap SIFT": ("pycolmap", {}),
}


def covis_map(
    photos: Path, folder: Path, lens: CalibratedCamera | None, given: dict[str, Any]
) -> Any:
    """Map with covis; the models, and seconds by stage."""
    from covis.sfm import Map, MapOptions, build_map

    camera: dict[str, Any] = {"sharing": "shared"}
    if lens is not None:
        camera = {"camera_model": lens.model, "camera_params": lens.params}
    began = time.perf_counter(), time.process_time()
    summary = build_map(photos, folder, options=MapOptions(**camera, **given))
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    model = Map.open(folder).reconstruction if summary.models else None
    return model, spent, summary.seconds


def pycolmap_map(
    photos: Path, folder: Path, lens: CalibratedCamera | None, threads: int | None
) -> Any:
    """Map with pycolmap's SIFT, its exhaustive matching and its incremental mapper."""
    import pycolmap

    pycolmap.logging.minloglevel = pycolmap.logging.Level.ERROR.value
    (folder / "sparse").mkdir(parents=True, exist_ok=True)
    database = folder / "database.db"
    reader, extraction = pycolmap.ImageReaderOptions(), pycolmap.FeatureExtractionOptions()
    matching, mapping = pycolmap.FeatureMatchingOptions(), pycolmap.IncrementalPipelineOptions()
    extraction.num_threads = matching.num_threads = mapping.num_threads = threads or -1
    mapping.random_seed = 0
    if lens is not None:
        reader.camera_model = lens.model
        reader.camera_params = ",".join(map(repr, lens.params))
        mapping.ba_refine_focal_length = mapping.ba_refine_extra_params = False
        mapping.mapper.abs_pose_refine_focal_length = False
        mapping.mapper.abs_pose_refine_extra_params = False
    seconds: dict[str, float] = {}
    began = time.perf_counter(), time.process_time()

    def timed(stage: str, call: Callable[[], Any]) -> Any:
        start = time.perf_counter()
        result = call()
        seconds[stage] = time.perf_counter() - start
        return result

    mode = pycolmap.CameraMode.SINGLE
    timed(
        "features",
        lambda: pycolmap.extract_features(
            database, photos, camera_mode=mode, reader_options=reader, extraction_options=extraction
        ),
    )
    timed("matches", lambda: pycolmap.match_exhaustive(database, matching_options=matching))
    found = timed(
        "map",
        lambda: pycolmap.incremental_mapping(database, photos, folder / "sparse", mapping),
    )
    spent = time.perf_counter() - began[0], time.process_time() - began[1]
    largest = max(found.values(), key=lambda model: model.num_reg_images(), default=None)
    return largest, spent, seconds


def poses_of(model: Any) -> dict[str, Pose]:
    """The poses of a `pycolmap.Reconstruction` by photo."""
    return {
        image.name: Pose(
            image.cam_from_world().rotation.matrix(),
            np.array(image.cam_from_world().translation),
        )
        for image in model.images.values()
        if image.has_pose
    }


def halves(model: Any, threads: int | None) -> list[dict[str, Pose]]:
    """Poses from random halves of a model's points, adjusted anew with the cameras as they are."""
    import pycolmap

    settings = pycolmap.BundleAdjustmentOptions()
    settings.refine_focal_length = settings.refine_extra_params = False
    settings.print_summary = False
    settings.ceres.loss_function_type = pycolmap.LossFunctionType.SOFT_L1
    settings.ceres.loss_function_scale = 0.1
    settings.ceres.solver_options.num_threads = threads or -1
    settings.ceres.solver_options.function_tolerance = 1e-6
    config = pycolmap.BundleAdjustmentConfig()
    for number in model.images:
        if model.image(number).has_pose:
            config.add_image(number)
    config.fix_gauge(pycolmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    found = []
    for seed in range(HALVES):
        half = pycolmap.Reconstruction(model)
        points = np.random.default_rng(seed).permutation(sorted(half.points3D))
        for point in points[: len(points) // 2]:
            half.delete_point3D(int(point))
        pycolmap.create_default_bundle_adjuster(settings, config, half).solve()
        found.append(poses_of(half))
    return found


def map_side(
    side: str, photos: Path, folder: Path, lens: CalibratedCamera | None, threads: int | None
) -> dict[str, Any]:
    """Map photos with one side; runs in a process of its own."""
    shutil.rmtree(folder, ignore_errors=True)
    kind, given = SIDES[side]
    if kind == "covis":
        model, spent, seconds = covis_map(photos, folder, lens, {**given, "threads": threads})
    else:
        model, spent, seconds = pycolmap_map(photos, folder, lens, threads)
    poses = {} if model is None else poses_of(model)
    by_half = [] if model is None or lens is None else halves(model, threads)
    return {
        "poses": numbers(poses),
        "halves": [numbers(each) for each in by_half],
        "points": 0 if model is None else model.num_points3D(),
        "error": math.nan if model is None else model.compute_mean_reprojection_error(),
        "wall": spent[0],
        "cpu": spent[1],
        "seconds": seconds,
    }


def numbers(poses: dict[str, Pose]) -> dict[str, list[float]]:
    return {n: [*p.quaternion, *p.translation.tolist()] for n, p in poses.items()}


def as_poses(found: dict[str, list[float]]) -> dict[str, Pose]:
    """The opposite of `numbers`."""
    return {name: Pose.from_quaternion(v[:4], v[4:]) for name, v in found.items()}


def kept(path: Path, call: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """What a call gives in a process of its own; what it gave before, where that was kept."""
    if path.is_file():
        print(f"{path.stem}: kept from before", file=sys.stderr)
        return json.loads(path.read_text("utf-8"))
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        result = pool.submit(call, *arguments).result()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result), "utf-8")
    print(f"{path.stem}: {result.get('wall', 0):.0f} s", file=sys.stderr)
    return result


def stages(result: dict[str, Any]) -> str:
    return ", ".join(f"{name} {spent:.1f}" for name, spent in result["seconds"].items())


def strecha_sets() -> list[tuple[str, Path, CalibratedCamera, dict[str, Pose]]]:
    """Name, folder, camera and true poses of fountain-P11 and Herz-Jesus-P8."""
    sets = []
    for name in ("fountain-P11", "Herz-Jesus-P8"):
        pairs = [p for p in read_pairs(DATA / "pose" / name).pairs if isinstance(p, PosePair)]
        truth = chained_poses(
            [(p.path0.name, p.path1.name, p.rotation_1from0, p.translation_1from0) for p in pairs]
        )
        lens = CalibratedCamera.of(pairs[0].camera0, pairs[0].size0)
        sets.append((name, pairs[0].path0.parent, lens, truth))
    return sets


def strecha(out: Path, sides: Sequence[str], threads: int | None) -> None:
    sets = strecha_sets()
    known_places(out, "strecha", sets, sides, threads)
    print("\nTargets: all placed; under 10 mm for the fountain; no worse than pycolmap's SIFT, and")
    print("in less time.\n")


def relief(out: Path, sides: Sequence[str], threads: int | None) -> None:
    coco = sorted((DATA / "dense" / "coco128").rglob("*.jpg"))
    walls = {
        "fountain on a wall": [DATA / "pose" / "fountain-P11" / "0005.jpg"],
        "Herz-Jesus on a wall": [DATA / "pose" / "Herz-Jesus-P8" / "0004.jpg"],
        "six of coco128 on a wall": coco[:6],
    }
    sets = []
    for seed, (name, pictures) in enumerate(walls.items()):
        photos = out / f"relief {name}"
        sets.append((name, photos, LENS, make_relief(pictures, photos, seed)))
    known_places(out, "relief", sets, sides, threads)
    print("\nTarget: no worse than pycolmap's SIFT.\n")


def known_places(
    out: Path,
    part: str,
    sets: Sequence[tuple[str, Path, CalibratedCamera, dict[str, Pose]]],
    sides: Sequence[str],
    threads: int | None,
) -> None:
    """Map sets of photos, each with its folder, camera and true poses, and print the errors."""
    rows, between = [], []
    for name, photos, lens, truth in sets:
        misses: dict[str, Any] = {}
        for side in sides:
            stem = f"{part} {name} {side}"
            result = kept(out / f"{stem}.json", map_side, side, photos, out / stem, lens, threads)
            found = as_poses(result["poses"])
            if len(found) == len(truth):
                misses[side] = position_misses(found, truth)
            errors = list(aligned_position_errors(found, truth).values()) if found else [math.nan]
            by_half = [
                np.mean(list(aligned_position_errors(as_poses(half), truth).values()))
                for half in result["halves"]
            ]
            rows.append(
                [
                    name,
                    side,
                    f"{len(found)} of {len(truth)}",
                    f"{1000 * float(np.mean(errors)):.2f} mm",
                    f"{1000 * np.median(by_half):.2f} ({1000 * min(by_half):.2f} to "
                    f"{1000 * max(by_half):.2f}) mm"
                    if by_half
                    else "",
                    f"{1000 * max(errors):.2f} mm",
                    str(result["points"]),
                    f"{result['error']:.2f} px",
                    f"{result['wall']:.1f} s",
                    f"{result['cpu']:.1f} s",
                    stages(result),
                ]
            )
        for first, other in itertools.combinations(misses, 2):
            apart = np.linalg.norm(misses[first] - misses[other], axis=1).mean()
            alike = np.corrcoef(misses[first].ravel(), misses[other].ravel())[0, 1]
            between.append(
                f"{name}: {first} and {other} are {1000 * apart:.2f} mm apart on average; their "
                f"misses correlate by {alike:.2f}."
            )
    header = ["photos of", "side", "placed", "mean position error", "of halves", "largest"]
    header += ["points", "reprojection", "wall", "processor", "stages, s"]
    print(markdown(header, rows))
    print()
    print("\n".join(between))


def position_misses(found: dict[str, Pose], truth: dict[str, Pose]) -> Any:
    """(N, 3): by what camera positions miss the true ones after the best similarity."""
    ours = np.array([found[name].position for name in truth])
    theirs = np.array([pose.position for pose in truth.values()])
    return umeyama(ours, theirs).points(ours) - theirs


def scene_map(
    frames: Sequence[Frame], folder: Path, given: dict[str, Any], threads: int | None
) -> dict[str, Any]:
    """A map of frames in `folder`/own, and one with their given poses in `folder`/given."""
    from covis.sfm.mapper import Mapping, triangulate, write_models

    shutil.rmtree(folder, ignore_errors=True)
    own, known = folder / "own", folder / "given"
    photos = link_photos(folder / "photos", ((frame.name, frame.path) for frame in frames))
    lens = frames[0].lens
    model, spent, seconds = covis_map(photos, own, lens, {**given, "threads": threads})
    poses = write_poses(folder / "poses", frames)
    shutil.copytree(own, known)
    work = folder / "work"
    work.mkdir()
    options = Mapping(refine=False, threads=threads)
    made = triangulate(known / "database.db", photos, work, poses, options)
    write_models([made], known / "sparse")
    return {
        "registered": 0 if model is None else model.num_reg_images(),
        "points": 0 if model is None else model.num_points3D(),
        "given points": made.num_points3D(),
        "wall": spent[0],
        "cpu": spent[1],
        "seconds": seconds,
    }


def scene_places(
    folder: Path,
    train: Sequence[Frame],
    test: Sequence[Frame],
    foreign: Sequence[Path],
    matcher: str,
    known_focal: bool,
    threads: int | None,
) -> dict[str, Any]:
    """Errors of the test frames located in a map, and what becomes of foreign photos."""
    from covis.sfm.localise import Locator

    locate = Locator(folder, matcher=matcher, threads=threads)
    own = poses_of(locate.map.reconstruction)
    true = {frame.name: frame.pose for frame in train if frame.name in own}
    to_metres = umeyama(
        np.array([own[name].position for name in true]),
        np.array([pose.position for pose in true.values()]),
    )
    began = time.perf_counter(), time.process_time()
    found: dict[str, Pose | None] = {}
    confidences = []
    for frame in test:
        located = locate(frame.path, camera=frame.lens if known_focal else None)
        pose = located.estimate.pose
        found[frame.name] = None if pose is None else to_metres.pose(pose)
        confidences.append(located.estimate.confidence)
    wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
    result = localisation_errors(found, {frame.name: frame.pose for frame in test})
    strangers = [locate(path) for path in foreign]
    return {
        "located": result.located,
        "of": len(test),
        "median position": result.median_position,
        "median rotation": result.median_rotation,
        "within": [result.share(0.05, 5), result.share(0.25, 5)],
        "position": result.position.tolist(),
        "rotation": result.rotation.tolist(),
        "confidences": confidences,
        "strangers": [stranger.estimate.confidence for stranger in strangers],
        "strangers placed": sum(stranger.found for stranger in strangers),
        "wall": wall,
        "cpu": cpu,
    }


def scenes(out: Path, folder: Path, threads: int | None, max_keypoints: int, foreign: int) -> None:
    scene = read_scene(folder)
    strangers = [
        *sorted((DATA / "pose" / "fountain-P11").glob("*.jpg")),
        *sorted((DATA / "pose" / "Herz-Jesus-P8").glob("*.jpg")),
        *sorted((DATA / "dense" / "coco128").rglob("*.jpg")),
    ][:foreign]
    rows = []
    for features, matcher, known in (
        ("sift", "nearest", True),
        ("xfeat", "nearest", True),
        ("xfeat", "lightglue", True),
        ("sift", "nearest", False),
        ("xfeat", "nearest", False),
    ):
        given: dict[str, Any] = {"features": features, "max_keypoints": max_keypoints}
        maps = out / f"scenes {scene.name} {features} {max_keypoints}"
        made = kept(maps.with_suffix(".json"), scene_map, scene.train, maps, given, threads)
        for kind in ("own", "given"):
            focal = "known" if known else "estimated"
            result = kept(
                out / f"{maps.name} {kind} {matcher} {focal}.json",
                scene_places, maps / kind, scene.train, scene.test, strangers, matcher, known,
                threads,
            )  # fmt: skip
            rows.append(
                [
                    features,
                    matcher,
                    focal,
                    kind,
                    f"{made['registered']} of {len(scene.train)}",
                    f"{result['located']} of {result['of']}",
                    f"{100 * result['median position']:.1f} cm",
                    f"{result['median rotation']:.2f}°",
                    " / ".join(f"{100 * share:.0f}" for share in result["within"]),
                    f"{result['strangers placed']} of {len(result['strangers'])}",
                    f"{result['wall'] / result['of']:.2f} s",
                    f"{result['cpu'] / result['of']:.2f} s",
                ]
            )
    header = ["features", "matcher", "focal length", "map's poses", "mapped", "located"]
    header += ["median position", "median rotation", "% within 5 / 25 cm, 5°", "strangers placed"]
    header += ["wall a query", "processor"]
    print(markdown(header, rows))
    print("\nTargets: XFeat's medians at most SIFT's; no stranger placed.\n")


def places(out: Path, sizes: Sequence[int], ways: Sequence[str], threads: int | None) -> None:
    truth = {name: poses for name, _, _, poses in strecha_sets()}
    paths = {name: [DATA / "pose" / name / photo for photo in truth[name]] for name in truth}
    rows = []
    for size, overlay, how in itertools.product(sizes, map_places.OVERLAYS, ways):
        folder = out / f"places {size} {overlay}"
        path = out / f"{folder.name} {how}.json"
        if not path.is_file():
            map_places.make_photos(paths, folder / "photos", size, overlay)
        made = kept(path, map_places.map_places, folder, how, list(truth), threads)
        rows.append([str(size), overlay, how, *map_places.row(made, truth)])
    print(markdown(map_places.HEADER, rows))
    print("\nTarget: two models and no pair across; no photo lost.\n")


ROOMS, QUERIES = 2, 6
DISTORTIONS = (0.0, -0.05, -0.1, -0.2)
EXIF = {"right": 1.0, "of the photo before it was cropped": 0.6, "absent": None}
"""What EXIF says of the focal length, in true ones."""


def room_places(out: Path, number: int, threads: int | None) -> dict[str, Any]:
    """Locate photos in one room: by distortion and EXIF, normalised squared errors and errors."""
    from covis.sfm.localise import Locator

    rng, room = np.random.default_rng(10 + number), Room.furnished(10 + number)
    photos = out / "photos"
    photos.mkdir(parents=True, exist_ok=True)
    lens = CalibratedCamera("SIMPLE_RADIAL", 640, 480, (450.0, 320.0, 240.0, -0.1))
    truth = {f"{at:02}.jpg": standing(rng) for at in range(10)}
    for at, (name, pose) in enumerate(truth.items()):
        save(room.seen_by(lens, pose), photos / name, at)
    covis_map(photos, out / "map", None, {"threads": threads})
    locate = Locator(out / "map", matcher="nearest", threads=threads)
    own = poses_of(locate.map.reconstruction)
    to_metres = umeyama(
        np.array([pose.position for pose in own.values()]),
        np.array([truth[name].position for name in own]),
    )
    found: dict[str, list[list[float] | None]] = {}
    for k, at in itertools.product(DISTORTIONS, range(QUERIES)):
        focal, pose = rng.uniform(380, 650), standing(rng)
        middle = np.array([320, 240]) + rng.normal(0, CENTRE_DEVIATION * 640, 2)
        lens = CalibratedCamera("SIMPLE_RADIAL", 640, 480, (focal, *middle, k))
        pixels = room.seen_by(lens, pose)
        for exif, share in EXIF.items():
            path = out / f"query {k} {at} {exif}.jpg"
            save(pixels, path, 100 + at, None if share is None else share * focal)
            located = locate(path).estimate
            missed = None
            if located.pose is not None and located.covariance is not None:
                there = to_metres.pose(located.pose)
                miss = there.rotation @ (there.position - pose.position)
                spread = located.covariance[3:, 3:] * to_metres.scale**2
                normalised = float(miss @ np.linalg.solve(spread, miss)) / 3
                missed = [normalised, float(np.linalg.norm(miss))]
            found.setdefault(f"{k}/{exif}", []).append(missed)
    return {"found": found}


def locate_part(out: Path, threads: int | None) -> None:
    results = []
    for number in range(ROOMS):
        stem = f"locate room {number}"
        result = kept(out / f"{stem}.json", room_places, out / stem, number, threads)
        results.append(result["found"])
    rows = []
    for k, exif in itertools.product(DISTORTIONS, EXIF):
        each = [missed for found in results for missed in found[f"{k}/{exif}"]]
        told = np.array([missed for missed in each if missed is not None]).reshape(-1, 2)
        rows.append(
            [
                f"{k:g}",
                exif,
                f"{len(told)} of {len(each)}",
                f"{told[:, 0].mean():.2f}" if len(told) else "",
                f"{1000 * np.median(told[:, 1]):.0f} mm" if len(told) else "",
                f"{1000 * told[:, 1].max():.0f} mm" if len(told) else "",
            ]
        )
    header = ["distortion k", "EXIF's focal length", "located", "normalised squared error"]
    print(markdown([*header, "median error", "largest"], rows))
    print("\nTargets: normalised squared errors of 0.5 to 2 on average, or not located.\n")


LOOP_LENS = CalibratedCamera("SIMPLE_RADIAL", 640, 480, (560.0, 320.0, 240.0, 0.0))
LOOP_SIDES = "covis", "covis, all pairs"


def loop(out: Path, count: int, threads: int | None) -> None:
    """A ring of photos, mapped with the pairs that covis chooses and with all."""
    photos, room = out / f"loop {count} photos", Room.furnished(20)
    photos.mkdir(parents=True, exist_ok=True)
    truth = {}
    for at in range(count):
        angle = 2 * math.pi * at / count
        ahead = np.array([math.sin(angle), 0.1 * math.sin(3 * angle), math.cos(angle)])
        place = np.array([1.2, 0.4, 1.2]) * ahead
        truth[f"{at:03}.jpg"] = looking(place, 3 * ahead)
        path = photos / f"{at:03}.jpg"
        if not path.is_file():
            save(room.seen_by(LOOP_LENS, truth[path.name]), path, at, LOOP_LENS.params[0])
    rows = []
    for side in LOOP_SIDES:
        path = out / f"loop {count} {side}.json"
        made = kept(path, map_side, side, photos, out / path.stem, None, threads)
        errors = [*aligned_position_errors(as_poses(made["poses"]), truth).values()]
        placed = f"{len(made['poses'])} of {count}"
        off = (f"{1000 * each:.1f} mm" for each in (np.mean(errors), max(errors)))
        rows.append([side, placed, *off, f"{made['cpu']:.0f} s", stages(made)])
    header = [f"{count} photos around", "placed", "mean error", "largest", "processor", "stages, s"]
    print(markdown(header, rows))
    print("\nTarget: no photo lost, and no larger error than with all pairs.\n")


def make_photos(folder: Path, count: int) -> None:
    """The fountain's photos as cameras see it that are turned about their centres."""
    folder.mkdir(parents=True, exist_ok=True)
    pair = read_pairs(DATA / "pose" / "fountain-P11").pairs[0]
    assert isinstance(pair, PosePair)
    sources = sorted(pair.path0.parent.glob("*.jpg"))
    zoom = math.sqrt(MEGAPIXELS * 1e6 / math.prod(pair.size0))
    width, height = (round(side * zoom) for side in pair.size0)
    # A longer lens, so that the turned camera sees nothing beyond the photo.
    focal = 1.25 * zoom * pair.camera0.focal_x
    after = Camera(focal, focal, width / 2, height / 2).matrix
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    rng = np.random.default_rng(0)
    for number in range(count):
        path = folder / f"{number:03}.jpg"
        turn = np.radians(rng.uniform(-1, 1, 3) * [2.0, 3.0, 4.0])
        if path.is_file():
            continue
        picture = cv2.imread(str(sources[number % len(sources)]))
        warp = after @ cv2.Rodrigues(turn)[0] @ np.linalg.inv(pair.camera0.matrix)
        warp = np.linalg.inv(half) @ warp @ half
        turned = cv2.warpPerspective(picture, warp, (width, height), flags=cv2.INTER_CUBIC)
        cv2.imwrite(str(path), turned, [cv2.IMWRITE_JPEG_QUALITY, 95])


def many(out: Path, sides: Sequence[str], count: int, threads: int | None) -> None:
    photos = out / f"many {count} photos"
    make_photos(photos, count)
    rows, times = [], {}
    for side in sides:
        path = out / f"many {count} {side}.json"
        result = kept(path, map_side, side, photos, out / f"many {count} {side}", None, threads)
        times[side] = result
        rows.append(
            [
                side,
                f"{len(result['poses'])} of {count}",
                str(result["points"]),
                f"{result['error']:.2f} px",
                f"{result['wall']:.0f} s",
                f"{result['cpu']:.0f} s",
                stages(result),
            ]
        )
    header = [f"{count} photos", "placed", "points", "reprojection", "wall", "processor"]
    print(markdown([*header, "stages, s"], rows))
    if "pycolmap SIFT" in times and "covis" in times:
        peer, ours = times["pycolmap SIFT"], times["covis"]
        print(
            f"\ncovis is {peer['wall'] / ours['wall']:.1f} times as fast by the clock, "
            f"{peer['cpu'] / ours['cpu']:.1f} times by processor time."
        )
    print("\nTargets: faster, and as many photos placed.\n")


def run(arguments: argparse.Namespace) -> None:
    common.check_known("part", arguments.parts, PARTS)
    common.check_known("side", arguments.sides, SIDES)
    common.check_known("way", arguments.ways, map_places.HOW)
    with tempfile.TemporaryDirectory() as folder:
        out = (arguments.out or Path(folder)).resolve()
        if "strecha" in arguments.parts:
            strecha(out, arguments.sides, arguments.threads)
        if "relief" in arguments.parts:
            relief(out, arguments.sides, arguments.threads)
        if "scenes" in arguments.parts:
            scenes(
                out,
                arguments.scene,
                arguments.threads,
                arguments.max_keypoints,
                arguments.strangers,
            )
        if "places" in arguments.parts:
            places(out, arguments.sizes, arguments.ways, arguments.threads)
        if "kills" in arguments.parts:
            photos = sorted((DATA / "pose" / "fountain-P11").glob("*.jpg"))[:6]
            map_kills.kill_maps(photos, out / "kills", arguments.kills)
        if "locate" in arguments.parts:
            locate_part(out, arguments.threads)
        if "loop" in arguments.parts:
            loop(out, arguments.loop, arguments.threads)
        if "many" in arguments.parts:
            many(out, arguments.sides, arguments.count, arguments.threads)


def main() -> int:
    options = common.parser(__doc__, "--threads")
    options.add_argument("--parts", type=common.names, default=list(PARTS[:4]), help="of the above")
    options.add_argument(
        "--sides",
        type=common.names,
        default=["covis", "pycolmap SIFT"],
        help=f"of {'; '.join(SIDES)}; separated by semicolons",
    )
    options.add_argument("--count", type=int, default=100, help="photos of the part many")
    options.add_argument("--loop", type=int, default=80, help="photos of the part loop")
    options.add_argument("--scene", type=Path, default=DATA / "pose" / "7scenes")
    options.add_argument("--max-keypoints", type=int, default=4096, help="of the part scenes")
    options.add_argument("--strangers", type=int, default=40, help="of the part scenes")
    options.add_argument("--kills", type=int, default=25, help="of the part kills")
    options.add_argument(
        "--sizes", type=int, nargs="+", default=map_places.SIZES, help="of the part places"
    )
    options.add_argument(
        "--ways",
        type=common.names,
        default=["covis"],
        help=f"of the part places, of {'; '.join(map_places.HOW)}; separated by semicolons",
    )
    options.add_argument("--out", type=Path, help="a folder that keeps what is done")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
