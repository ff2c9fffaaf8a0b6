"""Where a photo was taken: its place in a map.

The map's photos most like it, by global vector, are matched with it; what they see as 3D points,
it sees, too. Where several photos say different points of one keypoint, the one with most of the
matches' confidence is taken. The pose that most of these points agree with is the answer, or that
there is none; see `covis.geometry.absolute_pose`.

Where there is none, other attempts follow, as many as the effort allows: the query on its side and
upside down, and LightGlue. Turns in which the map has something more like the query come first. The
n-th attempt must show n times more than the first.
"""

from __future__ import annotations

import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.features import Extractor
from covis.geometry.absolute_pose import AbsolutePose, choose_absolute_pose
from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose_confidence import POSE_CONFIDENCE, PoseConfidence
from covis.images.decode import load_image
from covis.images.orientation import TURNS, Orientation
from covis.matching import Matcher, needs_semi_dense
from covis.options import (
    DEFAULT_DEVICE,
    DEFAULT_EFFORT,
    DEFAULT_MATCHER,
    LOCATE_NEIGHBOURS,
    Device,
    Effort,
    choice,
)
from covis.search.pooling import global_vector
from covis.sfm.georegistration import Origin
from covis.sfm.localisation import ARBITRARY, METRES, Localisation, Neighbour, PlaceTried
from covis.sfm.map import Map
from covis.sfm.photo_cameras import map_from_upright
from covis.sfm.query_cameras import camera_in_map, given_or_guessed
from covis.types import BoolArray, Features, FloatArray, Image, Matrix, Source

SECOND_TRY = 5
"""Of those, the most similar ones that "auto" matches by LightGlue, a second each."""
SECOND_KEYPOINTS = 2048
"""Of each photo then, the best ones: LightGlue's time grows with their square."""
MORE = 3
"""So many times as many photos of the map are tried by a thorough effort."""
KEPT_IN_MEMORY = 128
"""Photos of the map whose features stay in memory."""


class Locator:
    """Places photos in one map.

    >>> locate = Locator("MODEL")  # doctest: +SKIP
    >>> locate("query.jpg").estimate.pose.position  # doctest: +SKIP
    """

    def __init__(
        self,
        model: Map | str | os.PathLike[str],
        *,
        matcher: str = DEFAULT_MATCHER,
        full_depth: bool = False,
        neighbours: int = LOCATE_NEIGHBOURS,
        effort: Effort = DEFAULT_EFFORT,
        threads: int | None = None,
        device: Device = DEFAULT_DEVICE,
    ) -> None:
        """Open the map and load the models.

        model: a map, or its folder. matcher: see `Matcher`; "auto" leaves it to the effort, others
            are used alone.
        neighbours: photos of the map to match a query with at most.
        effort: "fast", nearest neighbours alone; "auto", where those do not find the place, the
            query turned by 90, 180 and 270 degrees, and, where there are weights for the map's
            features, LightGlue on the SECOND_TRY most similar photos; "thorough", MORE photos, and
            LightGlue on the turned query as well.
        threads: processor threads, all by default. device: where networks run, "auto" by
            default; see `RuntimeOptions`.

        Raises ArgumentError where there is no map or a value is out of range, and as `Extractor`
        and `Matcher` do.
        """
        if neighbours < 1:
            raise ArgumentError(f"neighbours must be 1 or more, not {neighbours}.")
        choice("effort", effort, get_args(Effort))
        if needs_semi_dense(matcher):
            raise ArgumentError(
                "a query is matched with the sparse features of a map; use another matcher."
            )
        self.map = model if isinstance(model, Map) else Map.open(model)
        self._neighbours = neighbours
        settings = self.map.settings
        self._extract = Extractor(
            settings.features,
            max_keypoints=settings.max_keypoints,
            max_size=settings.max_size or 0,
            threads=threads,
            device=device,
        )
        _check_weights(self.map, self._extract)
        self._unit = METRES if Origin.find(self.map.folder) else ARBITRARY
        wanted = Matcher(
            matcher,
            features=self._extract.source,
            full_depth=full_depth,
            threads=threads,
            device=device,
        )
        self._effort: Effort | None = effort if matcher == DEFAULT_MATCHER else None
        self._finer = None
        if self._effort and wanted.bundle(self._extract.model) is not None:
            self._finer, wanted = wanted, Matcher("nearest", threads=threads)
        self._match = wanted
        self._known = lru_cache(KEPT_IN_MEMORY)(self._read)

    def camera_of(self, name: str) -> CalibratedCamera:
        """The camera of a photo of the map, for queries that it took as well.

        Raises ArgumentError for a photo without a pose.
        """
        if name not in self.map.names:
            raise ArgumentError(f"{self.map.folder}: no photo '{name}' with a pose in the map.")
        camera_id = self.map.reconstruction.image(self.map.names[name]).camera_id
        return self.map.camera(camera_id)

    def __call__(
        self,
        query: Source,
        *,
        camera: CalibratedCamera | None = None,
        focal: float | None = None,
        seed: int = 0,
    ) -> Localisation:
        """Where a photo was taken.

        query: what `load_image` takes. camera: its camera, of the file's pixels. focal: or only its
        focal length in pixels. Without both, the camera of the map's photos of the same body, size
        and focal length is taken, else EXIF's focal length, each unless the points clearly
        contradict it; then focal length and distortion are estimated. seed: of the robust
        estimation.

        Not to be found is an answer, no error: `Localisation.estimate.note` says why. Raises
        ImageError for a query that cannot be used, ArgumentError for a camera that is not its.
        """
        seconds: dict[str, float] = {}
        began = time.perf_counter()

        def passed(stage: str) -> None:
            nonlocal began
            now = time.perf_counter()
            seconds[stage] = seconds.get(stage, 0) + now - began
            began = now

        image = load_image(query, max_size=self._extract.max_size)
        guesses = given_or_guessed(image, camera, focal)
        passed("decode")
        tried: list[tuple[_Shared, AbsolutePose, int]] = []
        told: list[PlaceTried] = []
        for way in self._ways(image, passed):
            if not tried and guesses[0].source != "given":
                guesses = [*camera_in_map(query, image, self.map, way.names), *guesses]
                passed("retrieve")
            shared = self._shared(way)
            passed("match")
            found, taken = choose_absolute_pose(
                map_from_upright(image.orientation).of_points(
                    shared.keypoints.astype(np.float64), (image.width, image.height)
                ),
                shared.places,
                [guess.prior for guess in guesses],
                scores=shared.scores,
                seed=seed,
                trust=_trust(len(tried) + 1),
            )
            passed("pose")
            told.append(way.told(shared, found))
            tried.append((shared, _discounted(found, len(told)), taken))
            if found.pose is not None:
                break
        sources = [guess.source for guess in guesses]
        return self._answer(image, sources, tried, tuple(told), seconds)

    def _answer(
        self,
        image: Image,
        sources: Sequence[str],
        tried: Sequence[tuple[_Shared, AbsolutePose, int]],
        told: tuple[PlaceTried, ...],
        seconds: Mapping[str, float],
    ) -> Localisation:
        """The best of the attempts. sources: of the cameras, whose numbers the attempts have."""
        shared, estimate, taken = max(
            tried, key=lambda each: (each[1].pose is not None, each[1].confidence)
        )
        licence = self._extract.licence
        if shared.licence not in ("", licence):
            licence = f"{licence} (features), {shared.licence} (matcher)"
        return Localisation(
            name=image.name,
            estimate=estimate,
            neighbours=shared.named_by(estimate.inliers),
            keypoints=shared.keypoints,
            point_ids=shared.ids,
            places=shared.places,
            focal_source=sources[taken],
            notes=_notes(image, sources, taken, estimate),
            seconds=seconds,
            model=shared.model,
            licence=licence,
            unit=self._unit,
            tried=told,
        )

    def _ways(self, image: Image, passed: Callable[[str], None]) -> Iterator[_Way]:
        """The attempts at a query, the likeliest first."""

        def seen(turn: int) -> _Seen:
            features = self._extract(Orientation(turn).of_picture(image))
            passed("extract")
            alike = self.map.most_alike(global_vector(features), MORE * self._neighbours)
            passed("retrieve")
            return _Seen(turn, features, alike)

        def way(seen: _Seen, match: Matcher, count: int, keypoints: int | None = None) -> _Way:
            return _Way(seen, match, count, keypoints)

        upright, count = seen(0), self._neighbours
        yield way(upright, self._match, count)
        if self._effort in (None, "fast"):
            return
        turned = sorted(map(seen, TURNS), key=lambda each: -each.likeness)
        likely = [each for each in turned if each.likeness > upright.likeness]
        for each in likely:
            yield way(each, self._match, count)
        if self._finer is not None:
            yield way(upright, self._finer, min(count, SECOND_TRY), SECOND_KEYPOINTS)
        for each in turned[len(likely) :]:
            yield way(each, self._match, count)
        if self._effort == "thorough":
            for each in sorted([upright, *turned], key=lambda each: -each.likeness)[:2]:
                yield way(each, self._match, MORE * count)
                if self._finer is not None:
                    yield way(each, self._finer, count)

    def _shared(self, way: _Way) -> _Shared:
        """What the query shares with the map's photos, matched in one way."""
        votes: dict[tuple[int, int], float] = defaultdict(float)
        told: list[tuple[str, int, NDArray[np.int64]]] = []
        features, best = way.seen.features, slice(way.keypoints)
        model, licence = features.model, ""
        for name in way.names:
            theirs, points = self._known(name)
            found = way.match(features.take(best), theirs.take(best))
            model, licence = found.model, found.licence
            assert found.indices is not None
            shown = points[found.indices[:, 1]]
            seen = shown >= 0
            rows = np.column_stack([found.indices[seen, 0], shown[seen]])
            for (keypoint, point), score in zip(rows.tolist(), found.scores[seen], strict=True):
                votes[keypoint, point] += float(score)
            told.append((name, len(found), rows))
        rows, ids, scores = _elected(votes)
        points3d = self.map.reconstruction.points3D
        places = np.array([points3d[int(number)].xyz for number in ids], np.float64)
        keypoints = way.seen.keypoints[rows]
        return _Shared(rows, ids, scores, keypoints, places.reshape(-1, 3), told, model, licence)

    def _read(self, name: str) -> tuple[Features, NDArray[np.int64]]:
        """A photo of the map: those of its features that show a 3D point come with its id."""
        return self.map.features(name), self.map.points(name)


@dataclass(frozen=True, eq=False)
class _Seen:
    """A query as it was seen: turned clockwise by so many degrees.

    features: in pixels of the turned picture. alike: photos of the map and how much, best first.
    """

    turn: int
    features: Features
    alike: list[tuple[str, float]]

    @property
    def likeness(self) -> float:
        """How much the photo of the map is that is most alike."""
        return self.alike[0][1]

    @property
    def keypoints(self) -> FloatArray:
        """(N, 2), in pixels of the upright picture."""
        size = self.features.width, self.features.height
        return Orientation(self.turn).inverse.of_points(self.features.keypoints, size)


@dataclass(frozen=True, eq=False)
class _Way:
    """How a query is matched: with so many photos of the map, and of each the best so many
    keypoints, None for all."""

    seen: _Seen
    match: Matcher
    count: int
    keypoints: int | None

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.seen.alike[: self.count]]

    def told(self, shared: _Shared, found: AbsolutePose) -> PlaceTried:
        """What came of it."""
        turn = self.seen.turn
        return PlaceTried(
            method=shared.model,
            view=f"turned by {turn} degrees" if turn else "as it is",
            neighbours=len(shared.told),
            points=len(found.inliers),
            inliers=int(found.inliers.sum()),
            confidence=found.confidence,
        )


def _trust(number: int) -> PoseConfidence:
    """When the n-th attempt is believed: of n at a picture of another place n times as many look
    right."""
    return replace(POSE_CONFIDENCE, believed=number / (number + 1))


def _discounted(found: AbsolutePose, number: int) -> AbsolutePose:
    """The n-th attempt with that in mind."""
    odds = found.confidence / max(1 - found.confidence, 1e-12) / number
    return replace(found, confidence=odds / (1 + odds))


@dataclass(frozen=True, eq=False)
class _Shared:
    """What a query shares with its neighbours: N of its features `rows` show the points `ids`.

    told: for each neighbour its name, how many matches it has, and (M, 2): those of them with a
    3D point, the query's feature and the point's id.
    """

    rows: NDArray[np.int64]
    ids: NDArray[np.int64]
    scores: FloatArray
    keypoints: FloatArray
    places: Matrix
    told: list[tuple[str, int, NDArray[np.int64]]]
    model: str
    licence: str

    def named_by(self, inliers: BoolArray) -> tuple[Neighbour, ...]:
        """The neighbours, and how many inliers each told of."""
        agreed = set(zip(self.rows[inliers].tolist(), self.ids[inliers].tolist(), strict=True))
        return tuple(
            Neighbour(name, count, len(rows), sum(tuple(row) in agreed for row in rows.tolist()))
            for name, count, rows in self.told
        )


def locate(
    query: Source,
    model: Map | str | os.PathLike[str],
    *,
    camera: CalibratedCamera | None = None,
    focal: float | None = None,
    matcher: str = DEFAULT_MATCHER,
    full_depth: bool = False,
    neighbours: int = LOCATE_NEIGHBOURS,
    effort: Effort = DEFAULT_EFFORT,
    seed: int = 0,
    threads: int | None = None,
    device: Device = DEFAULT_DEVICE,
) -> Localisation:
    """Where one photo was taken; for several, see `Locator`, which has the arguments, too."""
    find = Locator(
        model,
        matcher=matcher,
        full_depth=full_depth,
        neighbours=neighbours,
        effort=effort,
        threads=threads,
        device=device,
    )
    return find(query, camera=camera, focal=focal, seed=seed)


def _notes(
    image: Image, sources: Sequence[str], taken: int, estimate: AbsolutePose
) -> tuple[str, ...]:
    """What is to be said of the camera that was taken, among those of these sources."""
    notes = [image.focal_ignored] if image.focal_ignored else []
    if "EXIF" in sources[:taken] and estimate.pose is not None:
        notes.append(
            f"EXIF's focal length ({image.focal_length:.0f} px) does not agree with the points: "
            "perhaps the picture was cropped"
        )
    return tuple(notes)


def _elected(
    votes: Mapping[tuple[int, int], float],
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Keypoints (N,), for each the 3D point with most votes (N,), and how many those are (N,)."""
    best: dict[int, tuple[float, int]] = {}
    for (keypoint, point), score in votes.items():
        # The smaller id between equals: the order of the photos must not matter.
        best[keypoint] = max(best.get(keypoint, (-1.0, 0)), (score, -point))
    keypoints = sorted(best)
    return (
        np.array(keypoints, np.int64),
        np.array([-best[keypoint][1] for keypoint in keypoints], np.int64),
        np.array([best[keypoint][0] for keypoint in keypoints], np.float32),
    )


def _check_weights(model: Map, extract: Extractor) -> None:
    """Raise ArgumentError where the map's features were made by other weights of that name."""
    then = model.index.store.identity.weights
    if then != extract.weights:
        raise ArgumentError(
            f"{model.folder} was made with other weights of '{extract.model}' ({then} then, "
            f"{extract.weights} now); use those, or make the map anew."
        )
