"""Copies that `covis duplicates` finds, and groups that it should not make.

    python benchmarks/duplicates.py [copies documents views] [--photos FOLDER]

    copies      21 kinds of copies of --count photos (50) of --photos, one store each,
                other photos beside them: how many are in one group with their original
    documents   8 kinds of pages on one template, --count of each, all in one store: groups are
                false; and copies of one of each, half its size
    views       groups in each folder of --views (../shared/data/pose and ../shared/photos/drone):
                all are false

`--seed` draws the photos and the words of the documents.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import common
import copied_pictures
import numpy as np
import PIL.Image
from common import DATA, SHARED
from copied_pictures import COPIES, DOCUMENTS, Pixels

from covis import Index
from covis.evaluation.tables import markdown
from covis.images.decode import load_image
from covis.images.picture_files import pictures_below

PARTS = ("copies", "documents", "views")
OTHERS = 25
"""Photos beside those that are copied."""
LONGER_SIDE = 1280


def write(path: Path, picture: Pixels, quality: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    PIL.Image.fromarray(picture).save(path, quality=quality)
    return path


def grouped(folder: Path, store: Path) -> tuple[list[list[str]], float]:
    """Names of the files in each group, and the seconds that finding them took."""
    index = Index(store)
    index.add([folder])
    began = time.perf_counter()
    groups = index.duplicates()
    return [
        [Path(copy.path).stem for copy in group] for group in groups
    ], time.perf_counter() - began


def copies(folder: Path, options: argparse.Namespace) -> None:
    rng = np.random.default_rng(options.seed)
    paths = [path for path in pictures_below(options.photos) if "drone" not in path.parts]
    drawn = [paths[i] for i in rng.permutation(len(paths))[: options.count + OTHERS]]
    originals = [load_image(path, max_size=LONGER_SIDE).pixels for path in drawn]
    rows = []
    for kind, change in COPIES.items():
        if options.kinds and kind not in options.kinds:
            continue
        pictures = folder / kind
        for number, picture in enumerate(originals):
            write(pictures / f"{number:03}.jpg", picture)
            if number < options.count:
                write(pictures / f"{number:03}c.jpg", change(picture), 88)
        groups, seconds = grouped(pictures, folder / f"{kind}.covis")
        right = sum({f"{n:03}", f"{n:03}c"} <= set(g) for n in range(options.count) for g in groups)
        false = sum(len({name.removesuffix("c") for name in group}) > 1 for group in groups)
        rows.append([kind, f"{right} of {options.count}", str(false), f"{seconds:.1f} s"])
        print(*rows[-1], file=sys.stderr, flush=True)
    print(markdown(["copies", "found", "false groups", "time"], rows))


def documents(folder: Path, options: argparse.Namespace) -> None:
    pictures = folder / "documents"
    for kind in DOCUMENTS:
        for number in range(options.count):
            page = copied_pictures.document(kind, 1000 * options.seed + number)
            write(pictures / f"{kind} {number:02}.png", page)
            if number == 0:
                write(pictures / f"{kind} 00 half.jpg", copied_pictures.shrunk(page, 0.5))
    groups, seconds = grouped(pictures, folder / "documents.covis")
    rows = []
    for kind in DOCUMENTS:
        own = [{name.removesuffix(" half") for name in g} for g in groups if g[0].startswith(kind)]
        false = [len(group) for group in own if len(group) > 1]
        found = any(group >= {f"{kind} 00", f"{kind} 00 half"} for group in groups_of(groups))
        rows.append([kind, " + ".join(map(str, false)) or "none", "yes" if found else "no"])
    print(markdown(["pages", "in false groups", "half-size copy found"], rows))
    print(f"{len(DOCUMENTS) * (options.count + 1)} pictures, {seconds:.1f} s.")


def groups_of(groups: Sequence[Sequence[str]]) -> list[set[str]]:
    return [set(group) for group in groups]


def views(folder: Path, options: argparse.Namespace) -> None:
    rows = []
    for place in options.views:
        groups, seconds = grouped(place, folder / f"views {len(rows)}.covis")
        sizes = " + ".join(str(len(group)) for group in groups) or "none"
        rows.append([place.name, str(len(pictures_below(place))), sizes, f"{seconds:.1f} s"])
    print(markdown(["place", "photos", "in groups", "time"], rows))


def run(arguments: argparse.Namespace) -> None:
    parts = arguments.parts or list(PARTS)
    common.check_known("part", parts, PARTS)
    common.check_known("kind of copy", arguments.kinds, tuple(COPIES))
    with tempfile.TemporaryDirectory() as temporary:
        for part in parts:
            globals()[part](Path(temporary), arguments)


def main() -> int:
    options = common.parser(__doc__)
    options.add_argument("parts", nargs="*", metavar="part", help=", ".join(PARTS))
    options.add_argument("--photos", type=Path, default=SHARED / "photos")
    options.add_argument("--count", type=int, default=50)
    options.add_argument("--kinds", type=common.names, default=[], help="of copies; all without")
    places = [*sorted((DATA / "pose").glob("*")), SHARED / "photos" / "drone"]
    options.add_argument("--views", type=Path, nargs="*", default=places, metavar="FOLDER")
    options.add_argument("--seed", type=int, default=0)
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
