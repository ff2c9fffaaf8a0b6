"""How well search finds the right photos, beside plain floors, as one Markdown table.

    python benchmarks/retrieval.py
    python benchmarks/retrieval.py --sets museum --methods global,nearest --top 100
    python benchmarks/retrieval.py --revisited roxford5k/ --methods global,nearest

Sets: those of ../shared/data/retrieval, or Revisited Oxford and Paris in a folder with
`gnd_roxford5k.pkl` and `jpg/`. Methods:

- colours: a histogram of hue, saturation and value; the sum of absolute differences.
- words: SIFT, 1,000 visual words found by k-means in the set's own database, tf-idf, the cosine.
- global: the features' global vectors; of pooled local descriptors where the model has none.
- nearest, lightglue: the first 20 by global vectors ordered anew by how many matches agree with a
  geometry, more similar ones first among equals. With "certain first", those that the verdict
  calls the same come first, by the same count, and all others stay behind in global order, as
  `covis search` has it. `covis eval queries` measures one method.
- search: `covis search` as it is, from a store, with its own budget and with none; the first 100.

Each picture is decoded and extracted once, for search once more. Features lie in memory: some
0.8 MB a picture.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import common
import cv2
import numpy as np
from common import DATA
from numpy.typing import NDArray

from covis.errors import ArgumentError, ImageError
from covis.evaluation.benchmarks.retrieval import (
    BLANK,
    Rankings,
    rank,
    reorder,
    score_queries,
    score_revisited,
)
from covis.evaluation.datasets.queries import QuerySet, read_queries
from covis.evaluation.datasets.revisited import Revisited, read_revisited
from covis.evaluation.tables import Row, figures_table, rows_json
from covis.features import Extractor
from covis.features.sift import extract_sift
from covis.images.decode import load_image
from covis.matching import Matcher
from covis.options import SEARCH_CANDIDATES
from covis.runtime.bundle import installed_bundle
from covis.search import Index
from covis.search.pooling import global_vector
from covis.search.retrieve import check_pair
from covis.types import Features, Image, Matches, Source

METHODS = ("colours", "words", "global", "nearest", "lightglue", "search")
BUDGETS = {"500 ms": 0.5, "no budget": None}
BINS = (16, 4, 4)
"""Of hue, saturation and value."""
WORDS = 1000
SAMPLE = 30_000
"""Descriptors that the words are found in."""

FloatArray = NDArray[np.float32]
Truth = QuerySet | Revisited


@dataclass
class Pictures:
    """What the methods compare, of queries or of a database, one a picture."""

    features: list[Features]
    sift: list[FloatArray]
    colours: list[FloatArray]


def source(truth: Truth, i: int) -> Source:
    """The i-th picture of a set: the queries, then the database."""
    if i >= len(truth.queries):
        return truth.database[i - len(truth.queries)]
    return truth.query_image(i) if isinstance(truth, Revisited) else truth.queries[i]


def read_pictures(
    truth: Truth, extract: Extractor, methods: Sequence[str]
) -> tuple[Pictures, Pictures]:
    """Of the queries and of the database; a picture that cannot be used is taken as a blank."""
    every = Pictures([], [], [])
    count = len(truth.queries)
    for i in range(count + len(truth.database)):
        try:
            image = load_image(source(truth, i), max_size=extract.max_size)
        except ImageError as error:
            print(f"taken as blank: {error}", file=sys.stderr)
            image = load_image(BLANK)
        if set(methods) - {"colours", "words"}:
            every.features.append(extract(image))
        if "words" in methods:
            every.sift.append(extract_sift(image, extract.max_keypoints).descriptors)
        if "colours" in methods:
            every.colours.append(colours(image))
    parts = every.features, every.sift, every.colours
    return Pictures(*(part[:count] for part in parts)), Pictures(*(part[count:] for part in parts))


def colours(image: Image) -> FloatArray:
    """(256,) shares of the pixels."""
    hsv = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2HSV)
    counts = cv2.calcHist([hsv], [0, 1, 2], None, BINS, [0, 180, 0, 256, 0, 256]).ravel()
    return counts / counts.sum()


def words(queries: Sequence[FloatArray], database: Sequence[FloatArray]) -> FloatArray:
    """(Q, N) cosines of bags of visual words, weighted by how rare each word is."""
    rng = np.random.default_rng(0)
    pool = np.concatenate(database)
    pool = pool[rng.choice(len(pool), min(SAMPLE, len(pool)), replace=False)]
    stop = (cv2.TERM_CRITERIA_MAX_ITER, 10, 0)
    cv2.setRNGSeed(0)
    count = min(WORDS, len(pool))
    _, _, centres = cv2.kmeans(pool, count, None, stop, 1, cv2.KMEANS_RANDOM_CENTERS)
    lengths = (centres**2).sum(axis=1) / 2

    def bag(descriptors: FloatArray) -> FloatArray:
        nearest = (descriptors @ centres.T - lengths).argmax(axis=1)
        return np.bincount(nearest, minlength=count) / max(len(nearest), 1)

    bags = [np.array([bag(each) for each in part]) for part in (queries, database)]
    rarity = np.log(len(database) / np.maximum((bags[1] > 0).sum(axis=0), 1))
    asked, known = (unit(part * rarity) for part in bags)
    return (asked @ known.T).astype(np.float32)


def unit(vectors: NDArray) -> NDArray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def check(
    match: Matcher, queries: Sequence[Features], database: Sequence[Features], ranked: Rankings
) -> list[list[Matches]]:
    """For each query its matches with the pictures of its ranking, with geometry and verdict."""
    return [
        [check_pair(match, query, database[i]) for i in ranking]
        for query, ranking in zip(queries, ranked, strict=True)
    ]


def row_of(truth: Truth, method: str, rankings: Rankings, seconds: float | None = None) -> Row:
    """A method's scores in percent. seconds: what re-ranking took a query, or the median answer of
    a search."""
    if isinstance(truth, QuerySet):
        protocol, figures = "queries", score_queries(rankings, truth.relevant)
    else:
        protocol, figures = "revisited", score_revisited(rankings, truth)
    if seconds is not None:
        figures["ms a query"] = 1000 * seconds
    return Row(protocol, method, truth.name, figures, len(truth.queries))


def evaluate(
    truth: Truth, extract: Extractor, methods: Sequence[str], top: int, threads: int | None
) -> Iterator[Row]:
    queries, database = read_pictures(truth, extract, methods)
    if "colours" in methods:
        known = np.array(database.colours)
        distances = np.array([np.abs(known - each).sum(axis=1) for each in queries.colours])
        yield row_of(truth, "colour histogram", rank(-distances))
    if "words" in methods:
        yield row_of(truth, "SIFT words", rank(words(queries.sift, database.sift)))
    if not queries.features:
        return
    asked, known = (
        np.array([global_vector(each) for each in part.features]) for part in (queries, database)
    )
    pooled = " (pooled)" if queries.features[0].global_descriptor is None else ""
    name = f"{extract.model}, global{pooled}"
    ranked = rank(asked @ known.T)
    yield row_of(truth, name, ranked)
    for matcher in ("nearest", "lightglue"):
        if matcher not in methods:
            continue
        match = Matcher(matcher, features=extract.source, threads=threads)
        began = time.perf_counter()
        checked = check(match, queries.features, database.features, [r[:top] for r in ranked])
        seconds = (time.perf_counter() - began) / len(ranked)
        for label, certain_first in (("", False), (", certain first", True)):
            found = reorder(ranked, checked, certain_first=certain_first)
            yield row_of(truth, f"{name} + {matcher}{label}", found, seconds)
    if "search" in methods:
        yield from search(truth, extract, ranked, threads)


def search(
    truth: Truth, extract: Extractor, ranked: Rankings, threads: int | None
) -> Iterator[Row]:
    """What `covis search` answers, and in what time; behind its hits the global ranking goes on."""
    places: dict[str, int] = {str(path.absolute()): i for i, path in enumerate(truth.database)}
    with tempfile.TemporaryDirectory() as folder:
        index = Index(
            folder,
            features=extract.source,
            max_keypoints=extract.max_keypoints,
            max_size=extract.max_size or 0,
            threads=threads,
        )
        index.add(truth.database)
        index.search(source(truth, 0))  # The first one warms everything up.
        for label, budget in BUDGETS.items():
            rankings, seconds = [], []
            for i in range(len(truth.queries)):
                found = index.search(source(truth, i), SEARCH_CANDIDATES, budget=budget)
                hits = [places[path] for hit in found.hits for path in (hit.path, *hit.copies)]
                rankings.append(np.array(list(dict.fromkeys([*hits, *ranked[i].tolist()]))))
                seconds.append(found.seconds["total"])
            yield row_of(truth, f"covis search, {label}", rankings, statistics.median(seconds))


def table(rows: Sequence[Row]) -> str:
    """Markdown; sets that are scored alike in one table."""
    blocks = []
    for protocol in dict.fromkeys(row.protocol for row in rows):
        alike = [row for row in rows if row.protocol == protocol]
        blocks.append(figures_table([("measured", row) for row in alike]))
    return "\n\n".join(blocks)


def read_sets(names: Sequence[str] | None, revisited: Sequence[Path]) -> list[Truth]:
    data = DATA / "retrieval"
    if names is None:
        names = (
            [] if revisited else sorted(path.parent.name for path in data.glob("*/queries.json"))
        )
    if not names and not revisited:
        raise ArgumentError(f"{data}: no sets of queries there; name a folder with --revisited.")
    return [*(read_queries(data / name) for name in names), *map(read_revisited, revisited)]


def run(arguments: argparse.Namespace) -> None:
    methods = list(arguments.methods)
    common.check_known("method", methods, METHODS)
    if arguments.top < 1:
        raise ArgumentError(f"--top must be 1 or more, not {arguments.top}.")
    if arguments.threads:
        cv2.setNumThreads(arguments.threads)
    extract = Extractor(
        arguments.features,
        max_keypoints=arguments.max_keypoints,
        max_size=arguments.max_size,
        threads=arguments.threads,
    )
    missing = f"lightglue-{extract.model}"
    if "lightglue" in methods and installed_bundle(missing) is None:
        print(f"lightglue left out: no weights '{missing}' are installed", file=sys.stderr)
        methods.remove("lightglue")
    rows: list[Row] = []
    for truth in read_sets(arguments.sets, arguments.revisited):
        for row in evaluate(truth, extract, methods, arguments.top, arguments.threads):
            rows.append(row)
            print(f"{row.part}: {row.method}", file=sys.stderr, flush=True)
    print(table(rows))
    print(
        f"\nPictures of at most {arguments.max_size} px, {arguments.max_keypoints} features; the "
        f"first {arguments.top} re-ranked. In percent."
    )
    if any("(pooled)" in row.method for row in rows):
        print(f"{extract.model} has no global vector; its local descriptors are pooled.")
    if arguments.json:
        arguments.json.write_text(rows_json(rows), "utf-8")


def main() -> int:
    options = common.parser(__doc__, "--max-size", "--threads", "--json")
    options.add_argument("--methods", type=common.names, default=METHODS)
    options.add_argument("--sets", type=common.names, help="names of folders; all when left out")
    options.add_argument("--revisited", type=Path, nargs="*", default=[], metavar="FOLDER")
    options.add_argument("--features", default="xfeat", help="as covis.Extractor takes it")
    options.add_argument("--max-keypoints", type=int, default=1000)
    options.add_argument("--top", type=int, default=20, help="how many are re-ranked")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
