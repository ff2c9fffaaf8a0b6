"""Measure image search: adding, memory, search over 100,000 images, the budget, threads.

    python benchmarks/search.py [adding memory search index large copies threads quantised]
                                [--folder DIR]

Without a name all parts run. What they store goes into a temporary folder, or into --folder,
which is kept: a second run of `search` takes its 100,000 images from there. Photos come from
../shared/data/retrieval where it is there; all else is made by code.

    adding      photos a second, 1.5 megapixels each, decoding included
    memory      of the process while it adds many synthetic images
    search      the global stage and whole answers over --images images (100,000), budget 500 ms
    index       Lance's index over --index-images (300,000): its time and recall
    large       a store of --rows rows (1,000,000) of 100 keypoints: time and recall of the global
                stage, answers within 500 ms, memory; takes some 10 GB of --folder
    copies      near-copies in that store, planted ones among them
    threads     --searches searches (1,000) in 8 threads on one index that changes meanwhile
    quantised   what 8-bit descriptors cost in matches
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import common
import cv2
import large_store
import numpy as np
from common import DATA
from large_store import spread, unit

from covis import Extractor, Index
from covis.matching.nearest import mutual_nearest
from covis.options import SEARCH_CANDIDATES
from covis.search.ingest import add
from covis.search.store import File, Identity, ImageRecord, Store, quantised, restored
from covis.types import Features

PHOTOS = DATA / "retrieval"
KEYPOINTS = 1000
COMMIT = 1000


def adding(folder: Path, options: argparse.Namespace) -> None:
    """Photos of 1.5 megapixels; the processor's time tells what else the machine was doing."""
    photos = folder / "photos"
    for number, picture in enumerate(pictures(64, (1000, 1500))):
        write(photos / f"{number:03}.jpg", picture)
    index = Index(fresh(folder / "adding"))
    index.add([next(iter(photos.iterdir()))])  # The model is loaded before the clock starts.
    began, worked = time.perf_counter(), time.process_time()
    added = index.add([photos])
    wall, processor = time.perf_counter() - began, time.process_time() - worked
    info = index.info()
    print(f"{added.added} photos of 1.5 megapixels: {added.added / wall:.1f} a second,")
    print(f"{1000 * processor / added.added:.0f} ms of processor time each;")
    print(f"{info.bytes_per_image / 1000:.1f} KB an image in the store.")
    began = time.perf_counter()
    again = index.add([photos])
    print(f"Again: {again.unchanged} unchanged in {time.perf_counter() - began:.2f} s.")


def memory(folder: Path, options: argparse.Namespace) -> None:
    """Small pictures, so that there are many; rows are of the size that photos have."""
    index = Index(fresh(folder / "memory"))
    index._make()
    engine = SyntheticEngine(index)
    photos = folder / "many"
    photos.mkdir(exist_ok=True)
    for number in range(options.memory_images):
        (photos / f"{number:06}.jpg").write_bytes(f"{number}".encode())
    readings: list[tuple[int, float]] = []
    done = 0

    def report(path: str, why: str) -> None:
        nonlocal done
        done += 1
        if done % max(1, options.memory_images // 10) == 0:
            readings.append((done, resident()))

    began = time.perf_counter()
    add(index.store, [photos], engine, report)
    print(f"{done} images of {KEYPOINTS} features in {time.perf_counter() - began:.0f} s")
    for count, megabytes in readings:
        print(f"{count:8} images: {megabytes:.0f} MB")
    print(f"{index.info().bytes_per_image / 1000:.1f} KB an image in the store.")


def search(folder: Path, options: argparse.Namespace) -> None:
    """Real photos among synthetic ones, whose vectors are near those of real photos."""
    store = folder / f"search-{options.images}"
    index = Index(store)
    real = photos_in(folder)
    queries = sorted(PHOTOS.glob("museum/queries/*/*.jpg"))[: options.queries]
    queries = queries or real[: options.queries]
    index.add(real)
    fill(index, options.images - len(index))
    print(f"{len(index)} images, {index.info().stored / 1e9:.2f} GB")
    began = time.perf_counter()
    index.load()
    print(f"opened in {time.perf_counter() - began:.1f} s, {resident():.0f} MB")
    stages: dict[str, list[float]] = {}
    checked, slowest = [], []
    index.search(queries[0])  # The first one warms everything up.
    for query in queries:
        began = time.perf_counter()
        found = index.search(query, budget=0.5)
        slowest.append(time.perf_counter() - began)
        for stage, seconds in found.seconds.items():
            stages.setdefault(stage, []).append(seconds)
        checked.append(found.checked)
    for stage, seconds in stages.items():
        print(f"{stage:8} median {1000 * statistics.median(seconds):.0f} ms")
    print(f"answers within {1000 * max(slowest):.0f} ms (budget 500 ms, at most 550 ms)")
    print(f"candidates checked: median {statistics.median(checked):.0f}")


def indexed(folder: Path, options: argparse.Namespace) -> None:
    """The vectors' index beside the exact product; few local features, so that many images fit."""
    index = Index(fresh(folder / "index"))
    index.add(photos_in(folder))
    fill(index, options.index_images - len(index), keypoints=8)
    store = index.store
    if not store.has_vector_index():
        print(f"{options.index_images} images are too few for an index")
        return
    rows, matrix = store.vectors()
    seconds, shares = [], []
    for vector in unit(spread(matrix, options.queries, np.random.default_rng(1))):
        exact = rows[np.argsort(-(matrix @ vector))[:SEARCH_CANDIDATES]]
        began = time.perf_counter()
        found, _ = store.nearest(vector, SEARCH_CANDIDATES)
        seconds.append(time.perf_counter() - began)
        shares.append(np.isin(exact, found).mean())
    print(f"{len(rows)} images: median {1000 * statistics.median(seconds):.0f} ms, at most")
    share = f"of the {SEARCH_CANDIDATES} nearest it has {np.mean(shares):.2%}"
    print(f"{1000 * max(seconds):.0f} ms; {share}")


def large(folder: Path, options: argparse.Namespace) -> None:
    """Each step in a process of its own, so that the memory told is that of searching."""
    home = large_home(folder, options)
    queries = (sorted(PHOTOS.glob("museum/queries/*/*.jpg")) or photos_in(folder))[:100]
    vectors = large_store.apart(large_store.vectors_like_photos, home, options.queries)
    result = large_store.apart(large_store.search, home, vectors, queries)
    exact = large_store.apart(large_store.nearest_exactly, home, vectors)
    shares = [np.isin(*pair).mean() for pair in zip(exact, result["found"], strict=True)]
    stage, answers = (1000 * np.sort(result[name]) for name in ("stage", "answers"))
    print(f"global stage: median {np.median(stage):.0f} ms, at most {stage[-1]:.0f} ms; of the")
    print(f"{SEARCH_CANDIDATES} nearest {np.mean(shares):.2%}, at least {min(shares):.0%}")
    print(f"{len(answers)} answers, budget 500 ms: median {np.median(answers):.0f} ms, 99 of 100")
    print(f"within {np.quantile(answers, 0.99):.0f} ms, {result['certain']} with a certain hit")
    print(f"memory: {result['peak']} MB at most; load {os.getloadavg()[0]:.0f}")


def copies(folder: Path, options: argparse.Namespace) -> None:
    home = large_home(folder, options)
    began = time.perf_counter()
    found, planted, seconds, megabytes = large_store.apart(large_store.find_copies, home)
    took = time.perf_counter() - began
    print(f"{found} of {planted} copies found in {took / 60:.0f} minutes, {seconds / 60:.0f} of")
    print(f"processor time, {megabytes} MB at most")


def large_home(folder: Path, options: argparse.Namespace) -> Path:
    """Where the large store is, made if it is not there."""
    home = folder / f"large-{options.rows}"
    if not (home / "copies").exists():
        large_store.apart(large_store.make, fresh(home), photos_in(folder), options.rows)
    return home


def threads(folder: Path, options: argparse.Namespace) -> None:
    """Eight threads on one index, while another process' worth of adds and removes goes on."""
    photos = folder / "shared"
    for number, picture in enumerate(pictures(60, (240, 320))):
        write(photos / f"{number:03}.png", picture)
    extra = [
        write(folder / "extra" / f"{number}.png", each)
        for number, each in enumerate(pictures(4, (200, 300)))
    ]
    index = Index(fresh(folder / "threads"), max_keypoints=300)
    index.add([photos])
    queries = sorted(photos.iterdir())
    wrong: list[str] = []

    def search(number: int) -> None:
        query = queries[number % len(queries)]
        try:
            found = index.search(query, 1).hits
            if [Path(hit.path) for hit in found] != [query]:
                wrong.append(f"{query.name}: {found}")
        except Exception as error:
            wrong.append(repr(error))

    began = time.perf_counter()
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(search, number) for number in range(options.searches)]
        changes = 0
        while not all(answer.done() for answer in answers):
            index.add(extra)
            index.remove(extra)
            changes += 2
    took = time.perf_counter() - began
    print(f"{options.searches} searches in 8 threads, {changes} adds and removes meanwhile:")
    print(f"{len(wrong)} wrong, {took:.0f} s", *wrong[:5], sep="\n")


def quantising(folder: Path, options: argparse.Namespace) -> None:
    """Matches with descriptors as they are, and with one side stored in 8 bits."""
    extract = Extractor(max_keypoints=KEYPOINTS)
    sets = sorted(path for path in (PHOTOS.parent / "homography").glob("*") if path.is_dir())
    kept, count, lost = 0, 0, 0
    for folder in sets:
        images = sorted(
            path for path in folder.iterdir() if path.suffix in (".png", ".jpg", ".ppm")
        )
        features = extract.batch(images)
        for other in features[1:]:
            exact = pairs(features[0].descriptors, other.descriptors)
            coarse = pairs(features[0].descriptors, restored(quantised(other.descriptors)))
            kept, count, lost = kept + len(exact & coarse), count + len(exact), lost + len(coarse)
    if not count:
        print(f"{PHOTOS.parent} is not there")
        return
    print(f"{count} matches with float32 descriptors; 8 bits keep {100 * kept / count:.1f} %")
    print(f"of them and find {lost} in all.")


def pairs(one: np.ndarray, other: np.ndarray) -> set[tuple[int, ...]]:
    return {tuple(pair) for pair in mutual_nearest(one, other)[0].tolist()}


class SyntheticEngine:
    """Makes features up, as many as photos have."""

    def __init__(self, index: Index) -> None:
        self._identity = index.store.identity
        self._rng = np.random.default_rng(0)

    def __call__(self, files: Iterator[File]) -> Iterator[tuple[File, ImageRecord | str]]:
        for file in files:
            yield file, described(file.content or "", self._rng, self._identity)


def described(
    content: str, rng: np.random.Generator, identity: Identity, keypoints: int = KEYPOINTS
) -> ImageRecord:
    rows = rng.standard_normal((keypoints, 64), np.float32)
    features = Features(
        keypoints=(rng.random((keypoints, 2)) * (960, 640)).astype(np.float32),
        scores=np.sort(rng.random(keypoints).astype(np.float32))[::-1].copy(),
        descriptors=rows / np.linalg.norm(rows, axis=1, keepdims=True),
        width=960,
        height=640,
        model=identity.features,
    )
    vector = rng.standard_normal(identity.vector, np.float32)
    vector /= np.linalg.norm(vector)
    return ImageRecord(content, 1, None, np.zeros((16, 16), np.uint8), vector, features)


def fill(index: Index, count: int, keypoints: int = KEYPOINTS) -> None:
    """Add synthetic images: vectors spread as the real ones', and made-up local features."""
    if count <= 0:
        return
    store: Store = index.store
    rng = np.random.default_rng(len(index))
    _, real = store.vectors()
    templates = [described("", rng, store.identity, keypoints) for _ in range(16)]
    named = 0
    while named < count:
        size = min(COMMIT, count - named)
        rows = []
        for number, vector in enumerate(unit(spread(real, size, rng))):
            content = f"{rng.integers(2**63):032x}"
            rows.append(replace(templates[number % 16], content=content, vector=vector))
        store.commit(rows, [File(f"/made/{row.content}", 1, 1, row.content) for row in rows])
        named += size
        if named % (10 * COMMIT) == 0:
            print(f"  {named} of {count} made", flush=True)
    store.tidy()


def photos_in(folder: Path) -> list[Path]:
    """Real ones where there are any; else made up, in `folder`."""
    real = sorted(PHOTOS.glob("*/db/*.jpg"))
    if not real:
        print(f"{PHOTOS} is not there: made-up photos instead")
        made = enumerate(pictures(100, (480, 640)))
        real = [write(folder / "made" / f"{number:03}.jpg", each) for number, each in made]
    return real


def pictures(count: int, size: tuple[int, int]) -> Iterator[np.ndarray]:
    """Pictures with detail at every scale, all different."""
    height, width = size
    for seed in range(count):
        rng = np.random.default_rng(seed)
        picture = np.zeros((height, width, 3), np.float32)
        for cell in (6, 20, 80):
            noise = rng.random((height // cell + 2, width // cell + 2, 3), np.float32)
            picture += cv2.resize(noise, (width, height), interpolation=cv2.INTER_LINEAR)
        yield np.clip(picture / 3 * 255, 0, 255).astype(np.uint8)


def write(path: Path, picture: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), picture)
    return path


def fresh(path: Path) -> Path:
    """The path, with nothing there."""
    if path.exists():
        import shutil

        shutil.rmtree(path)
    return path


def resident() -> float:
    """Megabytes of memory that this process has now."""
    status = Path(f"/proc/{os.getpid()}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+)", status)
    return int(found[1]) / 1024 if found else 0.0


PARTS = {
    "adding": adding,
    "memory": memory,
    "search": search,
    "index": indexed,
    "large": large,
    "copies": copies,
    "threads": threads,
    "quantised": quantising,
}


def run(options: argparse.Namespace) -> None:
    common.check_known("part", options.parts, PARTS)
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        for name in options.parts or PARTS:
            print(f"## {name}", flush=True)
            PARTS[name](folder, options)


def main() -> int:
    options = common.parser(__doc__)
    options.add_argument("parts", nargs="*", metavar="PART", help="all when left out")
    options.add_argument("--images", type=int, default=100_000, help="for search")
    options.add_argument("--index-images", type=int, default=300_000, help="for index")
    options.add_argument("--rows", type=int, default=1_000_000, help="for large and copies")
    options.add_argument("--memory-images", type=int, default=20_000, help="for memory")
    options.add_argument("--queries", type=int, default=50)
    options.add_argument("--searches", type=int, default=1000, help="for threads")
    options.add_argument("--folder", type=Path, help="where stores go, and stay")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
