"""COLMAP's database. It counts pixels as covis does. Needs pycolmap.

`covis map` makes such a database, and the model, by itself; these functions are for features and
matches that are to go into one, or come from one. Points are those of the upright image, while
COLMAP sees the pixels as the file has them: store photos upright first, where EXIF turns them.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covis.convert.pairs import matches_of
from covis.errors import ArgumentError, CovisError
from covis.types import Features, FloatArray, Matches

if TYPE_CHECKING:
    from covis.sfm.database import Database

Pair = tuple[str, str]

FOCAL_SHARE = 1.2
"""The focal length of a camera that is made, in longer sides, as COLMAP guesses it."""
_SIFT = 512.0
"""COLMAP's SIFT descriptors are integers, unit length times this."""


def write(
    database: str | os.PathLike[str],
    features: Mapping[str, Features],
    matches: Mapping[Pair, Matches] | None = None,
) -> None:
    """Write features by the names of their images, and matches by pairs of these, all or nothing.

    Into a database that is there, or a new one. An image that it does not have gets a camera of
    its own, SIMPLE_RADIAL with a guessed focal length. Scales and orientations go in where there
    are both. SIFT's descriptors are rounded to COLMAP's integers, others kept. Matches are not
    verified: run COLMAP's geometric verification next.

    Raises ArgumentError for matches without indices, which semi-dense ones and some of an effort
    are, or of images without features, and for images that have descriptors already, which
    pycolmap cannot replace; CovisError where pycolmap is missing or this is no
    database.
    """
    from covis.sfm.database import Database
    from covis.sfm.map import need_pycolmap

    colmap = need_pycolmap()
    for pair, found in (matches or {}).items():
        if found.indices is None:
            raise ArgumentError(
                f"{', '.join(pair)}: these matches have no indices; "
                "those of a matcher that you name have some."
            )
        without = next((name for name in pair if name not in features), None)
        if without is not None:
            raise ArgumentError(f"no features of {without} are given, and its matches need them.")
    with Database(Path(database)) as opened:
        for name in opened.images.keys() & features.keys():
            # pycolmap replaces no descriptors.
            if opened.descriptors(name) is not None:
                raise ArgumentError(
                    f"{database} has features of {name} already; write to a new database."
                )
        _write(colmap, opened, features, matches or {})


def _write(
    colmap: Any,
    opened: Database,
    features: Mapping[str, Features],
    matches: Mapping[Pair, Matches],
) -> None:
    with opened.transaction():
        for name, each in features.items():
            if name not in opened.images:
                camera = colmap.Camera.create_from_model_name(
                    0, "SIMPLE_RADIAL", FOCAL_SHARE * max(each.width, each.height),
                    each.width, each.height,
                )  # fmt: skip
                opened.add_photo(name, opened.add_camera(camera))
            opened.write_keypoints(name, _keypoints(each))
            opened.write_descriptors(name, _descriptors(colmap, each))
        for pair, found in matches.items():
            assert found.indices is not None
            opened.write_matches(pair, found.indices)


def read_features(database: str | os.PathLike[str], model: str = "colmap") -> dict[str, Features]:
    """The features of all images that have keypoints and descriptors, by the images' names.

    model: what made them; features of one model alone can be matched. Scores, which COLMAP does
        not keep, are 1. Scales and orientations are there where COLMAP has them.

    Raises ArgumentError where there is no such file, CovisError where pycolmap is missing or it
    is no database.
    """
    with _opened(database) as opened:
        cameras, found = opened.cameras(), {}
        for name in sorted(opened.images):
            rows, described = opened.keypoint_rows(name), opened.descriptors(name)
            if rows is None or described is None:
                continue
            camera = cameras[opened.camera_id(name)]
            scales, orientations = _shapes(rows)
            found[name] = Features(
                keypoints=np.ascontiguousarray(rows[:, :2]),
                scores=np.ones(len(rows), np.float32),
                descriptors=_floats(described),
                width=int(camera.width),
                height=int(camera.height),
                model=model,
                scales=scales,
                orientations=orientations,
            )
    return found


def read_matches(
    database: str | os.PathLike[str], features: Mapping[str, Features]
) -> dict[Pair, Matches]:
    """The matches of all pairs of images, as they were before verification, by the images' names.

    features: those of the images, as `read_features` gives them; pairs of others are left out.
    Scores, which COLMAP does not keep, are 1.

    Raises ArgumentError where there is no such file, or these are other features; CovisError where
    pycolmap is missing or it is no database.
    """
    with _opened(database) as opened:
        return {
            (name0, name1): matches_of(
                indices, np.ones(len(indices)), features[name0], features[name1]
            )
            for (name0, name1), indices in opened.matches()
            if name0 in features and name1 in features
        }


@contextmanager
def _opened(database: str | os.PathLike[str]) -> Iterator[Database]:
    """A copy of the database: pycolmap changes older ones as it opens them. What damaged rows make
    of its readers becomes CovisError."""
    from covis.messages import not_there
    from covis.sfm.database import Database, copy_files

    given = os.fspath(database)
    if not os.path.isfile(given):
        raise ArgumentError(not_there(given, "database"))
    with TemporaryDirectory() as folder:
        copy = Path(folder) / "database.db"
        try:
            copy_files(Path(given), copy)
            with Database(copy) as opened:
                yield opened
        except CovisError as error:
            words = str(error)
            named = words.replace(str(copy), given) if str(copy) in words else f"{given}: {words}"
            raise type(error)(named) from None
        except (
            RuntimeError,
            ValueError,
            TypeError,
            LookupError,
            MemoryError,
            OSError,
            sqlite3.Error,
        ) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise CovisError(
                f"{given}: its rows are damaged ({reason[:200]}); make it anew."
            ) from None


def _keypoints(features: Features) -> FloatArray:
    """(N, 2), or (N, 4) with scale and orientation."""
    if features.scales is None or features.orientations is None:
        return features.keypoints
    return np.column_stack([features.keypoints, features.scales, features.orientations])


def _shapes(rows: FloatArray) -> tuple[FloatArray | None, FloatArray | None]:
    """Scales and orientations (N,) of keypoints as COLMAP has them, None where it has none."""
    if rows.shape[1] == 4:
        return rows[:, 2].copy(), rows[:, 3].copy()
    if rows.shape[1] == 6:
        axes = rows[:, 2:].reshape(-1, 2, 2)
        lengths = np.linalg.norm(axes, axis=1).mean(axis=1)
        return lengths, np.arctan2(axes[:, 1, 0], axes[:, 0, 0])
    return None, None


def _descriptors(colmap: Any, features: Features) -> Any:
    kinds = colmap.FeatureExtractorType
    if features.model == "sift":
        rounded = np.clip(np.rint(_SIFT * features.descriptors), 0, 255).astype(np.uint8)
        return colmap.FeatureDescriptors(kinds.SIFT, rounded)
    # As COLMAP keeps the floats of its own networks: their bytes.
    raw = np.ascontiguousarray(features.descriptors).view(np.uint8)
    return colmap.FeatureDescriptors(kinds.UNDEFINED, raw)


def _floats(descriptors: Any) -> FloatArray:
    data: NDArray[np.uint8] = np.ascontiguousarray(descriptors.data)
    if descriptors.type.name != "SIFT":
        return data.view(np.float32)
    values = data.astype(np.float32)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    return values
