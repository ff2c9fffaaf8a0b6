"""How many pairs `covis match` solves whose look differs: drawings, night, snow, other sensors.

    python benchmarks/cross_modal.py
    python benchmarks/cross_modal.py same --half choose --effort fast
    covis weights get dinov2-small && python benchmarks/cross_modal.py dense

Photographs of ../shared/photos, halved: `choose` is the half that thresholds were chosen on,
`report` the other one.

same: 60 photographs of a half, each with a part of it that is seen at a slant, turned by up to 20
degrees and up to 1.6 times as large, one of both drawn in two of the MODES. Placed: the corners of
image 0 are, in the mean, within 3 % of image 1's diagonal of where they belong. Solved: called the
same, too.

different: each of these with the four of the half that show what is most alike (by the mean of
DINOv2's features; by XFeat's where it is not installed), and with two others, as they are and drawn
in a mode. frames: 150 pairs in one frame or on one poster, half of them with one drawn in a mode.
Counted are those that are called the same. Doubted: matched well enough for that, but not alike
laid over each other.

dense: by cells of DINOv2 ViT-S/14 alone, at 448 pixels. Homographies of mutual nearest cells within
3 and 15 %; of the cells of one picture those whose nearest lies within 1.5 cells of where it
belongs, of the same by the true homography, of different ones by that of the mutual nearest.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import common
import cv2
import numpy as np
from common import SHARED
from numpy.typing import NDArray

import covis
from covis.dense.features import VIT, DenseExtractor, DenseFeatures, choose_model, distinct
from covis.evaluation.tables import markdown
from covis.geometry import estimate_geometry
from covis.geometry.look_alikes import NOTE
from covis.images.decode import load_image
from covis.options import Effort

Pixels = NDArray[Any]
Half = Literal["choose", "report"]
QUOTA = {
    "bsds500": 24,
    "coco-train": 12,
    "imagenet-samples": 12,
    "urban100": 6,
    "kodak": 3,
    "wallpapers": 3,
}
"""Photographs of each folder that pairs are rendered from, in either half."""
SEED = 16
SIDE = 640
"""Longer side that photographs are shrunk to at most, in pixels."""
LEAST_SIDE = 240
MOST_SLENDER = 2.0
ROTATION, ZOOM, SLANT = 20.0, (1.1, 1.6), 0.12
"""Degrees; times; of the sides, by which a corner is moved."""
ALIKE, ANY = 4, 2
"""Other photographs that each is compared with."""
FRAMES, FRAME = 150, (640, 480)
"""Pairs of them; the size of one."""
PLACED, ROUGHLY = 0.03, 0.15
"""Of image 1's diagonal, by which corners are off at most."""
NEAR = 1.5
"""Cells, by which a nearest one is off at most."""
MEANS_SIDE = 224
"""Pixels at which photographs are looked at for what they show."""
PARTS = ("same", "different", "frames", "dense")


def grey_of(image: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), np.float32)


def noise(shape: tuple[int, ...], blur: float, rng: np.random.Generator) -> Pixels:
    """(h, w) of mean 0 and deviation 1, smooth."""
    made = cv2.GaussianBlur(rng.normal(size=shape[:2]).astype(np.float32), (0, 0), blur)
    return (made - made.mean()) / max(float(made.std()), 1e-6)


def outlines(image: Pixels, blur: float, sharp: float) -> Pixels:
    """(h, w) 0..1, 0 on lines: differences of Gaussians, thresholded softly (XDoG)."""
    grey = grey_of(image) / 255
    fine, coarse = (cv2.GaussianBlur(grey, (0, 0), blur * k) for k in (1, 1.6))
    return np.clip(1 + np.tanh(sharp * (fine - 0.98 * coarse - 0.002)), 0, 1)


def stacked(grey: Pixels) -> Pixels:
    return np.repeat(np.clip(grey, 0, 255).astype(np.uint8)[..., None], 3, axis=2)


def line_drawing(image: Pixels, rng: np.random.Generator) -> Pixels:
    return stacked(255 * outlines(image, rng.uniform(1.0, 1.8), rng.uniform(60, 150)))


def hatching(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Strokes in more directions the darker it is, and outlines."""
    grey = cv2.GaussianBlur(grey_of(image), (0, 0), 1.5)
    y, x = np.mgrid[: grey.shape[0], : grey.shape[1]]
    wobble = 2 * noise(grey.shape, 12, rng)
    paper = np.full(grey.shape, rng.uniform(225, 250), np.float32)
    for level, degrees in zip(np.quantile(grey, (0.75, 0.5, 0.25)), (45, 135, 0), strict=True):
        angle = np.radians(degrees + rng.uniform(-10, 10))
        across = x * np.cos(angle) + y * np.sin(angle) + wobble
        stroke = np.sin(across * 2 * np.pi / rng.uniform(4.5, 7)) > 0.35
        paper[stroke & (grey < level)] = rng.uniform(40, 90)
    return stacked(np.minimum(paper, 40 + 215 * outlines(image, 1.2, 60)))


def night(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Dark and blue, with noise, some lamps and what they light."""
    height, width = image.shape[:2]
    light = np.full((height, width), rng.uniform(0.05, 0.12), np.float32)
    y, x = np.mgrid[:height, :width]
    lamps = np.zeros((height, width), np.float32)
    for _ in range(int(rng.integers(2, 6))):
        place = rng.uniform(0, 1, 2) * (width, height)
        distance = np.hypot(x - place[0], y - place[1]) / max(height, width)
        light += rng.uniform(0.1, 0.35) * np.exp(-((distance / rng.uniform(0.06, 0.15)) ** 2))
        lamps += np.exp(-((distance / rng.uniform(0.006, 0.014)) ** 2))
    dark = (image / 255.0) ** rng.uniform(1.2, 1.8) * light[..., None]
    tinted = dark * np.array([0.75, 0.85, 1.35]) + lamps[..., None] * np.array([1, 0.9, 0.6])
    grain = rng.normal(0, rng.uniform(0.012, 0.025), image.shape)
    return np.clip(255 * (tinted + grain), 0, 255).astype(np.uint8)


def inverted(image: Pixels, rng: np.random.Generator) -> Pixels:
    return (255 - image) if rng.random() < 0.5 else stacked(255 - grey_of(image))


def thermal(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Another quantity for each colour, by a curve that rises and falls; coarse, false colours."""
    hue = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[..., 0] / 180.0
    grey = cv2.GaussianBlur(grey_of(image), (0, 0), rng.uniform(1.0, 2.0)) / 255
    knots = rng.permutation(np.linspace(0, 1, 6))
    heat = np.interp(grey, np.linspace(0, 1, 6), knots)
    heat = 0.8 * heat + 0.2 * (0.5 + 0.5 * np.sin(2 * np.pi * (hue + rng.random())))
    heat = cv2.GaussianBlur(heat.astype(np.float32), (0, 0), 1.0) + 0.03 * noise(grey.shape, 1, rng)
    level = np.clip(255 * heat, 0, 255).astype(np.uint8)
    if rng.random() < 0.5:
        return stacked(level)
    return cv2.cvtColor(cv2.applyColorMap(level, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB)


def snow(image: Pixels, rng: np.random.Generator) -> Pixels:
    """White where it was green, lit from above or rough, a pale sky, and flakes."""
    grey = grey_of(image) / 255
    red, green, blue = (image[..., n] / 255.0 for n in range(3))
    lit = cv2.Sobel(cv2.GaussianBlur(grey, (0, 0), 2), cv2.CV_32F, 0, 1)
    cover = 4 * (green - np.maximum(red, blue)) + 6 * np.maximum(lit, 0)
    cover += rng.uniform(0.2, 0.5) + 0.35 * noise(grey.shape, 10, rng)
    cover = cv2.GaussianBlur(np.clip(cover, 0, 1).astype(np.float32), (0, 0), 1.0)[..., None]
    ground = 0.88 + 0.05 * noise(grey.shape, 1.5, rng)[..., None]
    pale = (0.45 * image / 255 + 0.3 * grey[..., None]) * np.array([0.9, 0.97, 1.08]) + 0.08
    made = pale * (1 - cover) + ground * cover
    flakes = cv2.GaussianBlur((rng.random(grey.shape) < 0.004).astype(np.float32), (0, 0), 1.2)
    return np.clip(255 * (made + 4 * flakes[..., None]), 0, 255).astype(np.uint8)


def cartoon(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Few flat colours, all of another hue, and thick outlines."""
    flat = image
    for _ in range(4):
        flat = cv2.bilateralFilter(flat, 7, 50, 7)
    hsv = cv2.cvtColor(flat, cv2.COLOR_RGB2HSV).astype(np.float32)
    hsv[..., 0] = (hsv[..., 0] + rng.uniform(30, 150)) % 180
    hsv[..., 1] = np.clip(1.5 * hsv[..., 1] + 40, 0, 255)
    hsv[..., 2] = np.round(hsv[..., 2] / 64) * 64
    made = cv2.cvtColor(np.clip(hsv, 0, 255).astype(np.uint8), cv2.COLOR_HSV2RGB)
    return (made * outlines(image, 1.6, 80)[..., None]).astype(np.uint8)


def flat_map(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Areas of like colour in flat colours that have nothing to do with them, as on a map."""
    smooth = cv2.pyrMeanShiftFiltering(image, 12, 24)
    pixels = smooth.reshape(-1, 3).astype(np.float32)
    some = pixels[rng.integers(len(pixels), size=4000)]
    criteria = (cv2.TERM_CRITERIA_EPS + cv2.TERM_CRITERIA_MAX_ITER, 20, 1.0)
    cv2.setRNGSeed(1)
    count = int(rng.integers(5, 9))
    _, _, centres = cv2.kmeans(some, count, np.empty(0), criteria, 2, cv2.KMEANS_PP_CENTERS)
    labels = ((pixels[:, None] - centres) ** 2).sum(axis=2).argmin(axis=1)
    colours = rng.integers(120, 256, (count, 3)).astype(np.uint8)
    flat = cv2.medianBlur(labels.reshape(image.shape[:2]).astype(np.uint8), 5)
    edges = cv2.morphologyEx(flat, cv2.MORPH_GRADIENT, np.ones((2, 2), np.uint8)) > 0
    made = colours[flat]
    made[edges] = 90
    return made


def fog(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Thicker towards the top, as it is far away; blurred, with noise."""
    height, width = image.shape[:2]
    far = np.linspace(rng.uniform(0.92, 0.97), rng.uniform(0.8, 0.9), height)[:, None]
    thick = np.clip(far + 0.03 * noise((height, width), 40, rng), 0, 0.97)[..., None]
    veil = rng.uniform(170, 215) * np.array([0.98, 1.0, 1.02])
    soft = cv2.GaussianBlur(image, (0, 0), rng.uniform(1.0, 2.0))
    grain = rng.normal(0, 2.0, image.shape)
    return np.clip(soft * (1 - thick) + veil * thick + grain, 0, 255).astype(np.uint8)


def radar(image: Pixels, rng: np.random.Generator) -> Pixels:
    """Bright where the picture changes, with speckle."""
    grey = cv2.GaussianBlur(grey_of(image), (0, 0), 1.2)
    slope = np.hypot(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strength = 0.25 * (255 - grey) / 255 + np.minimum(slope / (np.quantile(slope, 0.95) + 1), 1.5)
    return stacked(150 * strength * rng.gamma(3, 1 / 3, grey.shape))


MODES: dict[str, Callable[[Pixels, np.random.Generator], Pixels]] = {
    "line drawing": line_drawing,
    "hatching": hatching,
    "night": night,
    "inverted": inverted,
    "thermal": thermal,
    "snow": snow,
    "cartoon": cartoon,
    "map": flat_map,
    "fog": fog,
    "radar": radar,
}


@dataclass(frozen=True, eq=False)
class Case:
    """Two pictures, RGB; what to call the pair; and (3, 3) from pixels of image 0 to image 1, None
    of two photographs."""

    group: str
    name: str
    image0: Pixels
    image1: Pixels
    truth: NDArray[np.float64] | None


@functools.lru_cache(maxsize=64)
def read(path: Path) -> Pixels:
    """A photograph, RGB, at most SIDE pixels."""
    pixels = load_image(path).pixels
    scale = min(SIDE / max(pixels.shape[:2]), 1)
    return cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)


def halves(photos: Path) -> dict[Half, list[Path]]:
    """The photographs of each half, in an order that is random and always the same."""
    paths = [path for folder in sorted(QUOTA) for path in sorted((photos / folder).iterdir())]
    order = np.random.default_rng(SEED).permutation(len(paths))
    shuffled = [paths[i] for i in order if paths[i].suffix in (".jpg", ".png", ".JPEG")]
    return {"choose": shuffled[::2], "report": shuffled[1::2]}


def rendered_from(half: list[Path]) -> list[Path]:
    """The photographs that pairs are rendered from."""
    chosen = []
    left = dict(QUOTA)
    for path in half:
        folder = path.parent.name
        if left[folder]:
            sides = read(path).shape[:2]
            if min(sides) >= LEAST_SIDE and max(sides) <= MOST_SLENDER * min(sides):
                left[folder] -= 1
                chosen.append(path)
    return chosen


def part_of(image: Pixels, rng: np.random.Generator) -> tuple[Pixels, NDArray[np.float64]]:
    """A part of a picture, seen at a slant, turned and enlarged, and the homography to it."""
    height, width = image.shape[:2]
    whole = np.array([width, height])
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float32)
    while True:
        side = whole / rng.uniform(*ZOOM)
        quad = side * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) / 2
        quad = quad * (1 + rng.uniform(-SLANT, SLANT, (4, 2)))
        angle = np.radians(rng.uniform(-ROTATION, ROTATION))
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        quad = quad @ turn + rng.uniform(side / 2, whole - side / 2)
        if (quad >= 0).all() and (quad <= whole).all():
            break
    matrix = cv2.getPerspectiveTransform(quad.astype(np.float32), corners)
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    drawn = cv2.warpPerspective(
        image,
        np.linalg.inv(half) @ matrix @ half,
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return drawn, np.asarray(matrix, np.float64)


def same(path: Path, mode: str, number: int) -> Case:
    """A photograph and a part of it, one of both drawn in a mode."""
    rng = np.random.default_rng([SEED, number, list(MODES).index(mode)])
    photo = read(path)
    part, matrix = part_of(photo, rng)
    if number % 2:
        inverse = np.asarray(np.linalg.inv(matrix), np.float64)
        return Case(mode, path.stem, part, MODES[mode](photo, rng), inverse)
    return Case(mode, path.stem, photo, MODES[mode](part, rng), matrix)


def framed(photo: Pixels, frame: Pixels, share: float) -> Pixels:
    """A photograph in the middle of another one, which is alike on both sides."""
    width, height = FRAME
    made = cv2.resize(frame, FRAME)
    made[:, width // 2 :] = made[:, : width - width // 2][:, ::-1]
    left, top = round(share * width), round(share * height)
    made[top : height - top, left : width - left] = cv2.resize(
        photo, (width - 2 * left, height - 2 * top)
    )
    return made


def poster(photo: Pixels, rng: np.random.Generator) -> Pixels:
    """A photograph below a heading and above some lines of text, the same for the same seed."""
    height, width = FRAME
    made = np.full((height, width, 3), rng.integers(150, 256, 3), np.uint8)
    margin, top, bottom = (int(rng.integers(*ends)) for ends in ((20, 50), (90, 150), (80, 160)))
    cv2.rectangle(made, (8, 8), (width - 8, height - 8), rng.integers(0, 120, 3).tolist(), 5)
    for line in range(5):
        heading = line < 2
        letters = rng.integers(65, 91, 10) if heading else rng.integers(97, 123, 24)
        place = margin, 40 + 32 * line if heading else height - bottom + 24 * line - 18
        font = int(rng.integers(0, 5)) if heading else 0
        cv2.putText(
            made,
            "".join(map(chr, letters)),
            place,
            font,
            1.0 if heading else 0.55,
            rng.integers(0, 140, 3).tolist(),
            2 if heading else 1,
            cv2.LINE_AA,
        )
    cv2.circle(made, (width - 60, 50), 25, rng.integers(0, 200, 3).tolist(), -1)
    inside = (width - 2 * margin, height - bottom - top)
    made[top : height - bottom, margin : width - margin] = cv2.resize(photo, inside)
    return made


def frame_pairs(half: list[Path]) -> Iterator[Case]:
    """Two photographs in one frame or on one poster, image 1 seen at a slant."""
    chosen, modes = rendered_from(half), list(MODES)
    for number in range(FRAMES):
        rng = np.random.default_rng([SEED, number, len(MODES)])
        paths = [chosen[i] for i in rng.permutation(len(chosen))[:3]]
        one, two, around = (read(path) for path in paths)
        kind, share, seed = number % 3, rng.uniform(0.1, 0.26), int(rng.integers(1 << 30))
        image0, image1 = (
            framed(photo, around, share) if kind else poster(photo, np.random.default_rng(seed))
            for photo in (one, two)
        )
        image1, _ = part_of(image1, rng)
        if number // 3 % 2:
            image1 = MODES[modes[number // 6 % len(modes)]](image1, rng)
        group = f"one {'frame' if kind else 'poster'}{', a mode' if number // 3 % 2 else ''}"
        yield Case(group, " ".join(path.stem for path in paths[:2]), image0, image1, None)


def same_pairs(half: list[Path]) -> Iterator[Case]:
    """Each photograph in two modes."""
    modes = list(MODES)
    for number, path in enumerate(rendered_from(half)):
        for step in (0, len(modes) // 2):
            yield same(path, modes[(number // 2 + step) % len(modes)], number)


def what_they_show(paths: list[Path]) -> NDArray[np.float32]:
    """(N, D), unit length: the mean descriptor of each photograph, without that of all."""
    describe = DenseExtractor(choose_model("discover")[0], lifts=0, max_size=MEANS_SIDE)
    means = np.array([describe(read(path)).descriptors.mean(axis=(0, 1)) for path in paths])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    means -= means.mean(axis=0)
    return means / np.linalg.norm(means, axis=1, keepdims=True)


def different_pairs(half: list[Path]) -> Iterator[Case]:
    """Each photograph with those most alike, and any; as they are, and in a mode."""
    means, modes = what_they_show(half), list(MODES)
    chosen = rendered_from(half)
    rng = np.random.default_rng([SEED, 1])
    index = {path: n for n, path in enumerate(half)}
    for number, path in enumerate(chosen):
        likeness = means @ means[index[path]]
        likeness[index[path]] = -np.inf
        alike = [half[i] for i in np.argsort(-likeness, kind="stable")[:ALIKE]]
        for count, other in enumerate(
            [*alike, *(half[i] for i in rng.permutation(len(half))[:ANY])]
        ):
            if other == path:
                continue
            group = "alike" if count < ALIKE else "any"
            name = f"{path.stem} {other.stem}"
            yield Case(group, name, read(path), read(other), None)
            mode = modes[(number + count) % len(modes)]
            drawn = MODES[mode](read(other), np.random.default_rng([SEED, number, count]))
            yield Case(f"{group}, a mode", name, read(path), drawn, None)


def off(matrix: NDArray[Any] | None, case: Case) -> float:
    """How far a homography puts the corners of image 0 from where they belong, in the mean, in
    diagonals of image 1."""
    if matrix is None or case.truth is None:
        return float("inf")
    height, width = case.image0.shape[:2]
    corners = np.array([[[0, 0], [width, 0], [width, height], [0, height]]], np.float64)
    there, truth = (cv2.perspectiveTransform(corners, m)[0] for m in (matrix, case.truth))
    away = np.linalg.norm(there - truth, axis=1).mean()
    return float(away / np.hypot(*case.image1.shape[:2]))


def by_group(
    cases: Iterator[Case], effort: Effort, threads: int | None
) -> list[tuple[str, Counter[str]]]:
    """What was counted of each group, and of all."""
    groups: dict[str, Counter[str]] = {}
    for number, case in enumerate(cases, 1):
        found = covis.match(
            case.image0, case.image1, geometry="homography", effort=effort, threads=threads
        )
        assert found.geometry is not None
        assert found.verdict is not None
        counted = groups.setdefault(case.group, Counter())
        counted["pairs"] += 1
        placed = off(found.geometry.matrix, case) < PLACED
        same = found.verdict.label == "same"
        counted["same"] += same
        counted["doubted"] += NOTE in found.geometry.note
        counted["solved"] += placed and same
        counted["placed, doubted"] += placed and NOTE in found.geometry.note
        counted["placed"] += placed
        print(f"\r{number} pairs", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return [*groups.items(), ("all", sum(groups.values(), Counter()))]


def print_counts(title: str, rows: list[tuple[str, Counter[str]]], columns: dict[str, str]) -> None:
    table = [[name, *(str(counted[key]) for key in columns.values())] for name, counted in rows]
    print(f"\n{title}\n\n{markdown([title, *columns], table)}")


def nearest_cells(
    one: DenseFeatures, two: DenseFeatures
) -> tuple[NDArray[np.float32], NDArray[np.intp], NDArray[np.intp]]:
    """Cosines (N, M) of all cells, and the nearest of each in the other."""
    cells = [each.descriptors.reshape(-1, each.descriptors.shape[2]) for each in (one, two)]
    alike = cells[0] @ cells[1].T
    return alike, alike.argmax(axis=1), alike.argmax(axis=0)


def by_cells(case: Case, one: DenseFeatures, two: DenseFeatures) -> tuple[float, float]:
    """How far the homography of mutual nearest cells is off; and the share of cells near to where
    the true one says, or else that one."""
    alike, to_two, to_one = nearest_cells(one, two)
    mutual = np.flatnonzero(to_one[to_two] == np.arange(len(to_two)))
    points0, points1 = (each.points.reshape(-1, 2) for each in (one, two))
    model = estimate_geometry(
        points0[mutual],
        points1[to_two[mutual]],
        "homography",
        size0=(one.width, one.height),
        size1=(two.width, two.height),
        threshold=NEAR * max(two.step),
        scores=alike[mutual, to_two[mutual]],
    )
    by = model.matrix if case.truth is None else case.truth
    if by is None:
        return float("inf"), 0.0
    belongs = cv2.perspectiveTransform(points0[None].astype(np.float64), by)[0]
    inside = ((belongs > 0) & (belongs < (two.width, two.height))).all(axis=1)
    away = np.linalg.norm((points1[to_two] - belongs) / two.step, axis=1)[inside]
    return off(model.matrix, case), float((away < NEAR).mean()) if len(away) else 0.0


def dense(half: list[Path], threads: int | None) -> None:
    """Print what cells alone tell."""
    describe = DenseExtractor(VIT, lifts=0, threads=threads)
    rows = []
    for title, cases in (("the same", same_pairs(half)), ("different", different_pairs(half))):
        found = []
        for case in cases:
            one, two = (distinct(describe(image)) for image in (case.image0, case.image1))
            found.append(by_cells(case, one, two))
        away, share = np.array(found).T
        within = [
            f"{100 * (away < limit).mean():.0f} %" if title == "the same" else ""
            for limit in (PLACED, ROUGHLY)
        ]
        shares = [f"{100 * each:.1f} %" for each in np.quantile(share, (0.5, 0.9, 0.99))]
        rows.append([title, str(len(found)), *within, *shares])
    limits = [f"within {100 * limit:.0f} %" for limit in (PLACED, ROUGHLY)]
    cells = ["cells near, median", "9 in 10 below", "99 in 100 below"]
    print(markdown(["dinov2-small", "pairs", *limits, *cells], rows))


def run(arguments: argparse.Namespace) -> None:
    common.check_known("part", arguments.parts, PARTS)
    half = halves(SHARED / "photos")[arguments.half]
    options = arguments.effort, arguments.threads
    if "same" in arguments.parts:
        columns = {
            "pairs": "pairs",
            "placed": "placed",
            "solved": "solved",
            "placed, but doubted": "placed, doubted",
        }
        print_counts("drawn in a mode", by_group(same_pairs(half), *options), columns)
    columns = {"pairs": "pairs", "the same": "same", "doubted": "doubted"}
    if "different" in arguments.parts:
        print_counts("different photographs", by_group(different_pairs(half), *options), columns)
    if "frames" in arguments.parts:
        print_counts("in one frame", by_group(frame_pairs(half), *options), columns)
    if "dense" in arguments.parts:
        dense(half, arguments.threads)


def options() -> argparse.ArgumentParser:
    made = common.parser(__doc__, "--threads")
    made.add_argument("parts", nargs="*", default=["same", "different", "frames"])
    made.add_argument("--half", choices=("choose", "report"), default="report")
    made.add_argument("--effort", choices=("fast", "auto", "thorough"), default="auto")
    return made


if __name__ == "__main__":
    sys.exit(common.main(run, options()))
