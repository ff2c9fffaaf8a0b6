"""Kills of add, changed add, remove and weights import at random moments: each goes on by itself.

A child is killed (SIGKILL) somewhere in its work, the same is run again, and then everything must
be as if nothing had happened, with nothing left over. Prints how many hit, and what was wrong.

    python benchmarks/kills.py
    python benchmarks/kills.py --kinds add,remove --kills 10 --seed 3
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import common
import cv2
import numpy as np

from covis.search import Index

KINDS = ("add", "changed", "remove", "import")
PHOTOS = 48

CHILD = """
import sys
kind, store, folder = sys.argv[1:4]
if kind == "import":
    from covis.export.import_weights import import_weights
    import torch, onnx, covis.export.xfeat
    print("ready", flush=True)
    import_weights(folder, name="killed", force=True)
else:
    from covis.search import Index
    from covis.search.ingest import LocalEngine, add
    index = Index(store, features="sift", max_keypoints=100)
    index._make()
    index._extractor
    print("ready", flush=True)
    if kind == "remove":
        index.remove([folder])
    else:
        add(index.store, [folder], LocalEngine(index._extractor), commit=4)
print("done", flush=True)
"""


def write_photos(folder: Path, first: int) -> None:
    """Small pictures, others for every `first`."""
    folder.mkdir(exist_ok=True)
    for number in range(PHOTOS):
        rng = np.random.default_rng(first + number)
        small = rng.integers(0, 256, (8, 10, 3)).astype(np.uint8)
        picture = cv2.resize(small, (160, 120), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"{number:02}.png"), picture)


def start(kind: str, store: Path, folder: Path, home: Path) -> subprocess.Popen[str]:
    """A child that is about to begin its work."""
    command = [sys.executable, "-c", CHILD, kind, str(store), str(folder)]
    environment = {**os.environ, "COVIS_HOME": str(home)}
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def finished(kind: str, store: Path, folder: Path, home: Path) -> tuple[bool, float]:
    """Run it to its end: whether it got there, and seconds of its work."""
    child = start(kind, store, folder, home)
    began = time.perf_counter()
    printed, _ = child.communicate()
    return child.returncode == 0 and printed == "done\n", time.perf_counter() - began


def wrong_store(store: Path, files: int) -> list[str]:
    """What is not as it should be in a store of so many files, all of one picture each."""
    index = Index(store)
    info, found = index.info(), index.verify()
    wrong = list(found.problems)
    if (info.images, info.files, info.failed) != (files, files, 0):
        wrong.append(f"{info.images} pictures, {info.files} files, {info.failed} failed")
    if found.changed or found.gone:
        wrong.append(f"{len(found.changed)} changed, {len(found.gone)} gone")
    return wrong


def wrong_models(models: Path) -> list[str]:
    """What is in the folder of models beside the imported one."""
    names = sorted(path.name for path in models.iterdir())
    return [] if names == ["killed"] else [f"{models}: {', '.join(names)}"]


def prepared(kind: str, root: Path, number: int) -> tuple[Path, Path, Callable[[], list[str]]]:
    """The store, what is added, removed or imported, and what to look at in the end."""
    store, folder = root / "store", root / "photos"
    if kind == "import":
        return store, common.XFEAT, lambda: wrong_models(root / "home" / "models")
    shutil.rmtree(store, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
    write_photos(folder, 1000 * number)
    if kind != "add":
        Index(store, features="sift", max_keypoints=100).add([folder])
    if kind == "changed":
        write_photos(folder, 1000 * number + 500)
    return store, folder, lambda: wrong_store(store, 0 if kind == "remove" else PHOTOS)


def run(arguments: argparse.Namespace) -> None:
    kinds = common.names(arguments.kinds)
    common.check_known("kind", kinds, KINDS)
    rng = random.Random(arguments.seed)
    for kind in kinds:
        if kind == "import" and not common.XFEAT.is_file():
            print(f"import: left out, {common.XFEAT} is not there")
            continue
        with tempfile.TemporaryDirectory() as name:
            root, hits = Path(name), 0
            home = root / "home"
            (home / "models").mkdir(parents=True)
            wrong: list[str] = []
            store, target, _ = prepared(kind, root, 0)
            _, seconds = finished(kind, store, target, home)
            for number in range(1, arguments.kills + 1):
                store, target, look = prepared(kind, root, number)
                child = start(kind, store, target, home)
                time.sleep(rng.uniform(0, seconds))
                hits += child.poll() is None
                child.kill()
                child.wait()
                went_on, _ = finished(kind, store, target, home)
                if not went_on:
                    wrong.append(f"kill {number}: it does not go on")
                wrong += [f"kill {number}: {line}" for line in look()]
        print(f"{kind}: {arguments.kills} kills, {hits} before its end, {len(wrong)} wrong")
        print(*(f"    {line}" for line in wrong), sep="\n", end="\n" if wrong else "", flush=True)


def main() -> int:
    options = common.parser(__doc__)
    options.add_argument("--kinds", default=",".join(KINDS), help="which of them")
    options.add_argument("--kills", type=int, default=25, help="of each kind")
    options.add_argument("--seed", type=int, default=0, help="of the moments")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
