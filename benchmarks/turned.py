"""Which pairs are solved when one picture is turned and zoomed, for several features.

    python benchmarks/turned.py --features xfeat,sift,edgepoint-e64 --size 480

Each picture of ../shared/data/homography is matched with itself turned by 12 angles and, upright,
reduced by up to 4. Mutual nearest neighbours of up to 2,048 features; solved is a pair whose
corners are found within 5 pixels, and its matches' rate is the share that is right within 3.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from covis import Extractor, Matcher
from covis.evaluation.metrics.pose import corner_error
from covis.geometry import estimate_geometry

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "homography"
ANGLES = tuple(range(0, 360, 30))
ZOOMS = (1.0, 1.5, 2.0, 3.0, 4.0)
SOLVED_WITHIN = 5.0
CORRECT_WITHIN = 3.0


def pictures(size: int) -> list[NDArray[np.uint8]]:
    """The sets' own pictures, longest side `size`."""
    found = []
    for path in sorted(p for p in DATA.rglob("*") if p.suffix in {".png", ".jpg", ".ppm", ".pgm"}):
        picture = cv2.imread(str(path))
        if picture is not None:
            factor = size / max(picture.shape[:2])
            small = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            found.append(np.asarray(small[:, :, ::-1], np.uint8))
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


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--features", default="xfeat,sift")
    parser.add_argument("--size", type=int, default=480)
    parser.add_argument("--every", type=int, default=3, help="take only every so manyth picture")
    options = parser.parse_args()
    chosen = pictures(options.size)[:: options.every]
    cases = [(angle, 1.0) for angle in ANGLES] + [(0, zoom) for zoom in ZOOMS[1:]]
    titles = [f"{angle}°" for angle in ANGLES] + [f"1/{zoom:g}" for zoom in ZOOMS[1:]]
    print(f"{len(chosen)} pictures; solved / right matches, percent")
    print("| features | " + " | ".join(titles) + " |")
    print("| --- " * (len(titles) + 1) + "|")
    match = Matcher("nearest")
    for name in options.features.split(","):
        extract = Extractor(name, max_keypoints=2048)
        solved, right = np.zeros(len(cases)), np.zeros(len(cases))
        for picture in chosen:
            features = extract(picture)
            height, width = picture.shape[:2]
            for case, (angle, zoom) in enumerate(cases):
                other, matrix = turned(picture, angle, zoom)
                found = match(features, extract(other))
                there = cv2.perspectiveTransform(
                    found.points0[:, None].astype(np.float64), matrix
                ).reshape(-1, 2)
                close = np.linalg.norm(there - found.points1, axis=1) < CORRECT_WITHIN
                right[case] += close.mean() if len(close) else 0
                sizes = {"size0": (width, height), "size1": (other.shape[1], other.shape[0])}
                model = estimate_geometry(
                    found.points0, found.points1, "homography", **sizes
                ).matrix
                if model is not None:
                    solved[case] += corner_error(model, matrix, (width, height)) < SOLVED_WITHIN
        shares = zip(solved / len(chosen) * 100, right / len(chosen) * 100, strict=True)
        print(f"| {name} | " + " | ".join(f"{s:.0f}/{r:.0f}" for s, r in shares) + " |", flush=True)


if __name__ == "__main__":
    main()
