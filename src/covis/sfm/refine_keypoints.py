"""Keypoints of a model moved to where photos show the same spot, to a tenth of a pixel.

A detector finds a spot a little elsewhere in every photo. Here one photo of each point's track is
the reference; around its keypoint lies a patch, taken to be a small plane through the point. The
plane is turned until the patch looks alike in all photos, then each other keypoint moves until
its patch fits best: inverse compositional Gauss-Newton (Baker and Matthews 2004) over the affine
warp, on patches of zero mean and unit length, so that brightness and contrast do not count. Where
patches do not come to look alike, the keypoint stays and has no say in the last bundle
adjustment.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ImageError
from covis.images.decode import load_image
from covis.options import thread_count
from covis.sfm.map import calibrated, need_pycolmap
from covis.sfm.mapper import Mapping, quiet
from covis.sfm.photo_cameras import map_from_upright
from covis.types import BoolArray, FloatArray, Matrix

if TYPE_CHECKING:
    import pycolmap

RADIUS = 7
"""Of a patch, in pixels of the photo that features were found in."""
TILTS = (0.0, 35.0, 60.0)
"""Degrees by which planes are turned away from the viewers, to six sides."""
ITERATIONS = 10
SETTLED = 0.02
"""Pixels; what moves less has arrived."""
HOPELESS = 0.3
"""The correlation below which a patch is given up."""
ALIKE = 0.85
"""The correlation from which on two patches show the same."""
FURTHEST = 3.0
"""Pixels that a keypoint may move, of the photo that features were found in."""
KEPT_IN_MEMORY = 128
"""Photos, 4 MB each at 2 megapixels; more where a photo has more partners."""
SCATTER = 0.1
"""Pixels, of the photo that features were found in, by which aligned keypoints miss their points;
those that miss them by more pull no harder. With 0.5 cameras of rendered walls, whose truth is
exact, are 1.8 times as far off (`benchmarks/relief.py`), with a distorting lens 1.1 times."""
MISS = 4.0
"""Pixels, of the photo that features were found in, by which others may miss theirs."""
LEAST_ANGLE = 1.5
"""Degrees between the rays of a point at least, as COLMAP's mapper has it."""

Indices = NDArray[np.int64]
Grey = NDArray[np.uint16]


@dataclass(frozen=True, eq=False)
class _Seen:
    """All observations of a model; those of a point stand together, its reference first.

    point: (N,) places in `ids` and `positions`. image: (N,) places in `images`. index: (N,) of
    the keypoint. xy: (N, 2). coarseness: by image, see `Settings.coarseness`.
    """

    ids: Indices
    positions: Matrix
    images: list[pycolmap.Image]
    point: Indices
    image: Indices
    index: Indices
    xy: Matrix
    coarseness: Matrix


def refine_keypoints(
    model: pycolmap.Reconstruction,
    photos: Path,
    options: Mapping,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, tuple[Indices, Matrix]]:
    """Move the keypoints of a model and adjust it to them, in place.

    photos: the folder that the photos' names are relative to. report: called with how many
        photos are done, and of how many.

    Returns the keypoints that moved by photo: indices and (N, 2) positions.
    Raises ImageError for a photo that cannot be read.
    """
    seen = _observations(model, options)
    if not len(seen.point):
        return {}
    moved, sure = _aligned(seen, photos, options, report)
    for image, index, xy in zip(seen.image[sure], seen.index[sure], moved[sure], strict=True):
        seen.images[image].points2D[int(index)].xy = xy
    _adjust(model, seen, sure, options)
    found = {}
    for place, image in enumerate(seen.images):
        mine = sure & (seen.image == place)
        found[image.name] = seen.index[mine], moved[mine]
    return found


def _observations(model: pycolmap.Reconstruction, options: Mapping) -> _Seen:
    ids = np.array(sorted(model.points3D), np.int64)
    images = [model.image(i) for i in sorted(model.images) if model.image(i).has_pose]
    place = {image.image_id: at for at, image in enumerate(images)}
    xy_of = [np.array([p.xy for p in image.points2D]).reshape(-1, 2) for image in images]
    rows = [
        (point, place[element.image_id], element.point2D_idx)
        for point, number in enumerate(ids)
        for element in model.point3D(int(number)).track.elements
    ]
    point, image, index = np.array(rows, np.int64).reshape(-1, 3).T
    positions = np.array([model.point3D(int(number)).xyz for number in ids]).reshape(-1, 3)
    xy = np.array([xy_of[i][k] for i, k in zip(image, index, strict=True)]).reshape(-1, 2)
    centres = np.array([each.projection_center() for each in images]).reshape(-1, 3)
    rays = centres[image] - positions[point]
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    middle = np.zeros_like(positions)
    np.add.at(middle, point, rays)
    central = (rays * middle[point]).sum(axis=1)
    order = np.lexsort((image, -central, point))
    coarseness = np.array([options.coarseness.get(each.name, 1.0) for each in images])
    sorted_rows = point[order], image[order], index[order], xy[order]
    return _Seen(ids, positions, images, *sorted_rows, coarseness)


def _aligned(
    seen: _Seen, photos: Path, options: Mapping, report: Callable[[int, int], None] | None
) -> tuple[Matrix, BoolArray]:
    """(N, 2) where each observation lies, and (N,) for which that is sure."""
    first = np.r_[True, seen.point[1:] != seen.point[:-1]]
    reference = np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))
    moved, sure = seen.xy.copy(), np.zeros(len(seen.point), bool)
    read = lru_cache(KEPT_IN_MEMORY)(
        lambda place: _grey(photos / seen.images[place].name, float(seen.coarseness[place]))
    )
    jacobians = _jacobians(seen)
    bases = _planes(seen, first)

    def align(place: int) -> None:
        """Align what has its reference in this photo."""
        mine = np.flatnonzero(~first & (seen.image[reference] == place))
        if len(mine):
            needed = {place, *seen.image[mine].tolist()}
            held = {each: read(each) for each in needed}.__getitem__
            here, score = _align_to(seen, place, mine, reference[mine], jacobians, bases, held)
            moved[mine], sure[mine] = here, score >= ALIKE

    with ThreadPoolExecutor(thread_count(options.threads)) as pool:
        for done, _ in enumerate(pool.map(align, range(len(seen.images))), 1):
            if report is not None:
                report(done, len(seen.images))
    far = np.linalg.norm(moved - seen.xy, axis=1) > FURTHEST * seen.coarseness[seen.image]
    sure &= ~far
    sure[first] = np.bincount(seen.point, sure, len(seen.ids)) > 0
    return np.where(sure[:, None], moved, seen.xy), sure


def _align_to(
    seen: _Seen,
    place: int,
    mine: Indices,
    reference: Indices,
    jacobians: Matrix,
    bases: Matrix,
    read: Callable[[int], Grey],
) -> tuple[Matrix, Matrix]:
    """Align the observations `mine`, whose references lie in photo `place`.

    Returns (n, 2) positions and (n,) correlations.
    """
    coarseness = float(seen.coarseness[place])
    grid = _grid(RADIUS) * coarseness
    template, slope = _templates(read(place), seen.xy[reference], grid, coarseness)
    few = (np.abs(_grid(RADIUS)) % 2 == RADIUS % 2).all(axis=1)
    rough = _normalised(template[:, few])
    # Turn the planes: of all that were tried, the one that most photos agree on.
    points, group = np.unique(seen.point[mine], return_inverse=True)
    totals = np.empty((bases.shape[0], len(points)))
    warps = np.empty((bases.shape[0], len(mine), 2, 2))
    for tried, basis in enumerate(bases):
        there = jacobians[mine] @ basis[seen.point[mine]]
        here = jacobians[reference] @ basis[seen.point[mine]]
        warps[tried] = there @ _inverse(here)
        patches = _sample_all(seen, read, mine, seen.xy[mine], warps[tried], grid[few])
        alike = (_normalised(patches) * rough).sum(axis=1)
        totals[tried] = np.bincount(group, np.maximum(alike, 0), len(points))
    warp = warps[totals.argmax(axis=0)[group], np.arange(len(mine))]
    return _gauss_newton(seen, mine, read, warp, template, slope, grid)


def _gauss_newton(
    seen: _Seen,
    mine: Indices,
    read: Callable[[int], Grey],
    warp: Matrix,
    template: FloatArray,
    slope: FloatArray,
    grid: Matrix,
) -> tuple[Matrix, Matrix]:
    """From a first warp (n, 2, 2) of each patch to the best positions and their correlations."""
    reach = grid.max()
    pixel = seen.coarseness[seen.image[mine]]
    unit = np.column_stack([np.ones(len(grid)), grid / reach]).astype(np.float32)
    steps = (slope[:, :, None] * unit.T).reshape(len(mine), 6, len(grid))
    # Of the template's changes, those of brightness and contrast do not count.
    steps -= steps.mean(axis=2, keepdims=True)
    steps -= (steps @ template[:, :, None]) * template[:, None]
    curvature = (steps @ steps.transpose(0, 2, 1)).astype(np.float64)
    damping = 1e-3 * np.trace(curvature, axis1=1, axis2=2) / 6 + 1e-12
    solver = np.linalg.inv(curvature + damping[:, None, None] * np.eye(6))
    at, warp = seen.xy[mine].copy(), warp.copy()
    best_at, best = at.copy(), np.full(len(mine), -1.0)
    going = np.arange(len(mine))
    for _ in range(ITERATIONS + 1):
        patches = _normalised(_sample_all(seen, read, mine[going], at[going], warp[going], grid))
        alike = (patches * template[going]).sum(axis=1)
        better = alike > best[going]
        best_at[going[better]], best[going[better]] = at[going[better]], alike[better]
        residuals = (patches - template[going])[:, :, None]
        change = (solver[going] @ (steps[going] @ residuals)).reshape(-1, 2, 3)
        warp[going] = warp[going] @ _inverse(np.eye(2) + change[:, :, 1:] / reach)
        shift = (warp[going] @ change[:, :, :1])[:, :, 0]
        at[going] -= shift
        moving = np.linalg.norm(shift, axis=1) > SETTLED * pixel[going]
        gone = np.linalg.norm(at[going] - seen.xy[mine[going]], axis=1)
        near = gone < 2 * FURTHEST * pixel[going]
        going = going[moving & near & (alike > HOPELESS)]
        if not len(going):
            break
    return best_at, best


def _templates(
    image: Grey, at: Matrix, grid: Matrix, coarseness: float
) -> tuple[FloatArray, FloatArray]:
    """(n, P) patches of zero mean and unit length, and (n, 2, P) their slopes per pixel."""
    eye = np.broadcast_to(np.eye(2), (len(at), 2, 2))

    def patch(step: tuple[float, float]) -> FloatArray:
        return _sample(image, at + step, eye, grid)

    h = coarseness
    values = patch((0, 0))
    values -= values.mean(axis=1, keepdims=True)
    length = np.maximum(np.linalg.norm(values, axis=1), 1e-6)
    slopes = np.stack([patch((h, 0)) - patch((-h, 0)), patch((0, h)) - patch((0, -h))], axis=1)
    return values / length[:, None], slopes / np.float32(2 * h) / length[:, None, None]


def _planes(seen: _Seen, first: BoolArray) -> Matrix:
    """(T, M, 3, 2): for each plane tried the two directions in it, by point."""
    centres = np.array([image.projection_center() for image in seen.images])
    facing = np.zeros_like(seen.positions)
    rays = centres[seen.image] - seen.positions[seen.point]
    np.add.at(facing, seen.point, rays / np.linalg.norm(rays, axis=1, keepdims=True))
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-12)
    aside = np.eye(3)[np.abs(facing).argmin(axis=1)]
    x = np.cross(facing, aside)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    y = np.cross(facing, x)
    bases = []
    for tilt in np.radians(TILTS):
        for turn in np.radians(np.arange(0, 360, 60) if tilt else [0]):
            along = np.cos(turn) * x + np.sin(turn) * y
            across = np.cos(turn) * y - np.sin(turn) * x
            bases.append(np.stack([np.cos(tilt) * along + np.sin(tilt) * facing, across], axis=2))
    return np.array(bases)


def _jacobians(seen: _Seen) -> Matrix:
    """(N, 2, 3): how an observation moves in its photo when the point moves."""
    found = np.empty((len(seen.point), 2, 3))
    for place, image in enumerate(seen.images):
        mine = seen.image == place
        rotation = image.cam_from_world().rotation.matrix()
        local = seen.positions[seen.point[mine]] @ rotation.T + image.cam_from_world().translation
        found[mine] = calibrated(image.camera).derivatives(local) @ rotation
    return found


def _sample_all(
    seen: _Seen,
    read: Callable[[int], Grey],
    mine: Indices,
    at: Matrix,
    warp: Matrix,
    grid: Matrix,
) -> FloatArray:
    """(n, P): the patches of observations, each in its own photo."""
    values = np.empty((len(mine), len(grid)), np.float32)
    places = seen.image[mine]
    for place in np.unique(places):
        here = places == place
        values[here] = _sample(read(int(place)), at[here], warp[here], grid)
    return values


def _sample(image: Grey, at: Matrix, warp: Matrix, grid: Matrix) -> FloatArray:
    """(n, P) values of an image around positions (n, 2) whose pixels' centres are at .5."""
    x, y = grid.T.astype(np.float32)
    turned = warp.astype(np.float32)
    columns, rows = (
        (at[:, axis, None] - 0.5).astype(np.float32)
        + turned[:, axis, :1] * x
        + turned[:, axis, 1:] * y
        for axis in (0, 1)
    )
    found = np.empty(columns.shape, np.float32)
    for begin in range(0, len(at), _ROWS):
        part = slice(begin, begin + _ROWS)
        found[part] = cv2.remap(
            image, columns[part], rows[part], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
    return found


_ROWS = 30_000
"""OpenCV's remap takes pictures of less than 32768 rows."""


def _normalised(patches: FloatArray) -> FloatArray:
    patches = patches - patches.mean(axis=1, keepdims=True)
    return patches / np.maximum(np.linalg.norm(patches, axis=1, keepdims=True), 1e-6)


def _inverse(matrices: Matrix) -> Matrix:
    """Of (n, 2, 2); where there is none, zeros."""
    a, b, c, d = (matrices[:, i, j] for i in (0, 1) for j in (0, 1))
    determinant = a * d - b * c
    safe = np.where(np.abs(determinant) > 1e-9, determinant, np.inf)
    swapped = np.stack([np.stack([d, -b], axis=1), np.stack([-c, a], axis=1)], axis=1)
    return swapped / safe[:, None, None]


def _grid(radius: int) -> Matrix:
    """(P, 2) steps from the middle of a patch."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    return np.column_stack([x.ravel(), y.ravel()]).astype(np.float64)


def _grey(path: Path, coarseness: float) -> Grey:
    """The photo in the map's frame, a little blurred: (h, w) uint16, 256 a grey level."""
    try:
        image = load_image(path)
    except ImageError:
        if path.exists():
            raise
        raise ImageError(f"{path} cannot be read any more; was it moved?") from None
    grey = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
    finer = map_from_upright(image.orientation).of_image(grey).astype(np.uint16) * 256
    return np.asarray(cv2.GaussianBlur(finer, (0, 0), 0.8 * coarseness), np.uint16)


def _adjust(model: pycolmap.Reconstruction, seen: _Seen, sure: BoolArray, options: Mapping) -> None:
    """Adjust the model to what is sure; what is not follows after."""
    colmap = need_pycolmap()
    count = np.bincount(seen.point, sure, len(seen.ids))
    doubtful: dict[int, pycolmap.Point3D] = {}
    dropped: list[tuple[int, int, int, float]] = []
    for point in np.flatnonzero(count < 2):
        number = int(seen.ids[point])
        doubtful[number] = model.point3D(number)
        doubtful[number] = colmap.Point3D(doubtful[number].todict())
        model.delete_point3D(number)
    for row in np.flatnonzero(~sure & (count[seen.point] >= 2)):
        element = seen.images[seen.image[row]].image_id, int(seen.index[row])
        model.delete_observation(*element)
        limit = MISS * seen.coarseness[seen.image[row]]
        dropped.append((int(seen.ids[seen.point[row]]), *element, limit))
    with quiet(colmap):
        if model.num_points3D():
            _bundle(colmap, model, options)
        for number, point in doubtful.items():
            model.add_point3D_with_id(number, point)
    model.update_point_3d_errors()
    for number, image_id, index, limit in dropped:
        image = model.image(image_id)
        seen_at = image.project_point(model.point3D(number).xyz)
        if seen_at is not None and np.linalg.norm(seen_at - image.points2D[index].xy) < limit:
            model.add_observation(number, colmap.TrackElement(image_id, index))
    widest = MISS * float(seen.coarseness.max())
    colmap.ObservationManager(model).filter_all_points3D(widest, LEAST_ANGLE)
    model.update_point_3d_errors()


def _bundle(colmap: ModuleType, model: pycolmap.Reconstruction, options: Mapping) -> None:
    settings = colmap.BundleAdjustmentOptions()
    settings.refine_focal_length = settings.refine_extra_params = options.refine
    settings.refine_sensor_from_rig = not options.fixed
    settings.ceres.loss_function_type = colmap.LossFunctionType.SOFT_L1
    settings.ceres.loss_function_scale = SCATTER * options.typical_coarseness
    solver = settings.ceres.solver_options
    solver.num_threads = thread_count(options.threads)
    solver.max_num_iterations = 50
    solver.function_tolerance = 1e-6
    config = colmap.BundleAdjustmentConfig()
    for image_id in sorted(model.images):
        if model.image(image_id).has_pose:
            config.add_image(image_id)
            if model.image(image_id).name in options.fixed:
                config.set_constant_rig_from_world_pose(model.image(image_id).frame_id)
    if not options.fixed:
        config.fix_gauge(colmap.BundleAdjustmentGauge.TWO_CAMS_FROM_WORLD)
    colmap.create_default_bundle_adjuster(settings, config, model).solve()
