"""Which photos of a map are matched with each other.

`choose_pairs` gives names; each other function gives pairs of places in a list of photos: (P, 2)
int64, the smaller place first, each pair once, in order.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from covis.errors import ArgumentError
from covis.images.exif import PhotoInfo, Place
from covis.images.picture_files import read_pairs
from covis.sfm.map import Photos
from covis.sfm.options import MapOptions
from covis.types import FloatArray, Matrix

Pairs = NDArray[np.int64]

EXHAUSTIVE_UP_TO = 60
"""Photos; with more, only those that retrieval proposes are matched."""

TIES = 6
"""Photos that verified pairs tie to both of a pair: with so many it need not be matched itself.
Positions of a ring of 80 photos are 2.9 mm off with 3, and 0.7 with 6, as with none left out."""

BLOCK_BYTES = 32 * 2**20
"""Similarities or distances that are held at a time."""
_EARTH_AXES = 6378137.0, 6356752.314245
"""Of the ellipsoid WGS 84, in metres."""


def choose_pairs(
    photos: Photos,
    infos: Sequence[PhotoInfo],
    root: Path,
    options: MapOptions,
    failed: Collection[str] = (),
) -> list[tuple[str, str]]:
    """The names of the photos to match with each other, as the options have it.

    infos: of the photos, in their order. root: the folder that names are relative to.
    failed: names of files that cannot be used; a list may have them, their pairs are left out.

    Raises ArgumentError where a list names other photos, or GPS positions bring no pair.
    """
    kind, count = options.pairs, len(photos)
    if kind == "auto":
        kind = "exhaustive" if count <= EXHAUSTIVE_UP_TO else "retrieval"
    if isinstance(kind, Path):
        places: dict[str, int | None] = dict.fromkeys(failed)
        places |= {name: place for place, name in enumerate(photos.names)}
        found = listed(kind, root, places)
    elif kind == "exhaustive":
        found = exhaustive(count)
    elif kind == "retrieval":
        found = similar(photos.vectors, options.neighbours)
    elif kind == "sequential":
        loops = similar(photos.vectors, options.neighbours, every=5, apart=2 * options.overlap)
        found = unique([*sequential(count, options.overlap), *loops])
    else:
        positions = earth_centred([info.place for info in infos])
        found = near(positions, options.distance, options.neighbours)
        if not len(found):
            raise ArgumentError(
                f"no two photos in {root} have GPS positions within {options.distance:g} m; use "
                "--pairs retrieval."
            )
    return [(photos.names[first], photos.names[second]) for first, second in found]


def matched_first(
    photos: Photos, pairs: Sequence[tuple[str, str]], options: MapOptions
) -> list[tuple[str, str]]:
    """Those of the chosen pairs that are matched whatever comes of them.

    Where "auto" lets retrieval propose pairs, the more similar half of each photo's neighbours;
    of the others those follow that are `untied` then. Else, and with a thorough effort, all.
    """
    several = options.pairs == "auto" and len(photos) > EXHAUSTIVE_UP_TO
    if not several or options.effort == "thorough":
        return list(pairs)
    names = photos.names
    near = similar(photos.vectors, max(1, options.neighbours // 2))
    return [(names[first], names[second]) for first, second in near]


def untied(
    pairs: Sequence[tuple[str, str]], verified: Sequence[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Those pairs whose photos have fewer than TIES partners in common among verified pairs."""
    partners: dict[str, set[str]] = defaultdict(set)
    for first, second in verified:
        partners[first].add(second)
        partners[second].add(first)
    return [pair for pair in pairs if len(partners[pair[0]] & partners[pair[1]]) < TIES]


def unique(pairs: ArrayLike) -> Pairs:
    """Without order, duplicates, and photos paired with themselves."""
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    pairs = np.sort(pairs[pairs[:, 0] != pairs[:, 1]], axis=1)
    return np.unique(pairs, axis=0)


def exhaustive(count: int) -> Pairs:
    """Every pair."""
    return np.column_stack(np.triu_indices(count, 1)).astype(np.int64)


def sequential(count: int, overlap: int) -> Pairs:
    """Each photo with the `overlap` next ones."""
    first = np.repeat(np.arange(count), overlap)
    second = first + np.tile(np.arange(1, overlap + 1), count)
    return unique(np.column_stack([first, second])[second < count])


def similar(vectors: FloatArray, neighbours: int, *, every: int = 1, apart: int = 1) -> Pairs:
    """Each photo with those whose global vectors are the most similar.

    vectors: (N, G), of unit length. neighbours: how many for each photo.
    every: only every so many photos look for neighbours, and only among photos that are `apart`
        or more places away: the loop closures of a sequence.
    """
    count = len(vectors)
    asking = np.arange(0, count, every)
    wanted = min(neighbours, count - 1)
    if wanted < 1:
        return unique([])
    step = max(1, BLOCK_BYTES // (4 * count))
    found = []
    for begin in range(0, len(asking), step):
        rows = asking[begin : begin + step]
        similarity = vectors[rows] @ vectors.T
        similarity[np.abs(rows[:, None] - np.arange(count)) < apart] = -np.inf
        best = np.argpartition(-similarity, wanted - 1, axis=1)[:, :wanted]
        kept = np.isfinite(np.take_along_axis(similarity, best, axis=1))
        found.append(np.column_stack([np.repeat(rows, wanted), best.ravel()])[kept.ravel()])
    return unique(np.concatenate(found))


def near(positions: ArrayLike, distance: float, neighbours: int) -> Pairs:
    """Each photo with the nearest ones.

    positions: (N, 3) in metres, see `earth_centred`; rows with NaN, unknown, have no neighbours.
    distance: in metres at most. neighbours: how many for each photo at most.
    """
    known = np.flatnonzero(np.isfinite(np.asarray(positions, np.float64)).all(axis=1))
    places = np.asarray(positions, np.float64)[known]
    wanted = min(neighbours, len(known) - 1)
    if wanted < 1:
        return unique([])
    places = places - places.mean(axis=0)
    step = max(1, BLOCK_BYTES // (24 * len(known)))
    found = []
    for begin in range(0, len(known), step):
        rows = np.arange(begin, min(begin + step, len(known)))
        apart = np.linalg.norm(places[rows, None] - places, axis=2)
        apart[np.arange(len(rows)), rows] = np.inf
        best = np.argpartition(apart, wanted - 1, axis=1)[:, :wanted]
        kept = np.take_along_axis(apart, best, axis=1) <= distance
        found.append(np.column_stack([np.repeat(rows, wanted), best.ravel()])[kept.ravel()])
    return unique(known[np.concatenate(found)])


def earth_centred(places: Sequence[Place | None]) -> Matrix:
    """(N, 3) metres from the middle of the earth, NaN for None.

    places: latitude and longitude in degrees, altitude in metres (WGS 84); where that is not
    known, the photo is taken to be as high as the nearest one of which it is.
    """
    unknown = (np.nan, np.nan, np.nan)
    table = np.array([unknown if place is None else place for place in places], np.float64)
    latitude, longitude = np.radians(table.reshape(-1, 3)[:, :2]).T
    altitude = table.reshape(-1, 3)[:, 2]
    known = np.flatnonzero(np.isfinite(altitude))
    for place in np.flatnonzero(np.isnan(altitude) & np.isfinite(latitude)):
        north = latitude[known] - latitude[place]
        east = (longitude[known] - longitude[place]) * np.cos(latitude[place])
        nearest = known[np.hypot(north, east).argmin()] if len(known) else None
        altitude[place] = 0.0 if nearest is None else altitude[nearest]
    a, b = _EARTH_AXES
    normal = a**2 / np.sqrt((a * np.cos(latitude)) ** 2 + (b * np.sin(latitude)) ** 2)
    return np.column_stack(
        [
            (normal + altitude) * np.cos(latitude) * np.cos(longitude),
            (normal + altitude) * np.cos(latitude) * np.sin(longitude),
            ((b / a) ** 2 * normal + altitude) * np.sin(latitude),
        ]
    )


def listed(path: Path, root: Path, places: Mapping[str, int | None]) -> Pairs:
    """The pairs in a text file, see `covis.images.picture_files.read_pairs`.

    The names are those of the photos (COLMAP's), or paths from the list's folder.
    root: the folder of the photos. places: of the photos by name; pairs of those with None are
    left out.

    Raises ArgumentError for a name that is no photo of the map.
    """

    def place(name: Path) -> int | None:
        candidates = [name.relative_to(path.parent), *_below(name, root)]
        for candidate in candidates:
            if candidate.as_posix() in places:
                return places[candidate.as_posix()]
        raise ArgumentError(f"{path}: '{candidates[0]}' is no photo in {root}.")

    found = [(place(first), place(second)) for first, second in read_pairs(path)]
    return unique([(a, b) for a, b in found if a is not None and b is not None])


def _below(name: Path, root: Path) -> list[Path]:
    absolute = name.resolve()
    return [absolute.relative_to(root)] if absolute.is_relative_to(root) else []
