"""Models turned, scaled and moved to where GPS says that their photos were taken.

Their axes are then metres to the east, to the north and up from one place, as COLMAP's
`model_aligner` has them with `--ref_is_gps`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations, islice
from pathlib import Path
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, CovisError
from covis.files.atomic import replacing
from covis.geometry.similarity import Similarity, umeyama
from covis.images.exif import Place
from covis.sfm.map import need_pycolmap
from covis.sfm.pairs import earth_centred
from covis.types import Matrix

if TYPE_CHECKING:
    import pycolmap

FORMAT = 1
LEAST_PHOTOS = 4
"""With GPS positions; three always fit."""
MOST_TURN = 0.1
"""Radians by which a model may still be turned, one standard deviation."""
_TRIES = 500
_LEAST_DEVIATION = 0.1
"""Metres; GPS is never believed to be better."""


@dataclass(frozen=True)
class Origin:
    """Where the middle of a map's axes lies, and how well GPS agrees with its largest model.

    latitude, longitude in degrees, altitude in metres (WGS 84). photos: whose positions agree.
    error: the median distance of these photos' cameras from GPS, in metres.
    """

    latitude: float
    longitude: float
    altitude: float
    photos: int = 0
    error: float = 0.0

    def save(self, folder: Path) -> None:
        """Write it to a map's folder. Raises CovisError when that cannot be."""
        with replacing(folder / "gps.json") as file:
            file.write((json.dumps({"format": FORMAT, **asdict(self)}, indent=2) + "\n").encode())

    @classmethod
    def find(cls, folder: Path) -> Self | None:
        """What `save` wrote, None where nothing is. Raises CovisError for anything else."""
        path = folder / "gps.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values.pop("format") == FORMAT:
                return cls(**values)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise CovisError(f"{path} is damaged, or not covis' ({error}).") from None
        raise CovisError(f"{path} is of another release of covis; update it.")

    def east_north_up(self, places: list[Place]) -> Matrix:
        """(N, 3) metres from here, of places as `earth_centred` takes them."""
        here: Place = (self.latitude, self.longitude, self.altitude)
        centred = earth_centred([here, *places])
        latitude, longitude = math.radians(self.latitude), math.radians(self.longitude)
        east = np.array([-math.sin(longitude), math.cos(longitude), 0.0])
        out = np.array([math.cos(longitude), math.sin(longitude), 0.0])
        pole = np.array([0.0, 0.0, 1.0])
        north = math.cos(latitude) * pole - math.sin(latitude) * out
        up = math.sin(latitude) * pole + math.cos(latitude) * out
        axes = np.array([east, north, up])
        moved: Matrix = (centred[1:] - centred[0]) @ axes.T
        return moved


def first_origin(places: Mapping[str, Place]) -> Origin:
    """Where the first photo by name stands, rather one of known altitude."""
    known = sorted(places, key=lambda name: (places[name][2] is None, name))
    latitude, longitude, altitude = places[known[0]]
    return Origin(latitude, longitude, altitude or 0.0)


def register(
    model: pycolmap.Reconstruction, places: Mapping[str, Place], origin: Origin
) -> Origin | str:
    """Move a model to where its photos' GPS positions are, in metres from `origin`.

    places: by photo. Positions that the others contradict do not count. Returns the origin with
    what agrees, or why the model was left as it is, in words.
    """
    cameras = {
        image.name: image.projection_center()
        for image in model.images.values()
        if image.has_pose and image.name in places
    }
    if len(cameras) < LEAST_PHOTOS:
        return f"{len(cameras)} photos with GPS are too few, {LEAST_PHOTOS} are needed"
    names = sorted(cameras)
    theirs = origin.east_north_up([places[name] for name in names])
    ours = np.array([cameras[name] for name in names])
    moved = _agreeing(ours, theirs)
    if moved is None:
        return "their GPS positions lie on one line, or contradict each other"
    similarity, agreeing = moved
    if agreeing.sum() < LEAST_PHOTOS:
        return "their GPS positions contradict each other"
    errors = np.linalg.norm(similarity.points(ours) - theirs, axis=1)[agreeing]
    deviation = math.sqrt((errors**2).sum() / (3 * len(errors) - 7))
    aside = np.linalg.svd(theirs[agreeing] - theirs[agreeing].mean(axis=0), compute_uv=False)[1]
    if max(deviation, _LEAST_DEVIATION) > MOST_TURN * aside:
        return f"GPS, {deviation:.1f} m off, is too inexact for photos so near each other"
    colmap = need_pycolmap()
    model.transform(
        colmap.Sim3d(similarity.scale, colmap.Rotation3d(similarity.rotation), similarity.shift)
    )
    found = float(np.median(errors))
    return Origin(
        origin.latitude, origin.longitude, origin.altitude, int(agreeing.sum()), round(found, 3)
    )


def _agreeing(ours: Matrix, theirs: Matrix) -> tuple[Similarity, NDArray[np.bool_]] | None:
    """The similarity that takes most of one list of points (N, 3) to another, and which (N,)."""
    rng, count = np.random.default_rng(0), len(ours)
    triples = list(islice(combinations(range(count), 3), _TRIES))
    if math.comb(count, 3) > _TRIES:
        triples = [tuple(rng.choice(count, 3, replace=False)) for _ in range(_TRIES)]
    best: tuple[float, Matrix] | None = None
    for triple in triples:
        try:
            tried = umeyama(ours[list(triple)], theirs[list(triple)])
        except ArgumentError:
            continue
        errors = np.linalg.norm(tried.points(ours) - theirs, axis=1)
        # Three of them fit by themselves.
        typical = float(np.sort(errors)[(count + 2) // 2])
        if best is None or typical < best[0]:
            best = typical, errors
    if best is None:
        return None
    agreeing: NDArray[np.bool_] = best[1] <= 3 * max(best[0], _LEAST_DEVIATION)
    try:
        return umeyama(ours[agreeing], theirs[agreeing]), agreeing
    except ArgumentError:
        return None
