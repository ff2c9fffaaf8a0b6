"""The files of hloc (Hierarchical-Localization): features, matches and pairs.

    features.h5   a group an image, by its name: keypoints (N, 2), scores (N,), descriptors (D, N),
                  image_size (width, height); scales and oris where there are any
    matches.h5    a group a pair, by both names with "/" replaced by "-": matches0 (N0,), for each
                  feature of image 0 that of image 1 or -1, and matching_scores0 (N0,)
    pairs.txt     two names a line

hloc puts the centre of the top-left pixel at (0, 0), and adds its half pixel when it fills a COLMAP
database; so these functions take half a pixel on writing and add it on reading. Points are those
of the upright image: hloc ignores EXIF's orientation, so store turned photos upright first.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covis.convert.pairs import matches_of
from covis.errors import ArgumentError, CovisError
from covis.files.atomic import replacing
from covis.messages import extra, not_there
from covis.types import Features, Matches

Path = str | os.PathLike[str]
Pair = tuple[str, str]

_OPTIONAL = {"scales": "scales", "oris": "orientations"}
"""hloc's names and covis'."""


def write_features(path: Path, features: Mapping[str, Features]) -> None:
    """Write features by the names of their images, whole or not at all, in the place of any file.

    Descriptors and keypoints are kept as float32. A global descriptor is written as well, as
    hloc's retrieval reads it.

    Raises CovisError where h5py is missing or the file cannot be written.
    """
    with _written(path) as file:
        for name, each in features.items():
            group = file.create_group(name)
            group["keypoints"] = each.keypoints - np.float32(0.5)
            group["scores"] = each.scores
            group["descriptors"] = np.ascontiguousarray(each.descriptors.T)
            group["image_size"] = np.array([each.width, each.height], np.int64)
            for theirs, ours in _OPTIONAL.items():
                if getattr(each, ours) is not None:
                    group[theirs] = getattr(each, ours)
            if each.global_descriptor is not None:
                group["global_descriptor"] = each.global_descriptor


def read_features(path: Path, model: str = "hloc") -> dict[str, Features]:
    """Read the features that hloc or `write_features` wrote, by the names of their images.

    model: what made them; features of one model alone can be matched. Features without scores get
        1, in float16 they are converted.

    Raises CovisError where h5py is missing or these are not local features of hloc.
    """
    with _opened(path) as file:
        return {name: _features(group, model) for name, group in _groups(file, "keypoints")}


def write_matches(
    path: Path, matches: Mapping[Pair, Matches], features: Mapping[str, Features]
) -> None:
    """Write matches by pairs of image names, whole or not at all, in the place of any file.

    features: those of both images of each pair, that the matches' indices are of.

    Raises ArgumentError for matches without indices, which semi-dense ones and some of an effort
    are, for an image without features, and for two pairs that hloc cannot tell apart;
    CovisError where h5py is missing or the file cannot be written.
    """
    with _written(path) as file:
        for (name0, name1), found in matches.items():
            if found.indices is None:
                raise ArgumentError(
                    f"{name0}, {name1}: these matches have no indices; "
                    "those of a matcher that you name have some."
                )
            count = len(_of(features, name0))
            key = _key(name0, name1)
            if key in file:
                raise ArgumentError(f"{name0}, {name1}: hloc calls another pair '{key}', too.")
            matches0 = np.full(count, -1, np.int32)
            scores0 = np.zeros(count, np.float32)
            matches0[found.indices[:, 0]] = found.indices[:, 1]
            scores0[found.indices[:, 0]] = found.scores
            group = file.create_group(key)
            group["matches0"], group["matching_scores0"] = matches0, scores0


def read_matches(
    path: Path, pairs: Iterable[Pair], features: Mapping[str, Features]
) -> dict[Pair, Matches]:
    """Read the matches of pairs of image names, best first; either order of a pair will do.

    features: those of both images of each pair, which the matches are of.

    Raises ArgumentError for a pair or an image that is not there, and for features that are not
    those of the matches; CovisError where h5py is missing or this is no file of hloc's matches.
    """
    with _opened(path) as file:
        return {pair: _matches(file, pair, features) for pair in pairs}


def write_pairs(path: Path, pairs: Iterable[Pair]) -> None:
    """Write pairs of image names, two a line. Raises ArgumentError for a name with spaces."""
    listed = list(pairs)
    for name in (name for pair in listed for name in pair):
        if not name or name.split() != [name]:
            raise ArgumentError(f"'{name}': hloc's lists take no names with spaces; rename it.")
    with replacing(path) as file:
        file.writelines(f"{name0} {name1}\n".encode() for name0, name1 in listed)


def read_pairs(path: Path) -> list[Pair]:
    """Read pairs of image names. Raises CovisError for a file that has none or other lines."""
    try:
        with open(path, encoding="utf-8") as file:
            rows = [line.split() for line in file if line.strip()]
    except FileNotFoundError:
        raise CovisError(not_there(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise CovisError(f"{path}: no list of pairs to read ({error}).") from None
    wrong = next((" ".join(row) for row in rows if len(row) != 2), None)
    if wrong is not None:
        raise CovisError(f"{path}: '{wrong}' is no pair; two names a line are needed.")
    return [(name0, name1) for name0, name1 in rows]


def _features(group: Any, model: str) -> Features:
    name = group.name.strip("/")
    missing = [key for key in ("descriptors", "image_size") if key not in group]
    if missing:
        raise CovisError(f"{group.file.filename}: {name} has no {missing[0]}.")

    def array(key: str) -> NDArray[np.float32]:
        return np.asarray(group[key], np.float32)

    points = array("keypoints")
    optional = {ours: array(theirs) for theirs, ours in _OPTIONAL.items() if theirs in group}
    whole = array("global_descriptor") if "global_descriptor" in group else None
    width, height = (int(side) for side in group["image_size"][:])
    try:
        return Features(
            keypoints=points + np.float32(0.5),
            scores=array("scores") if "scores" in group else np.ones(len(points), np.float32),
            descriptors=np.ascontiguousarray(array("descriptors").T),
            width=width,
            height=height,
            model=model,
            global_descriptor=whole,
            **optional,
        )
    except ArgumentError as error:
        raise CovisError(f"{group.file.filename}: {name}: {error}") from None


def _matches(file: Any, pair: Pair, features: Mapping[str, Features]) -> Matches:
    features0, features1 = (_of(features, name) for name in pair)
    for separator in ("/", "_"):  # Older files have an underscore.
        for names in (pair, pair[::-1]):
            group = file.get(_key(*names, separator))
            if group is None or "matches0" not in group:
                continue
            matches0 = np.asarray(group["matches0"], np.int64)
            first = np.flatnonzero(matches0 >= 0)
            indices = np.column_stack([first, matches0[first]])
            scores = np.ones(len(matches0))
            if "matching_scores0" in group:
                scores = np.asarray(group["matching_scores0"], np.float64)
            if names != pair:
                indices = indices[:, ::-1]
            return matches_of(indices, scores[first], features0, features1)
    raise ArgumentError(f"{file.filename} has no matches of {pair[0]} and {pair[1]}.")


def _key(name0: str, name1: str, separator: str = "/") -> str:
    return separator.join(name.replace("/", "-") for name in (name0, name1))


def _of(features: Mapping[str, Features], name: str) -> Features:
    if name not in features:
        raise ArgumentError(f"no features of {name} are given, and its matches need them.")
    return features[name]


def _groups(file: Any, key: str) -> Iterator[tuple[str, Any]]:
    """All groups, at any depth, that have a data set of this name."""
    found: list[Any] = []

    def visit(_: str, item: Any) -> None:
        if hasattr(item, "keys") and key in item:
            found.append(item)

    file.visititems(visit)
    if not found:
        raise CovisError(f"{file.filename} holds no {key} of hloc's.")
    return ((item.name.strip("/"), item) for item in found)


def _h5py() -> Any:
    try:
        import h5py
    except ModuleNotFoundError:
        raise CovisError(f"hloc's files need h5py: {extra('convert')}") from None
    return h5py


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    h5py = _h5py()
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise CovisError(not_there(path)) from None
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise CovisError(f"{path} is damaged, or no file of hloc's ({error}).") from None


@contextmanager
def _written(path: Path) -> Iterator[Any]:
    h5py = _h5py()
    with replacing(path) as whole, h5py.File(whole.name, "w") as file:
        yield file
