"""From a COLMAP database to models, by pycolmap's mappers."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import TYPE_CHECKING, Literal

from covis.errors import CovisError
from covis.files.atomic import PARTIAL
from covis.options import thread_count
from covis.sfm.map import COLMAP_ERRORS, first_line, need_pycolmap, read_model
from covis.sfm.model_files import check_binary_model

if TYPE_CHECKING:
    import pycolmap

MapperName = Literal["incremental", "global"]

LEAST_PHOTOS = 3
"""Models of fewer are not kept."""
LEAST_POINTS = 15
"""Models of fewer are not kept: views from one spot give cameras anywhere and hardly a point."""


@dataclass(frozen=True)
class Mapping:
    """How the mappers run.

    refine: whether focal lengths and distortions are adjusted. coarseness: by photo, see
    `Settings.coarseness`, 1 for others; COLMAP's thresholds, which are for keypoints of full
    resolution, grow with that of a typical photo. seed: of the robust estimations.
    threads: all by default; one makes models repeatable to the last bit.
    fixed: names of photos whose poses stay as they are in the model that is extended.
    rough: whether all is adjusted again afterwards, so that the incremental mapper need not do it
    to the last digit.
    """

    mapper: MapperName = "incremental"
    refine: bool = True
    coarseness: dict[str, float] = field(default_factory=dict)
    seed: int = 0
    threads: int | None = None
    least_inliers: int = 15
    fixed: frozenset[str] = frozenset()
    rough: bool = False

    @property
    def typical_coarseness(self) -> float:
        """The median."""
        return median(self.coarseness.values()) if self.coarseness else 1.0


def run_mapper(
    database: Path,
    photos: Path,
    work: Path,
    options: Mapping,
    *,
    extended: Path | None = None,
    report: Callable[[int], None] | None = None,
) -> list[pycolmap.Reconstruction]:
    """Models, the one with the most photos first.

    work: an empty folder for what the mapper writes. extended: a model to start from; then there
        is one model. report: called with the number of photos that are placed so far.

    Raises CovisError where pycolmap gives up.
    """
    colmap = need_pycolmap()
    with quiet(colmap):
        try:
            if options.mapper == "global" and extended is None:
                settings = global_options(colmap, options)
                found = colmap.global_mapping(database, photos, work, settings)
            else:
                counted = _Counted(report)
                found = colmap.incremental_mapping(
                    database,
                    photos,
                    work,
                    incremental_options(colmap, options),
                    input_path="" if extended is None else str(extended),
                    initial_image_pair_callback=counted.first,
                    next_image_callback=counted.next,
                )
                if extended is not None and not options.fixed:
                    _put_back(colmap, found, colmap.Reconstruction(str(extended)))
        except (RuntimeError, ValueError) as error:
            raise CovisError(f"{database}: the mapper failed ({first_line(error)}).") from error
    return largest_first(found.values())


def incremental_options(
    colmap: ModuleType, options: Mapping
) -> pycolmap.IncrementalPipelineOptions:
    """COLMAP's options for its incremental mapper. colmap: the module."""
    settings = colmap.IncrementalPipelineOptions()
    settings.random_seed = options.seed
    settings.num_threads = options.threads or -1
    settings.extract_colors = False
    settings.num_threads = thread_count(options.threads)
    settings.min_num_matches = options.least_inliers
    settings.min_model_size = LEAST_PHOTOS
    settings.ba_refine_focal_length = options.refine
    settings.ba_refine_extra_params = options.refine
    # All is adjusted less often than COLMAP would: the same accuracy in four fifths of the time.
    settings.ba_global_frames_ratio = settings.ba_global_points_ratio = 1.3
    settings.ba_global_max_refinements = 2
    if options.rough:
        # By default each adjustment goes on to the last digit. On a rendered wall, 16 photos, the
        # cameras are as near the truth in the end (0.07 mm), in a third of the mapper's time.
        settings.ba_local_function_tolerance = settings.ba_global_function_tolerance = 1e-3
        settings.ba_local_max_refinements = settings.ba_global_max_refinements = 1
        settings.ba_global_frames_ratio = settings.ba_global_points_ratio = 1.6
        settings.mapper.ba_global_ignore_redundant_points3D = True
        settings.mapper.ba_local_num_images = 5
    settings.fix_existing_frames = bool(options.fixed)
    settings.ba_refine_sensor_from_rig = not options.fixed
    mapper = settings.mapper
    mapper.random_seed = options.seed
    mapper.num_threads = thread_count(options.threads)
    mapper.abs_pose_refine_focal_length = options.refine
    mapper.abs_pose_refine_extra_params = options.refine
    mapper.init_max_error *= options.typical_coarseness
    mapper.abs_pose_max_error *= options.typical_coarseness
    mapper.filter_max_reproj_error *= options.typical_coarseness
    return settings


def global_options(colmap: ModuleType, options: Mapping) -> pycolmap.GlobalPipelineOptions:
    """COLMAP's options for its global mapper. colmap: the module."""
    settings = colmap.GlobalPipelineOptions()
    settings.random_seed = options.seed
    settings.num_threads = thread_count(options.threads)
    settings.min_num_matches = options.least_inliers
    adjustment = settings.mapper.bundle_adjustment
    adjustment.refine_focal_length = options.refine
    adjustment.refine_extra_params = options.refine
    return settings


def triangulate(
    database: Path, photos: Path, work: Path, poses: Path, options: Mapping
) -> pycolmap.Reconstruction:
    """A model with the poses of the one in `poses`, its points seen by the database's keypoints.

    Raises CovisError where that model cannot be read or has no photo of the database.
    """
    colmap = need_pycolmap()
    with quiet(colmap):
        try:
            known = _posed(colmap, database, read_model(poses))
            settings = incremental_options(colmap, options)
            return colmap.triangulate_points(known, database, photos, work, True, settings)
        except COLMAP_ERRORS as error:
            raise CovisError(
                f"{poses}: this model cannot be extended ({first_line(error)})."
            ) from error


def _put_back(
    colmap: ModuleType, found: dict[int, pycolmap.Reconstruction], before: pycolmap.Reconstruction
) -> None:
    """Move models to where their photos were before: the mapper leaves the frame of axes free."""
    for model in found.values():
        moved = colmap.align_reconstructions_via_proj_centers(model, before, 1e9)
        if moved is not None:
            model.transform(moved)


def _posed(
    colmap: ModuleType, database: Path, model: pycolmap.Reconstruction
) -> pycolmap.Reconstruction:
    """The photos of a database that have a pose in a model, with that, and nothing else of it."""
    posed = colmap.Reconstruction()
    poses = {
        image.name: image.cam_from_world() for image in model.images.values() if image.has_pose
    }
    rows = colmap.Database.open(str(database))
    for camera in rows.read_all_cameras():
        posed.add_camera(camera)
    rigs = {rig.rig_id: rig for rig in rows.read_all_rigs()}
    for rig in rigs.values():
        posed.add_rig(rig)
    frames = {frame.frame_id: frame for frame in rows.read_all_frames()}
    registered: list[int] = []
    for image in rows.read_all_images():
        if image.name in poses:
            frame = frames[image.frame_id]
            if not posed.exists_frame(frame.frame_id):
                camera_from_rig = _from_rig(rigs[frame.rig_id], image)
                frame.rig_from_world = camera_from_rig.inverse() * poses[image.name]
                posed.add_frame(frame)
                registered.append(frame.frame_id)
            posed.add_image(image)
    for number in registered:
        posed.register_frame(number)
    rows.close()
    return posed


def _from_rig(rig: pycolmap.Rig, image: pycolmap.Image) -> pycolmap.Rigid3d:
    """How a photo's camera stands in its rig. Raises ValueError where that is not known."""
    sensor = image.data_id.sensor_id
    if rig.is_ref_sensor(sensor):
        return need_pycolmap().Rigid3d()
    found = rig.sensor_from_rig(sensor)
    if found is None:
        raise ValueError(f"its database has a rig whose camera {sensor.id} has no place in it")
    return found


def write_models(models: list[pycolmap.Reconstruction], sparse: Path) -> None:
    """Write models as sparse/0, sparse/1, ..., in the place of those that are there.

    Those stay until the new ones were written and read back; see `restore_models`. Raises
    CovisError where they cannot be written.
    """
    fresh, former = _partial(sparse), _former(sparse)
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        for number, model in enumerate(models):
            _write_model(model, fresh / str(number))
        restore_models(sparse)
        with suppress(FileNotFoundError):
            sparse.rename(former)
        with suppress(FileNotFoundError):
            fresh.rename(sparse)
    except COLMAP_ERRORS as error:
        raise CovisError(
            f"{sparse}: the models cannot be written ({first_line(error)}); is the disk full? "
            "Those of before are as they were."
        ) from None
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.rmtree(former, ignore_errors=True)


def restore_models(sparse: Path) -> None:
    """Put the former models back where a killed process had only moved them aside."""
    former = _former(sparse)
    if former.exists() and not sparse.exists():
        former.rename(sparse)
    shutil.rmtree(former, ignore_errors=True)


def _partial(sparse: Path) -> Path:
    return sparse.with_name(f"{sparse.name}{PARTIAL}")


def _former(sparse: Path) -> Path:
    return sparse.with_name(f"{sparse.name}.former{PARTIAL}")


def _write_model(model: pycolmap.Reconstruction, folder: Path) -> None:
    """Write a model and read it back: COLMAP does not say when a disk is full. Raises OSError,
    or what pycolmap raises for a file that is cut."""
    folder.mkdir(parents=True)
    model.write(str(folder))
    for path in folder.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    check_binary_model(folder)
    with quiet(need_pycolmap()):
        again = need_pycolmap().Reconstruction(str(folder))
    if _counts(again) != _counts(model):
        raise OSError("parts of it are missing")


def _counts(model: pycolmap.Reconstruction) -> tuple[int, ...]:
    return (
        model.num_cameras(),
        model.num_reg_images(),  # Others are not written.
        model.num_points3D(),
        model.compute_num_observations(),
    )


def model_folders(sparse: Path) -> list[Path]:
    """The models that `write_models` wrote, in their order."""
    return sorted(sparse.glob("[0-9]*"), key=lambda path: int(path.name))


def update_models(sparse: Path, images: dict[str, int]) -> None:
    """Take photos out of the models that a database no longer has, and rename renamed ones.

    images: the ids of the database's photos by name. Models that are left with too few photos go.
    """
    names = {number: name for name, number in images.items()}
    models, changed = [], False
    for folder in model_folders(sparse):
        model = read_model(folder)
        for image in list(model.images.values()):
            name = names.get(image.image_id)
            changed |= name != image.name
            if name is not None:
                image.name = name
            elif image.has_pose:
                model.deregister_frame(image.frame_id)
        model.update_point_3d_errors()
        models.append(model)
    if changed:
        write_models(largest_first(models), sparse)


def largest_first(models: Iterable[pycolmap.Reconstruction]) -> list[pycolmap.Reconstruction]:
    """Models that are worth keeping, the one with the most photos first.

    One whose photos another has as well is not.
    """
    order = sorted(models, key=lambda model: (-model.num_reg_images(), -model.num_points3D()))
    kept: list[pycolmap.Reconstruction] = []
    placed: list[set[int]] = []
    for model in order:
        mine = {number for number, image in model.images.items() if image.has_pose}
        enough = len(mine) >= LEAST_PHOTOS and model.num_points3D() >= LEAST_POINTS
        if enough and not any(mine <= others for others in placed):
            kept.append(model)
            placed.append(mine)
    return kept


class quiet:
    """COLMAP's log goes to the terminal; in a `with` block of this it does not."""

    def __init__(self, colmap: ModuleType) -> None:
        self._logging = colmap.logging

    def __enter__(self) -> None:
        self._level = self._logging.minloglevel
        self._logging.minloglevel = self._logging.Level.FATAL.value

    def __exit__(self, *args: object) -> None:
        self._logging.minloglevel = self._level


class _Counted:
    """Counts the photos that the incremental mapper places."""

    def __init__(self, report: Callable[[int], None] | None) -> None:
        self._report, self._count, self._lock = report, 0, threading.Lock()

    def first(self) -> None:
        self._tell(2)

    def next(self) -> None:
        self._tell(1)

    def _tell(self, more: int) -> None:
        with self._lock:
            self._count += more
        if self._report is not None:
            self._report(self._count)
