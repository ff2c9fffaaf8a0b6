"""Benchmarks of relative pose on listed pairs: MegaDepth-1500, ScanNet-1500, phototourism.

The error of a pair is the larger of the rotation's angle and the angle between the translations,
their sign ignored; figures are the areas under its recall up to 5, 10 and 20 degrees.

PoseLib draws up to 10,000 samples here, as in all of covis; XFeat's evaluation stops at 1,000. And
a pose that no more matches support than chance would bring counts as none.

Layouts: `pairs_calibrated.txt`, a line a pair: both pictures, both intrinsics row by row (9 and 9
numbers) and the pose of camera 1 from camera 0, as 9 and 3 numbers or as a 4 x 4 matrix.
SuperGlue's lists have both pictures' turns, which must be 0, behind the names. Or LoFTR's
scene_info: .npz files with image_paths, intrinsics, poses (world to camera) and pair_infos.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.datasets.pairs import Pair, PairSet, PosePair, image_size
from covis.evaluation.datasets.plain_pickle import read_plain_npz
from covis.evaluation.method import Method
from covis.evaluation.metrics.two_view import TwoViewResult
from covis.evaluation.protocol import (
    SEARCHED,
    Figures,
    Protocol,
    chosen,
    counting,
    measure,
    sampled,
)
from covis.geometry import Camera
from covis.types import Matrix

MEGADEPTH = (
    Protocol("XFeat", 4096, ("poselib",), (2.5,), longest=1200),
    Protocol("LightGlue", 2048, ("opencv", "poselib"), SEARCHED, longest=1600),
)
"""XFeat's evaluation shrinks to 1200 pixels and takes PoseLib with 2.5 pixels; LightGlue's (section
5.2) to 1600 and searches thresholds for OpenCV's RANSAC and PoseLib's LO-RANSAC."""

SCANNET = (
    Protocol("XFeat", 4096, ("poselib",), (2.5,), longest=640),
    Protocol("LightGlue", 2048, ("opencv", "poselib"), SEARCHED, longest=640),
)
"""Pictures of 640 x 480, as SuperGlue has had them; that XFeat's threshold was that of MegaDepth,
and LightGlue's protocol, which its paper has no figures for here, are our assumptions."""

SCENE_INFO = ("", "scene_info/", "megadepth_test_1500_scene_info/")
"""Folders that LoFTR's files may stand in."""

Sizes = dict[Path, tuple[int, int]]


def run_megadepth(data: Path, settings: Settings, report: Report) -> list[Row]:
    return run_protocols(MEGADEPTH, [read_megadepth(data)], areas, settings, report)


def run_scannet(data: Path, settings: Settings, report: Report) -> list[Row]:
    return run_protocols(SCANNET, [read_scannet(data)], areas, settings, report)


def run_protocols(
    protocols: Sequence[Protocol],
    sets: Iterable[PairSet],
    figures: Figures,
    settings: Settings,
    report: Report,
) -> list[Row]:
    """Measure sets of poses by every protocol that the settings ask for."""
    some = sampled(sets, settings)
    wanted = chosen(protocols, settings)
    tick = counting(report, len(wanted) * sum(len(each.pairs) for each in some))
    return [
        row
        for protocol in wanted
        for row in measure(
            protocol, Method(settings, protocol.max_keypoints), some, figures, settings, tick
        )
    ]


def areas(result: TwoViewResult) -> dict[str, float]:
    found = {f"AUC@{t}°": 100 * value for t, value in result.auc.items()}
    return found | {"Acc@10°": 100 * result.share[10]}


def read_megadepth(data: str | Path) -> PairSet:
    """The 1500 pairs, from `pairs_calibrated.txt` or LoFTR's scene_info.

    Raises ArgumentError that names the file when it cannot be read or a picture is missing.
    """
    data = Path(data)
    listed = data / "pairs_calibrated.txt"
    if listed.is_file():
        return PairSet("megadepth1500", "pose", tuple(read_calibrated(listed)))
    pairs: list[Pair] = []
    sizes: Sizes = {}
    files = sorted(path for folder in SCENE_INFO for path in data.glob(f"{folder}*.npz"))
    for path in files:
        pairs += _read_scene_info(path, data, sizes)
    if not pairs:
        raise ArgumentError(f"{data}: neither pairs_calibrated.txt nor scene_info/*.npz there.")
    return PairSet("megadepth1500", "pose", tuple(pairs))


def read_scannet(data: str | Path) -> PairSet:
    """The 1500 pairs, from `pairs_calibrated.txt` or SuperGlue's `scannet_test_pairs_with_gt.txt`.

    Raises ArgumentError as `read_megadepth` does.
    """
    for name in ("pairs_calibrated.txt", "scannet_test_pairs_with_gt.txt"):
        if (Path(data) / name).is_file():
            return PairSet("scannet1500", "pose", tuple(read_calibrated(Path(data) / name)))
    raise ArgumentError(f"{data}: no pairs_calibrated.txt there.")


def read_calibrated(path: Path) -> list[Pair]:
    """The pairs of a list; pictures are looked for in `images/` beside it, and beside it.

    Raises ArgumentError that names the file and the line.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: cannot be read ({error}).") from error
    sizes: Sizes = {}
    pairs: list[Pair] = []
    for number, line in enumerate(lines, 1):
        words, where = line.split(), f"{path}, line {number}"
        if not words:
            continue
        names, numbers = words[:2], _numbers(words[2:], where)
        if len(numbers) == 2 + 9 + 9 + 16:
            if numbers[:2].any():
                raise ArgumentError(f"{where}: the pictures must not need turning first.")
            numbers = numbers[2:]
        if len(numbers) not in (9 + 9 + 12, 9 + 9 + 16):
            raise ArgumentError(
                f"{where}: needs two pictures, 9 and 9 numbers of intrinsics and 12 or 16 of a "
                f"pose, not {len(numbers)} numbers."
            )
        pose = numbers[18:]
        if len(pose) == 12:
            rotation, translation = pose[:9].reshape(3, 3), pose[9:]
        else:
            rotation, translation = np.split(pose.reshape(4, 4)[:3], [3], axis=1)
        paths = [_find_picture(path.parent, name, where) for name in names]
        intrinsics = numbers[:9].reshape(3, 3), numbers[9:18].reshape(3, 3)
        pairs.append(make_pair(paths, intrinsics, rotation, translation.ravel(), where, sizes))
    if not pairs:
        raise ArgumentError(f"{path}: lists no pairs.")
    return pairs


def make_pair(
    paths: Sequence[Path],
    intrinsics: Sequence[Matrix],
    rotation_1from0: Matrix,
    translation_1from0: Matrix,
    where: str,
    sizes: Sizes,
) -> PosePair:
    """A pair with cameras (3, 3) as the data set has them, in pixels of the files.

    sizes: remembers those of pictures. Raises ArgumentError, which begins with `where`.
    """
    for path in paths:
        if path not in sizes:
            sizes[path] = image_size(path, where)
    try:
        camera0, camera1 = map(Camera.from_matrix, intrinsics)
    except ArgumentError as error:
        raise ArgumentError(f"{where}: {error}") from error
    return PosePair(
        paths[0],
        paths[1],
        sizes[paths[0]],
        sizes[paths[1]],
        camera0,
        camera1,
        np.asarray(rotation_1from0, np.float64),
        np.asarray(translation_1from0, np.float64),
    )


def _read_scene_info(path: Path, data: Path, sizes: Sizes) -> list[Pair]:
    stored = read_plain_npz(path)
    try:
        names, intrinsics, poses, listed = (
            stored[key] for key in ("image_paths", "intrinsics", "poses", "pair_infos")
        )
    except KeyError as error:
        raise ArgumentError(f"{path}: not LoFTR's scene_info, {error} is missing.") from None
    pairs: list[Pair] = []
    for number, entry in enumerate(listed):
        where = f"{path}, pair {number}"
        try:
            (i, j), *_ = entry
            cameras = [np.asarray(intrinsics[k], np.float64).reshape(3, 3) for k in (i, j)]
            from_world = [np.asarray(poses[k], np.float64) for k in (i, j)]
            relative = (from_world[1] @ np.linalg.inv(from_world[0]))[:3]
            pictures = [str(names[k]) for k in (i, j)]
        except (TypeError, ValueError, IndexError, np.linalg.LinAlgError) as error:
            raise ArgumentError(f"{where}: malformed ({error}).") from error
        paths = [_find_picture(data, name, where) for name in pictures]
        pairs.append(make_pair(paths, cameras, relative[:, :3], relative[:, 3], where, sizes))
    return pairs


def _find_picture(folder: Path, name: str, where: str) -> Path:
    for path in (folder / "images" / name, folder / name):
        if path.is_file():
            return path
    raise ArgumentError(f"{where}: the picture {name} is not in {folder / 'images'} or {folder}.")


def _numbers(words: Sequence[str], where: str) -> Matrix:
    try:
        numbers = np.array(words, np.float64)
    except ValueError as error:
        raise ArgumentError(f"{where}: not a number ({error}).") from error
    if not np.isfinite(numbers).all():
        raise ArgumentError(f"{where}: holds numbers that are not finite.")
    return numbers
