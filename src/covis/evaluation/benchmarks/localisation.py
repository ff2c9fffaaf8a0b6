"""Photos located in maps, as `covis eval` runs it: 7-Scenes and Aachen Day-Night.

The map has the given poses; its points are triangulated from the features that are measured, as
hloc does it (Sarlin et al., CVPR 2019). So errors are those of features, matcher and estimator, in
the given poses' frame.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Benchmark, Report, Settings
from covis.evaluation.datasets import aachen
from covis.evaluation.datasets.seven_scenes import Frame, Scene, read_scene
from covis.evaluation.metrics.localisation import LocalisationResult, localisation_errors
from covis.evaluation.tables import Row
from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose import Pose

MAX_KEYPOINTS = 4096
PROTOCOLS = {
    "7scenes": "localisation in a map of the given poses",
    "aachen": "localisation in a map of the given poses, v1.1",
}
SUBMISSION = "covis_aachen_v1.1.txt"
TRUTH = "true_poses.txt"
"""Where the queries' poses may be, beside Aachen's folders, for those who have them."""


def run_seven_scenes(data: Path, settings: Settings, report: Report) -> list[Row]:
    """One row a scene, and their mean: medians in centimetres and degrees, as papers print."""
    folders = [data] if _is_scene(data) else sorted(p for p in data.iterdir() if _is_scene(p))
    scenes = [read_scene(folder) for folder in folders]
    total, done = sum(len(settings.sampled(scene.test)) for scene in scenes), 0
    report(0, total)
    rows = []
    for scene in scenes:
        test = settings.sampled(scene.test)
        result, method = locate_scene(scene, settings, lambda d: report(done + d, total))  # noqa: B023
        done += len(test)
        detail = {"position": result.position.tolist(), "rotation": result.rotation.tolist()}
        figures = scene_figures(result)
        rows.append(Row(PROTOCOLS["7scenes"], method, scene.name, figures, len(test), "", detail))
    if len(rows) > 1:
        mean = {
            name: float(np.mean([row.figures[name] for row in rows])) for name in rows[0].figures
        }
        rows.append(Row(PROTOCOLS["7scenes"], rows[0].method, "all", mean, total))
    return rows


def scene_figures(result: LocalisationResult) -> dict[str, float]:
    return {
        "median position cm": 100 * result.median_position,
        "median rotation °": result.median_rotation,
        "within 5 cm, 5°": 100 * result.share(0.05, 5),
        "within 25 cm, 5°": 100 * result.share(0.25, 5),
        "located": 100 * result.located / len(result.names),
    }


def locate_scene(
    scene: Scene, settings: Settings, tick: Callable[[int], None]
) -> tuple[LocalisationResult, str]:
    """Map the frames of training, locate those of the test; errors, and the method's name."""
    train, test = settings.sampled(scene.train), settings.sampled(scene.test)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        photos = link_photos(work / "photos", ((frame.name, frame.path) for frame in train))
        poses = write_poses(work / "poses", train)
        found, method = _locate(
            photos, work / "map", poses, ((f.name, f.path, f.lens) for f in test), settings, tick
        )
    return localisation_errors(found, {frame.name: frame.pose for frame in test}), method


def run_aachen(data: Path, settings: Settings, report: Report) -> list[Row]:
    """The queries' poses, written for visuallocalization.net; scores where true poses are given."""
    from covis.sfm.map import read_model

    queries = aachen.read_queries(data)
    model = data / aachen.MODEL
    names = [image.name for image in read_model(model).images.values()]
    root = data / aachen.IMAGES
    chosen = {
        condition: dict(settings.sampled(list(lenses.items())))
        for condition, lenses in queries.items()
    }
    asked = [
        (name, root / name, lens) for lenses in chosen.values() for name, lens in lenses.items()
    ]
    report(0, len(asked))
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        photos = link_photos(work / "photos", ((name, root / name) for name in names))
        found, method = _locate(
            photos, work / "map", model, asked, settings, lambda done: report(done, len(asked))
        )
    path = Path(f"{settings.features}-{settings.matcher}-{SUBMISSION}".replace("/", "-"))
    written = aachen.write_submission(path, found)
    truth = aachen.read_poses(data / TRUTH) if (data / TRUTH).is_file() else {}
    rows = []
    for condition, lenses in chosen.items():
        figures = {"located": 100 * sum(found[name] is not None for name in lenses) / len(lenses)}
        known = {name: truth[bare] for name in lenses if (bare := name.rpartition("/")[2]) in truth}
        if known:
            within = aachen.scores(localisation_errors(found, known))
            for (metres, degrees), share in zip(aachen.LIMITS, within, strict=True):
                figures[f"within {metres:g} m, {degrees:g}°"] = 100 * share
        note = f"{written} poses are in {path}; {aachen.SOURCE} scores them"
        rows.append(Row(PROTOCOLS["aachen"], method, condition, figures, len(lenses), note))
    return rows


def link_photos(folder: Path, photos: Iterable[tuple[str, Path]]) -> Path:
    """A folder with links to photos under their names."""
    for name, path in photos:
        if not path.is_file():
            raise ArgumentError(f"{path}: this photo is missing.")
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(path.resolve())
    return folder


def write_poses(folder: Path, frames: Sequence[Frame]) -> Path:
    """A COLMAP model of cameras and poses without points."""
    colmap = _pycolmap()
    model = colmap.Reconstruction()
    lenses: dict[CalibratedCamera, int] = {}
    for number, frame in enumerate(frames, 1):
        lens = frame.lens
        if lens not in lenses:
            lenses[lens] = len(lenses) + 1
            model.add_camera_with_trivial_rig(
                colmap.Camera(
                    model=lens.model,
                    width=lens.width,
                    height=lens.height,
                    params=list(lens.params),
                    camera_id=lenses[lens],
                )
            )
        image = colmap.Image(name=frame.name, camera_id=lenses[lens], image_id=number)
        matrix = np.column_stack([frame.pose.rotation, frame.pose.translation])
        model.add_image_with_trivial_frame(image, colmap.Rigid3d(matrix))
    folder.mkdir(parents=True)
    model.write(str(folder))
    return folder


def _locate(
    photos: Path,
    folder: Path,
    poses: Path,
    queries: Iterable[tuple[str, Path, CalibratedCamera]],
    settings: Settings,
    tick: Callable[[int], None],
) -> tuple[dict[str, Pose | None], str]:
    from covis.sfm import Locator, MapOptions, build_map

    build_map(
        photos,
        folder,
        options=MapOptions(
            features=settings.features,
            max_keypoints=settings.max_keypoints or MAX_KEYPOINTS,
            max_size=settings.max_size,
            model=poses,
            refine_cameras=False,
            threads=settings.threads,
            device=settings.device,
        ),
    )
    locate = Locator(
        folder,
        matcher=settings.matcher,
        full_depth=settings.full_depth,
        threads=settings.threads,
        device=settings.device,
    )
    found: dict[str, Pose | None] = {}
    models = set()
    for done, (name, path, lens) in enumerate(queries, 1):
        located = locate(path, camera=lens)
        models.add(located.model)
        found[name] = located.estimate.pose
        tick(done)
    return found, ", ".join(sorted(models)) or settings.features


def _is_scene(folder: Path) -> bool:
    return (folder / "TrainSplit.txt").is_file() or (folder / "cameras.json").is_file()


def _pycolmap() -> Any:
    from covis.sfm.map import need_pycolmap

    return need_pycolmap()


BENCHMARKS = (
    Benchmark(
        "7scenes",
        "photos of rooms located in maps: median position and rotation",
        "https://www.microsoft.com/en-us/research/project/rgb-d-dataset-7-scenes/",
        "SCENE/ with TrainSplit.txt, TestSplit.txt and seq-01/frame-000000.color.png, .pose.txt; "
        "or pictures and cameras.json",
        ("TrainSplit.txt", "*/TrainSplit.txt", "cameras.json"),
        run_seven_scenes,
        ("7-scenes", "7scenes"),
        methods="search",
    ),
    Benchmark(
        "aachen",
        "photos by day and night located in a map of Aachen, v1.1: a submission, or scores",
        "https://www.visuallocalization.net/datasets/",
        "images/images_upright/, 3D-models/aachen_v_1_1/ and queries/",
        ("3D-models/aachen_v_1_1/images.bin",),
        run_aachen,
        ("Aachen-Day-Night-v1.1", "aachen_v1.1"),
        methods="search",
    ),
)
