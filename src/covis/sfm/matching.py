"""Features and matches of many pairs of photos, on this machine or as a stage of Ray Data."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from covis.errors import CovisError
from covis.features.extractor import Extractor
from covis.images.decode import load_image
from covis.images.orientation import Orientation
from covis.matching import Matcher
from covis.matching.semi_dense import SemiDense as SemiDenseMatcher
from covis.options import DEFAULT_DEVICE, Device, thread_count
from covis.search.index import Index
from covis.sfm.map import Photos, Settings
from covis.sfm.masks import read_mask
from covis.sfm.photo_cameras import map_from_upright
from covis.sfm.two_view_verification import LEAST_EVIDENCE, Verified, verify_pair
from covis.types import BoolArray, Features, Matches, Matrix

if TYPE_CHECKING:
    import pycolmap

KEPT_IN_MEMORY = 256
"""Photos whose features stay in memory, 1 MB each with 4096 keypoints."""
SHARE = 1024
"""Pairs that are handed to a Ray cluster at a time."""

Pair = tuple[str, str]


@dataclass(frozen=True)
class Task:
    """What a worker has to know to match pairs of a map's photos.

    folder: the map's. cameras: by id. camera_of: the id by photo.
    least: pairs with fewer verified matches have no geometry. masks: by photo.
    threads, device: of a matcher. keypoints: of each photo the best so many take part; None for
        all.
    """

    folder: Path
    settings: Settings
    cameras: Mapping[int, pycolmap.Camera]
    camera_of: Mapping[str, int]
    least: int
    seed: int
    masks: Mapping[str, Path]
    threads: int = 1
    device: Device = DEFAULT_DEVICE
    keypoints: int | None = None


class Prepared(NamedTuple):
    """A photo ready to be matched.

    features: those that take part. points: (N, 2) of all keypoints, in the map's frame. kept: which
    of them those features are.
    """

    features: Features
    points: Matrix
    kept: NDArray[np.int64]


class Worker:
    """Matches pairs of photos and verifies them. May be used by several threads."""

    def __init__(self, task: Task) -> None:
        """Open the store and the matcher, see there for what it raises."""
        self._task, settings = task, task.settings
        self.photos = Photos(Index(task.folder / "features.covis"), settings.photos)
        self._match = Matcher(
            settings.matcher,
            features=settings.features,
            threads=task.threads,
            device=task.device,
        )
        self._prepared = lru_cache(KEPT_IN_MEMORY)(self._stored)

    def __call__(self, pair: Pair, *, evidence: float = LEAST_EVIDENCE) -> Verified:
        """Match a pair, by the names of its photos."""
        one, other = map(self._prepared, pair)
        return self.match(pair, one, other, evidence=evidence)

    def match(
        self, pair: Pair, one: Prepared, other: Prepared, *, evidence: float = LEAST_EVIDENCE
    ) -> Verified:
        """Match a pair that is ready."""
        found = self._match(one.features, other.features)
        assert found.indices is not None
        indices = np.column_stack([one.kept[found.indices[:, 0]], other.kept[found.indices[:, 1]]])
        return self.verify_pair(pair, one.points, other.points, indices, evidence=evidence)

    def verify_pair(
        self,
        pair: Pair,
        points0: Matrix,
        points1: Matrix,
        indices: NDArray[np.int64],
        *,
        evidence: float = LEAST_EVIDENCE,
    ) -> Verified:
        """What a pair's matches agree with; points in the files' frames."""
        task = self._task
        camera0, camera1 = (task.cameras[task.camera_of[name]] for name in pair)
        return verify_pair(
            points0,
            points1,
            indices,
            camera0,
            camera1,
            least=task.least,
            evidence=evidence,
            seed=task.seed,
        )

    def prepared(self, name: str) -> Prepared:
        """A photo as the store has it."""
        return self._prepared(name)

    def prepare(self, name: str, features: Features, orientation: int) -> Prepared:
        """A photo, its features found in what EXIF's `orientation` makes of its file."""
        points = in_map(features, orientation)
        kept = np.flatnonzero(unmasked(self._task.masks, name, features, orientation))
        kept = kept[: self._task.keypoints]
        if len(kept) < len(features):
            features = features.take(kept)
        return Prepared(features, points, kept)

    def _stored(self, name: str) -> Prepared:
        (features,) = self.photos.features([name])
        return self.prepare(name, features, self.photos.orientations[name])


def map_keypoints(photos: Photos, name: str, features: Features) -> Matrix:
    """(N, 2) float64: the keypoints of a photo in the map's frame, see `map_from_upright`."""
    return in_map(features, photos.orientations[name])


def in_map(features: Features, orientation: int) -> Matrix:
    """(N, 2) float64: keypoints in the map's frame. orientation: what made the file upright."""
    keypoints = features.keypoints.astype(np.float64)
    size = features.width, features.height
    return map_from_upright(orientation).of_points(keypoints, size)


def unmasked(
    masks: Mapping[str, Path], name: str, features: Features, orientation: int
) -> BoolArray:
    """(N,): which features a photo's mask lets through; all where it has none."""
    if name not in masks:
        return np.ones(len(features), bool)
    file_from_upright = Orientation.from_exif(orientation).inverse
    size = features.width, features.height
    points = file_from_upright.of_points(features.keypoints.astype(np.float64), size)
    return read_mask(masks[name], points, file_from_upright.of_size(size))


def match_here(
    task: Task, pairs: Sequence[Pair], threads: int | None
) -> Iterator[tuple[Pair, Verified]]:
    """Match pairs in threads of this process, in their order."""
    worker, count = Worker(task), thread_count(threads)
    with ThreadPoolExecutor(count) as pool:
        running: deque[tuple[Pair, Future[Verified]]] = deque()
        for pair in pairs:
            running.append((pair, pool.submit(worker, pair)))
            if len(running) >= 4 * count:
                done, future = running.popleft()
                yield done, future.result()
        for done, future in running:
            yield done, future.result()


def match_on_ray(
    task: Task, pairs: Sequence[Pair], address: str | None
) -> Iterator[tuple[Pair, Verified]]:
    """Match pairs as a stage of Ray Data, on the cluster at `address` or on this machine.

    The workers read the store, so they must see the map's folder under the same path; this
    process hands out pairs and writes what comes back. Raises CovisError where Ray is missing or
    there is no cluster.
    """
    from covis.search.ray_engine import connect

    ray = connect(address)
    workers = max(1, int(ray.cluster_resources().get("CPU", 1)))
    work = iter(pairs)
    while share := list(islice(work, SHARE)):
        found = (
            ray.data.from_items([{"name0": name0, "name1": name1} for name0, name1 in share])
            .repartition(max(1, min(len(share) // 16, 4 * workers)))
            .map_batches(
                _Stage,
                fn_constructor_args=(task,),
                batch_size=16,
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers),
            )
        )
        for row in found.iter_rows():
            yield (row["name0"], row["name1"]), row["found"]


class _Stage:
    """Matches batches of pairs, in a worker that keeps its models."""

    def __init__(self, task: Task) -> None:
        self._worker = Worker(task)

    def __call__(self, batch: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [batch[key].tolist() for key in ("name0", "name1")]
        found = np.empty(len(names[0]), object)
        found[:] = [self._worker(pair) for pair in zip(*names, strict=True)]
        return {**batch, "found": found}


class SemiDense:
    """The semi-dense features of a map's photos, in files beside its store, and their matches.

    A pair is refined both ways: each photo's semi-dense keypoints are where its partner's
    features lie after refinement, and the other way about, so that all photos that match one
    keypoint tell where they see that very point.
    """

    def __init__(self, task: Task, photos: Photos, threads: int | None) -> None:
        settings = task.settings
        self._task, self._photos = task, photos
        self._folder = task.folder / "semi_dense"
        self._extract = Extractor(
            settings.features,
            max_keypoints=settings.max_keypoints,
            max_size=settings.max_size or 0,
            semi_dense=True,
            threads=threads,
            device=task.device,
        )
        self._match = Matcher(
            "semi-dense", features=self._extract.source, threads=threads, device=task.device
        )
        self._prepared = lru_cache(KEPT_IN_MEMORY // 4)(self._prepare)

    def __call__(self, pairs: Iterable[Pair]) -> Iterator[tuple[Pair, Matches]]:
        """The matches of pairs, best first, points in the files' frames, in the pairs' order.

        What was found before is read; a killed run goes on where it was.
        """
        for pair in pairs:
            contents = "-".join(self._photos.contents[name] for name in pair)
            path = self._folder / "matches" / f"{contents}.npz"
            try:
                found = Matches.load(path)
            except CovisError:
                path.parent.mkdir(parents=True, exist_ok=True)
                found = self._find(pair)
                found.save(path)
            yield pair, found

    def _find(self, pair: Pair) -> Matches:
        features0, features1 = map(self._prepared, pair)
        match = self._match.opened(features0.model)
        assert isinstance(match, SemiDenseMatcher)
        there = match.refined0(features0, features1)
        back = match.refined0(features1, features0)
        assert there.points0 is not None
        assert back.points0 is not None
        upright = (
            np.concatenate([there.points0, features0.keypoints[back.indices[:, 1]]]),
            np.concatenate([features1.keypoints[there.indices[:, 1]], back.points0]),
        )
        points = []
        for name, features, seen in zip(pair, (features0, features1), upright, strict=True):
            size = features.width, features.height
            turned = map_from_upright(self._photos.orientations[name])
            points.append(turned.of_points(seen, size))
        scores = np.clip(np.concatenate([there.scores, back.scores]), 0, 1)
        order = np.argsort(-scores, kind="stable")
        return Matches(points[0][order], points[1][order], scores[order], model=features0.model)

    def _prepare(self, name: str) -> Features:
        path = self._folder / "features" / f"{self._photos.contents[name]}.npz"
        try:
            features = Features.load(path)
        except CovisError:
            path.parent.mkdir(parents=True, exist_ok=True)
            photo = Path(self._task.settings.photos) / name
            features = self._extract(load_image(photo, max_size=self._task.settings.max_size))
            features.save(path)
        orientation = self._photos.orientations[name]
        kept = unmasked(self._task.masks, name, features, orientation)
        return features if kept.all() else features.take(kept)
