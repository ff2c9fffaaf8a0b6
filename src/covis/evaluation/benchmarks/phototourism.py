"""Phototourism of the Image Matching Challenge (Jin et al., IJCV 2021): stereo, mAA(10°).

A pair's error is the larger of the rotation's angle and the angle between the translations, their
sign ignored; a scene's mAA is the mean, over 1, 2, ... 10 degrees, of the share of pairs with at
most that error; "all" is the mean over scenes. The challenge gives fundamental matrices and known
intrinsics; here the essential matrix is estimated with them from the start.

The published layout has a folder a scene, and in its `set_100/`: `images/`, `calibration/` with
`calibration_NAME.h5` (K, R, T: world to camera) and `new-vis-pairs/keys-th-0.1.npy`, the names of
pairs with enough in common, as "A-B".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from covis.errors import ArgumentError, CovisError
from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.benchmarks.posed_pairs import Sizes, make_pair, run_protocols
from covis.evaluation.datasets.pairs import Pair, PairSet
from covis.evaluation.datasets.plain_pickle import read_plain_npy
from covis.evaluation.metrics.two_view import TwoViewResult
from covis.evaluation.protocol import Protocol
from covis.types import Matrix

PROTOCOL = Protocol("IMC", 2048, ("poselib", "opencv-magsac"), (0.5, 0.75, 1.0, 1.5, 2.0))
"""2048 keypoints is the smaller of the challenge's two categories; --max-keypoints 8000 the other.
Its thresholds are tuned on the validation scenes, which are those that have a public truth."""

VISIBILITY = "new-vis-pairs/keys-th-0.1.npy"
DEGREES = range(1, 11)


@dataclass(frozen=True)
class _View:
    path: Path
    intrinsics: Matrix
    rotation: Matrix
    translation: Matrix


def run(data: Path, settings: Settings, report: Report) -> list[Row]:
    rows = run_protocols([PROTOCOL], read_phototourism(data), accuracies, settings, report)
    return [_over_scenes(row, rows) if row.part == "all" else row for row in rows]


def accuracies(result: TwoViewResult) -> dict[str, float]:
    """mAA up to 10 degrees, and up to 5, in percent."""
    shares = result.shares(list(DEGREES))
    return {
        f"mAA@{t}°": 100 * float(np.mean([shares[d] for d in range(1, t + 1)])) for t in (10, 5)
    }


def read_phototourism(data: str | Path) -> list[PairSet]:
    """The pairs of every scene in a folder. Raises ArgumentError that names the file."""
    folders = sorted(path.parent.parent for path in Path(data).glob(f"*/set_100/{VISIBILITY}"))
    if not folders:
        raise ArgumentError(f"{data}: no scene with set_100/{VISIBILITY} there.")
    return [_read_scene(folder) for folder in folders]


def _read_scene(folder: Path) -> PairSet:
    listed = folder / VISIBILITY
    try:
        with open(listed, "rb") as file:
            keys = [str(key) for key in np.ravel(read_plain_npy(file))]
    except Exception as error:  # A damaged file raises almost anything.
        raise ArgumentError(f"{listed}: cannot be read ({error}).") from error
    views: dict[str, _View] = {}
    sizes: Sizes = {}
    pairs: list[Pair] = []
    for key in keys:
        names = key.split("-")
        if len(names) != 2:
            raise ArgumentError(f"{listed}: {key!r} is not a pair of names, A-B.")
        for name in names:
            if name not in views:
                views[name] = _read_view(folder, name)
        a, b = (views[name] for name in names)
        rotation = b.rotation @ a.rotation.T
        translation = b.translation - rotation @ a.translation
        intrinsics = a.intrinsics, b.intrinsics
        paths = a.path, b.path
        pairs.append(make_pair(paths, intrinsics, rotation, translation, str(listed), sizes))
    if not pairs:
        raise ArgumentError(f"{listed}: lists no pairs.")
    return PairSet(folder.parent.name, "pose", tuple(pairs))


def _read_view(folder: Path, name: str) -> _View:
    path = folder / "calibration" / f"calibration_{name}.h5"
    found = [
        picture
        for suffix in (".jpg", ".png")
        if (picture := folder / "images" / f"{name}{suffix}").is_file()
    ]
    if not found:
        raise ArgumentError(f"{folder / 'images'}: the picture {name}.jpg is missing.")
    stored = _read_hdf5(path)
    return _View(
        found[0],
        _array(stored, "K", (3, 3), path),
        _array(stored, "R", (3, 3), path),
        _array(stored, "T", (3,), path),
    )


def _read_hdf5(path: Path) -> dict[str, Any]:
    try:
        import h5py
    except ModuleNotFoundError:
        raise CovisError("phototourism needs h5py, which is missing: pip install h5py") from None
    try:
        with h5py.File(path, "r") as file:
            return {key: file[key][()] for key in ("K", "R", "T") if key in file}
    except (OSError, TypeError, KeyError) as error:
        raise ArgumentError(f"{path}: cannot be read ({error}).") from error


def _array(stored: Mapping[str, Any], key: str, shape: tuple[int, ...], path: Path) -> Matrix:
    try:
        array = np.asarray(stored[key], np.float64).reshape(shape)
    except KeyError:
        raise ArgumentError(f"{path}: {key} is missing.") from None
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"{path}: {key} must be numbers of shape {shape}.") from error
    if not np.isfinite(array).all():
        raise ArgumentError(f"{path}: {key} holds numbers that are not finite.")
    return array


def _over_scenes(row: Row, rows: list[Row]) -> Row:
    """Every scene counts the same, however many pairs it has."""
    scenes = [each for each in rows if each.protocol == row.protocol and each.part != "all"]
    means = {name: float(np.mean([each.figures[name] for each in scenes])) for name in row.figures}
    return replace(row, figures=means)
