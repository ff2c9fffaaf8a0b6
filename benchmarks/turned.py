"""Which pairs are solved when one picture is turned and zoomed, for several features.

    python benchmarks/turned.py --features xfeat,sift,edgepoint-e64 --max-size 480

Each picture of ../shared/data/homography is matched with itself turned by 12 angles and, upright,
reduced by up to 4. Features are names of `covis.Extractor`; fast, auto and thorough the efforts of
`covis.match`, with all its attempts. Mutual nearest
neighbours of up to 2,048 features; solved is a pair whose corners are found within 5 pixels, and
its matches' rate is the share that is right within 3.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import get_args

import common
import cv2
import numpy as np
from common import DATA
from numpy.typing import NDArray

import covis
from covis import Extractor, Matcher, Matches
from covis.evaluation.metrics.pose import corner_error
from covis.evaluation.tables import markdown
from covis.images.decode import load_image
from covis.images.picture_files import pictures_below
from covis.options import Effort

ANGLES = tuple(range(0, 360, 30))
ZOOMS = (1.0, 1.5, 2.0, 3.0, 4.0)
CASES = [(angle, 1.0) for angle in ANGLES] + [(0, zoom) for zoom in ZOOMS[1:]]
"""Degrees and how many times smaller."""
TITLES = [f"{angle}°" for angle in ANGLES] + [f"1/{zoom:g}" for zoom in ZOOMS[1:]]
SOLVED_WITHIN = 5.0
CORRECT_WITHIN = 3.0


def read_pictures(size: int, every: int) -> list[NDArray[np.uint8]]:
    """Every so manyth of the sets' own pictures, RGB, longest side `size`."""
    found = []
    for path in pictures_below(DATA / "homography")[::every]:
        pixels = load_image(path).pixels
        factor = size / max(pixels.shape[:2])
        small = cv2.resize(pixels, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
        found.append(np.asarray(small, np.uint8))
    return found


def turned(
    picture: NDArray[np.uint8], angle: float, zoom: float
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """The picture turned and reduced, whole, and the homography to it; corners at (0, 0)."""
    height, width = picture.shape[:2]
    cos, sin = np.cos(np.radians(angle)) / zoom, np.sin(np.radians(angle)) / zoom
    new = np.ceil(np.abs([[cos, sin], [sin, cos]]) @ [width, height]).astype(int)
    matrix = np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1.0]])
    matrix[:2, 2] = new / 2 - matrix[:2, :2] @ [width / 2, height / 2]
    if zoom > 1:
        picture = np.asarray(
            cv2.GaussianBlur(picture, (0, 0), 0.45 * np.sqrt(zoom**2 - 1)), np.uint8
        )
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    drawn = cv2.warpPerspective(picture, np.linalg.inv(half) @ matrix @ half, new.tolist())
    return np.asarray(drawn, np.uint8), matrix


def measure(
    name: str, pictures: Sequence[NDArray[np.uint8]], threads: int | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Of features by name, for each of `CASES`: the share of pairs solved and, mean over pairs,
    of matches that are right."""
    find = finder(name, threads)
    solved, right = np.zeros(len(CASES)), np.zeros(len(CASES))
    for picture in pictures:
        height, width = picture.shape[:2]
        for case, (angle, zoom) in enumerate(CASES):
            other, matrix = turned(picture, angle, zoom)
            found = find(picture, other)
            points = found.points0[:, None].astype(np.float64)
            there = cv2.perspectiveTransform(points, matrix).reshape(-1, 2)
            close = np.linalg.norm(there - found.points1, axis=1) < CORRECT_WITHIN
            right[case] += close.mean() if len(close) else 0
            model = found.geometry.matrix
            if model is not None:
                solved[case] += corner_error(model, matrix, (width, height)) < SOLVED_WITHIN
    return solved / len(pictures), right / len(pictures)


def finder(
    name: str, threads: int | None
) -> Callable[[NDArray[np.uint8], NDArray[np.uint8]], Matches]:
    """What matches two pictures, and fits a homography."""
    if name in get_args(Effort):
        return partial(
            covis.match, effort=name, geometry="homography", max_keypoints=2048, threads=threads
        )
    extract = Extractor(name, max_keypoints=2048, threads=threads)
    match = Matcher("nearest", threads=threads)

    def find(picture: NDArray[np.uint8], other: NDArray[np.uint8]) -> Matches:
        features = extract(picture), extract(other)
        return covis.verify(match(*features), *features, "homography")

    return find


def run(arguments: argparse.Namespace) -> None:
    pictures = read_pictures(arguments.max_size, arguments.every)
    rows = []
    for name in arguments.features:
        shares = zip(*measure(name, pictures, arguments.threads), strict=True)
        rows.append([name, *(f"{100 * s:.0f}/{100 * r:.0f}" for s, r in shares)])
    print(f"{len(pictures)} pictures; solved / right matches, percent\n")
    print(markdown(["features", *TITLES], rows))


def main() -> int:
    options = common.parser(__doc__, "--threads", "--max-size")
    options.set_defaults(max_size=480)
    options.add_argument("--features", type=common.names, default=["xfeat", "sift"])
    options.add_argument("--every", type=int, default=3, help="take only every so manyth picture")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
