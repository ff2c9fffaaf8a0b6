"""Image search on its benchmarks: rankings by global vectors, the first re-ranked by matches.

Rows: "global", the features' global vectors, or their pooled local descriptors where the model has
none. With a matcher's name behind it, the first `top` are ordered anew by how many matches agree
with a geometry, more similar ones first among equals, as DELG does. With "certain first", those
that the verdict calls the same come first, by the same count, and all others stay behind in global
order, as `covis search` does.

Layouts, in `covis.evaluation.datasets`: `queries` (sets of one's own), `revisited`,
`google_landmarks` (index/ or train/, and test/, beside the solution, as published), and place
recognition as the VPR community lays it out: database/ and queries/, whose files are named
`@EAST@NORTH@...`, in metres; what was taken within 25 metres is right.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, ImageError
from covis.evaluation.benchmark import Benchmark, Report, Settings
from covis.evaluation.datasets.google_landmarks import (
    DEPTH,
    read_recognition_solution,
    read_retrieval_solution,
    read_training_landmarks,
    score_recognition,
    score_retrieval,
)
from covis.evaluation.datasets.queries import read_queries
from covis.evaluation.datasets.revisited import Revisited, evaluate_revisited, read_revisited
from covis.evaluation.metrics.retrieval import (
    mean_average_precision,
    recall_at,
    relevant_within,
)
from covis.evaluation.protocol import counting
from covis.evaluation.published_results import published_for
from covis.evaluation.tables import Row
from covis.features import Extractor
from covis.features.registry import ratio_of
from covis.images.decode import load_image
from covis.matching import Matcher, needs_semi_dense
from covis.messages import counted
from covis.search.pooling import global_vector
from covis.search.retrieve import check_pair
from covis.types import Features, FloatArray, Matches, Source

Rankings = list[NDArray[np.int64]]
"""For each query indices into the database, best first."""
Figures = dict[str, float]

MAX_SIZE = 640
MAX_KEYPOINTS = 1000
"""What a store of `covis add` keeps of a picture, and a size at which that is quick."""
KEPT = 512
"""Pictures whose features stay in memory, 0.4 MB each."""
REVISITED = ("mAP medium", "mAP hard", "mAP easy", "mP@10 medium", "mP@10 hard")
RADIUS = 25.0
"""Metres, as place recognition has it."""
BLANK = np.full((64, 64), 127, np.uint8)
CHUNK = 1024


@dataclass
class Pictures:
    """The features of a query's or a database's pictures, by index; few of them are kept.

    unusable: why pictures could not be read; they are taken as blank.
    """

    extract: Extractor
    source: Callable[[int], Source]
    count: int
    unusable: dict[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.features = lru_cache(KEPT)(self._extract)

    def vectors(self, tick: Callable[[], None]) -> FloatArray:
        """(count, G) float32, unit length or zeros."""
        found = []
        for i in range(self.count):
            found.append(global_vector(self.features(i)))
            tick()
        return np.array(found)

    def _extract(self, i: int) -> Features:
        try:
            return self.extract(self.source(i))
        except ImageError as error:
            self.unusable[i] = str(error)
            return self.extract(load_image(BLANK))


def run_queries(data: Path, settings: Settings, report: Report) -> list[Row]:
    """Every set in the folder, or in those in it."""
    marks = ("queries.json", "*/queries.json")
    folders = [path.parent for mark in marks for path in sorted(data.glob(mark))]
    rows: list[Row] = []
    for folder in folders:
        truth = read_queries(folder)
        chosen = settings.sampled(range(len(truth.queries)))
        queries = [truth.queries[i] for i in chosen]
        relevant = [truth.relevant[i] for i in chosen]

        def score(rankings: Rankings, relevant: Sequence[frozenset[int]] = relevant) -> Figures:
            return score_queries(rankings, relevant)

        rows += rank_and_check(
            truth.name,
            queries.__getitem__,
            len(queries),
            truth.database,
            score,
            settings,
            report,
            20,
        )
    return rows


def run_revisited(data: Path, settings: Settings, report: Report) -> list[Row]:
    """Revisited Oxford or Paris; queries are cropped to their boxes."""
    truth = read_revisited(data)
    truth = replace(
        truth,
        queries=truth.queries[:: settings.every],
        boxes=truth.boxes[:: settings.every],
        easy=truth.easy[:: settings.every],
        hard=truth.hard[:: settings.every],
        junk=truth.junk[:: settings.every],
    )
    return rank_and_check(
        truth.name,
        truth.query_image,
        len(truth.queries),
        truth.database,
        lambda rankings: score_revisited(rankings, truth),
        settings,
        report,
        100,
    )


def run_places(data: Path, settings: Settings, report: Report) -> list[Row]:
    """Recall@1, 5, 10 of what was taken within 25 metres."""
    parts = []
    for name in ("queries", "database"):
        paths = sorted((data / name).rglob("@*"))
        if not paths:
            raise ArgumentError(f"{data / name}: no pictures named @EAST@NORTH@... there.")
        parts.append((paths, np.array([_position(path) for path in paths])))
    (queries, asked), (database, known) = parts
    queries, asked = list(settings.sampled(queries)), asked[:: settings.every]
    relevant = relevant_within(asked, known, RADIUS)

    def score(rankings: Rankings) -> Figures:
        return {f"recall@{k}": 100 * recall_at(rankings, relevant, k) for k in (1, 5, 10)}

    return rank_and_check(
        data.name, queries.__getitem__, len(queries), database, score, settings, report, 20
    )


def run_landmarks(data: Path, settings: Settings, report: Report) -> list[Row]:
    """Google Landmarks v2, retrieval: mAP@100 of the private part, by global vectors."""
    solution = read_retrieval_solution(data / "retrieval_solution_v2.1.csv")
    solution = {key: solution[key] for key in settings.sampled(sorted(solution))}
    index = sorted((data / "index").glob("*/*/*/*.jpg"))
    if not index:
        raise ArgumentError(f"{data / 'index'}: no pictures a/b/c/ID.jpg there.")
    best, method, note = _landmark_hits(data, list(solution), index, settings, report)
    rankings = {
        key: [index[i].stem for i in hits] for key, (hits, _) in zip(solution, best, strict=True)
    }
    figures = {"mAP@100": 100 * score_retrieval(rankings, solution)}
    return [Row("retrieval", method, "private", figures, len(solution), note)]


def run_recognition(data: Path, settings: Settings, report: Report) -> list[Row]:
    """Google Landmarks v2, recognition: micro-AP of the private part.

    The most similar training picture says which landmark, and its similarity how sure that is.
    """
    solution = read_recognition_solution(data / "recognition_solution_v2.1.csv")
    solution = {key: solution[key] for key in settings.sampled(sorted(solution))}
    shown = read_training_landmarks(data / "train.csv")
    train = [path for path in sorted((data / "train").glob("*/*/*/*.jpg")) if path.stem in shown]
    if not train:
        raise ArgumentError(f"{data / 'train'}: no pictures a/b/c/ID.jpg of train.csv there.")
    best, method, note = _landmark_hits(data, list(solution), train, settings, report)
    predictions = {
        key: (shown[train[hits[0]].stem], float(similarity[0]))
        for key, (hits, similarity) in zip(solution, best, strict=True)
    }
    figures = {"micro-AP": 100 * score_recognition(predictions, solution)}
    return [Row("recognition", method, "private", figures, len(solution), note)]


def rank_and_check(
    part: str,
    query: Callable[[int], Source],
    queries: int,
    database: Sequence[Path],
    score: Callable[[Rankings], Figures],
    settings: Settings,
    report: Report,
    top: int,
) -> list[Row]:
    """Rank the database for every query, and check the first ones.

    score: of rankings, a figure by name. top: how many are checked where the settings do not say.
    """
    extract = _extractor(settings)
    asked = Pictures(extract, query, queries)
    known = Pictures(extract, database.__getitem__, len(database))
    tick = counting(report, 2 * queries + len(database))
    vectors = asked.vectors(tick), known.vectors(tick)
    pooled = asked.features(0).global_descriptor is None
    name = f"{extract.model}, global" + (" (pooled)" if pooled else "")
    ranked = rank(vectors[0] @ vectors[1].T)
    top = top if settings.top is None else settings.top
    note = _note(settings, asked, known)
    rows = [Row("retrieval", name, part, score(ranked), queries, note)]
    if not top:
        return rows
    ratio = None if settings.matcher == "lightglue" else ratio_of(extract.model)
    match = Matcher(
        settings.matcher,
        features=extract.source,
        full_depth=settings.full_depth,
        max_ratio=ratio,
        threads=settings.threads,
        device=settings.device,
    )
    bundle = match.bundle(extract.model)
    matcher = bundle.name if bundle else "nearest"
    began = time.perf_counter()
    checked = []
    for i, ranking in enumerate(ranked):
        features = asked.features(i)
        checked.append([check_pair(match, features, known.features(j)) for j in ranking[:top]])
        tick()
    seconds = (time.perf_counter() - began) / queries
    for words, certain_first in (("", False), (", certain first", True)):
        figures = score(reorder(ranked, checked, certain_first=certain_first))
        figures["seconds a query"] = seconds
        method = f"{name} + {matcher} on {top}{words}"
        rows.append(Row("retrieval", method, part, figures, queries, note))
    return rows


def rank(similarity: FloatArray) -> Rankings:
    """(Q, N) similarities -> for each query the indices of the database, best first."""
    return list(np.argsort(-similarity, axis=1, kind="stable"))


def reorder(
    rankings: Rankings, checked: Sequence[Sequence[Matches]], *, certain_first: bool
) -> Rankings:
    """The head of each ranking, as long as it was checked, by inliers; see above."""
    found = []
    for ranking, head in zip(rankings, checked, strict=True):
        counts = np.array([match.inliers.sum() for match in head])
        if certain_first:
            certain = [
                match.verdict is not None and match.verdict.label == "same" for match in head
            ]
            counts[~np.array(certain, bool)] = -1
        order = np.argsort(-counts, kind="stable")
        found.append(np.concatenate([ranking[: len(head)][order], ranking[len(head) :]]))
    return found


def score_queries(rankings: Rankings, relevant: Sequence[frozenset[int]]) -> Figures:
    """Recall@1, 5, 10 and mAP, in percent."""
    figures = {f"recall@{k}": 100 * recall_at(rankings, relevant, k) for k in (1, 5, 10)}
    return figures | {"mAP": 100 * mean_average_precision(rankings, relevant)}


def score_revisited(rankings: Rankings, truth: Revisited) -> Figures:
    """mAP of each difficulty and mP@10 of the two harder ones, in percent."""
    scores = evaluate_revisited(truth, rankings)
    figures = {f"mAP {name}": 100 * part.mean_average_precision for name, part in scores.items()}
    figures |= {f"mP@10 {name}": 100 * part.mean_precision[10] for name, part in scores.items()}
    return {name: figures[name] for name in REVISITED}


def _extractor(settings: Settings) -> Extractor:
    if needs_semi_dense(settings.matcher):
        raise ArgumentError("the matcher 'semi-dense' is not for search; use another.")
    return Extractor(
        settings.features,
        max_keypoints=settings.max_keypoints or MAX_KEYPOINTS,
        max_size=MAX_SIZE if settings.max_size is None else settings.max_size,
        threads=settings.threads,
        device=settings.device,
    )


def _note(settings: Settings, *pictures: Pictures) -> str:
    extract = pictures[0].extract
    size = f"at most {extract.max_size} px" if extract.max_size else "at their own size"
    words = [f"pictures {size}", f"{extract.max_keypoints} keypoints"]
    if settings.every > 1:
        words.append(f"only one query in {settings.every}")
    unusable = [why for each in pictures for why in each.unusable.values()]
    if unusable:
        words.append(f"{counted(len(unusable), 'picture')} taken as blank, first {unusable[0]}")
    return "; ".join(words)


def _position(path: Path) -> tuple[float, float]:
    """East and north in metres, from a file's name."""
    try:
        east, north = map(float, path.name.split("@")[1:3])
    except ValueError:
        raise ArgumentError(f"{path}: its name must begin with @EAST@NORTH@, in metres.") from None
    return east, north


def _landmark(folder: Path, key: str) -> Path:
    path = folder.joinpath(*key[:3], f"{key}.jpg")
    if not path.is_file():
        raise ArgumentError(f"{path}: the picture of a query is not there.")
    return path


def _landmark_hits(
    data: Path, queries: Sequence[str], database: Sequence[Path], settings: Settings, report: Report
) -> tuple[list[tuple[NDArray[np.int64], FloatArray]], str, str]:
    """For each query of test/ the indices of its DEPTH most similar pictures and how similar they
    are, best first; then the method and the note of a row.

    The database is read picture by picture: only the queries' vectors and best hits are kept.
    """
    extract = _extractor(settings)
    tick = counting(report, len(queries) + len(database))
    paths = [_landmark(data / "test", key) for key in queries]
    asked = Pictures(extract, paths.__getitem__, len(paths))
    vectors = asked.vectors(tick)
    known = Pictures(extract, database.__getitem__, len(database))
    similarity = np.empty((len(vectors), 0), np.float32)
    hits = np.empty((len(vectors), 0), np.int64)
    for chunk in _chunks(len(database)):
        others = []
        for i in chunk:
            others.append(global_vector(known.features(i)))
            tick()
        similarity = np.hstack([similarity, vectors @ np.array(others).T])
        hits = np.hstack([hits, np.broadcast_to(np.array(chunk), (len(vectors), len(chunk)))])
        order = np.argsort(-similarity, axis=1, kind="stable")[:, :DEPTH]
        similarity = np.take_along_axis(similarity, order, axis=1)
        hits = np.take_along_axis(hits, order, axis=1)
    best = list(zip(hits, similarity, strict=True))
    return best, f"{extract.model}, global", _note(settings, asked)


def _chunks(count: int) -> Iterator[range]:
    for begin in range(0, count, CHUNK):
        yield range(begin, min(begin + CHUNK, count))


BENCHMARKS = (
    Benchmark(
        "queries",
        "any queries with right answers among pictures",
        "your own pictures",
        "db/, queries/ and queries.json, see covis.evaluation.datasets.queries; "
        "or folders that have them",
        ("queries.json", "*/queries.json"),
        run_queries,
        methods="search",
    ),
    Benchmark(
        "roxford5k",
        "image search, Revisited Oxford: mAP, mP@10",
        "http://cmp.felk.cvut.cz/revisitop",
        "gnd_roxford5k.pkl and jpg/",
        ("gnd_roxford5k.pkl",),
        run_revisited,
        methods="search",
        published=published_for("roxford5k"),
    ),
    Benchmark(
        "rparis6k",
        "image search, Revisited Paris: mAP, mP@10",
        "http://cmp.felk.cvut.cz/revisitop",
        "gnd_rparis6k.pkl and jpg/",
        ("gnd_rparis6k.pkl",),
        run_revisited,
        methods="search",
        published=published_for("rparis6k"),
    ),
    Benchmark(
        "gldv2",
        "image search, Google Landmarks v2: retrieval mAP@100",
        "https://github.com/cvdfoundation/google-landmark",
        "retrieval_solution_v2.1.csv, test/ and index/ with a/b/c/ID.jpg",
        ("retrieval_solution_v2.1.csv",),
        run_landmarks,
        methods="search",
    ),
    Benchmark(
        "gldv2-recognition",
        "landmarks named by the most similar photo, Google Landmarks v2: recognition micro-AP",
        "https://github.com/cvdfoundation/google-landmark",
        "recognition_solution_v2.1.csv, train.csv, test/ and train/ with a/b/c/ID.jpg",
        ("recognition_solution_v2.1.csv",),
        run_recognition,
        ("gldv2",),
        methods="search",
    ),
    Benchmark(
        "places",
        "place recognition: recall@1, 5, 10 within 25 metres",
        "https://github.com/gmberton/VPR-datasets-downloader (Pitts30k, MSLS, Tokyo 24/7, ...)",
        "database/ and queries/ with pictures named @EAST@NORTH@..., of one split",
        ("database/@*", "database/*/@*"),
        run_places,
        methods="search",
    ),
)
