"""Photos of uneven walls that exist only as numbers: real texture, parallax, exact truth.

A wall is 3 by 2 metres, with a real photo on it, and hilly: smooth hills of 1 to 6 centimetres a
metre and blocks that stand out. Cameras with a lens without distortion stand around it, 2 to 3
metres away. Rays are cast and met with the wall to a tenth of a millimetre; photos have noise,
vignetting, different exposures, and are JPEGs.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from covis.geometry.absolute_pose import CalibratedCamera, Pose
from covis.types import FloatArray, Matrix

WIDTH, HEIGHT, FOCAL = 1080, 720, 1035.0
LENS = CalibratedCamera("PINHOLE", WIDTH, HEIGHT, (FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2))
COUNT = 8
FINER = 2
"""Rays a pixel along each side."""
TEXTURE = (1536, 1024)
PER_METRE = TEXTURE[0] / 3


def make_relief(pictures: Sequence[Path], folder: Path, seed: int) -> dict[str, Pose]:
    """Write the photos into a folder; the true poses by name.

    pictures: side by side on the wall, in two rows if there are more than one.
    """
    rng = np.random.default_rng(seed)
    texture, height = _texture(pictures), _hills(rng)
    folder.mkdir(parents=True, exist_ok=True)
    truth = {}
    for number, angle in enumerate(np.radians(np.linspace(-28, 28, COUNT))):
        name = f"{number:02}.jpg"
        away = rng.uniform(2, 3)
        centre = np.array(
            [away * np.sin(angle), rng.uniform(-0.5, 0.5), -away * np.cos(angle)]
        ) + rng.normal(0, 0.05, 3)
        aim = np.array([rng.uniform(-0.3, 0.3), rng.uniform(-0.15, 0.15), 0])
        rotation = _looking(aim - centre, np.radians(rng.uniform(-4, 4)))
        truth[name] = Pose(rotation, -rotation @ centre)
        gain, noise = rng.uniform(0.85, 1.15), rng.normal(0, 2, (HEIGHT, WIDTH, 3))
        if not (folder / name).is_file():
            seen = gain * _seen(texture, height, rotation, centre) * _vignetting()[..., None]
            pixels = np.clip(seen + noise, 0, 255).astype(np.uint8)
            cv2.imwrite(str(folder / name), pixels, [cv2.IMWRITE_JPEG_QUALITY, 93])
    return truth


def _texture(pictures: Sequence[Path]) -> FloatArray:
    rows = 1 if len(pictures) == 1 else 2
    columns = len(pictures) // rows
    size = TEXTURE[0] // columns, TEXTURE[1] // rows
    tiles = [
        cv2.resize(cv2.imread(str(path)), size, interpolation=cv2.INTER_CUBIC) for path in pictures
    ]
    lines = [np.hstack(tiles[row * columns : (row + 1) * columns]) for row in range(rows)]
    return np.vstack(lines).astype(np.float32)


def _hills(rng: np.random.Generator) -> FloatArray:
    """(h, w) metres by which the wall stands out."""
    shape = TEXTURE[::-1]
    hills = np.zeros(shape, np.float32)
    for width, high in ((120, 0.06), (40, 0.03), (15, 0.008)):
        noise = cv2.GaussianBlur(rng.normal(size=shape).astype(np.float32), (0, 0), width)
        hills += high * noise / noise.std()
    for _ in range(14):
        x, y = rng.integers(0, TEXTURE)
        wide, tall = rng.integers(60, 300, 2)
        hills[y : y + tall, x : x + wide] += rng.uniform(-0.08, 0.12)
    return cv2.GaussianBlur(hills, (0, 0), 2)


def _looking(ahead: Matrix, roll: float) -> Matrix:
    z = ahead / np.linalg.norm(ahead)
    x = np.cross([0, 1, 0], z)
    x /= np.linalg.norm(x)
    turn = np.array([[np.cos(roll), np.sin(roll), 0], [-np.sin(roll), np.cos(roll), 0], [0, 0, 1]])
    rotation: Matrix = turn @ np.array([x, np.cross(z, x), z])
    return rotation


def _vignetting() -> FloatArray:
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    squares = (x - WIDTH / 2) ** 2 + (y - HEIGHT / 2) ** 2
    return np.asarray(1 - 0.15 * squares / (WIDTH / 2) ** 2, np.float32)


def _seen(texture: FloatArray, height: FloatArray, rotation: Matrix, centre: Matrix) -> FloatArray:
    """What a camera sees of the wall, (HEIGHT, WIDTH, 3), its hills shaded."""
    y, x = np.mgrid[: HEIGHT * FINER, : WIDTH * FINER].astype(np.float32)
    pixels = [(x + 0.5) / FINER - WIDTH / 2, (y + 0.5) / FINER - HEIGHT / 2]
    rays = np.stack([*pixels, np.full_like(x, FOCAL)], axis=-1) @ rotation.astype(np.float32)
    rays /= rays[..., 2:]
    eye = centre.astype(np.float32)

    def look_up(values: FloatArray, depth: FloatArray, edge: int) -> FloatArray:
        """Values of the wall where rays come to a depth z."""
        across, down = (eye[i] + rays[..., i] * (depth - eye[2]) for i in (0, 1))
        columns = (across + 1.5) * PER_METRE - 0.5
        rows = (down + 1) * PER_METRE - 0.5
        return cv2.remap(
            values, columns, rows, cv2.INTER_LINEAR, borderMode=edge, borderValue=(90, 90, 90)
        )

    steps = np.linspace(-height.max() - 0.01, -height.min() + 0.01, 61, dtype=np.float32)
    before, behind = np.full_like(x, steps[0]), np.full_like(x, steps[-1])
    going = np.ones(x.shape, bool)
    for last, depth in itertools.pairwise(steps):
        met = going & (depth > -look_up(height, np.full_like(x, depth), cv2.BORDER_REPLICATE))
        before[met], behind[met] = last, depth
        going &= ~met
    for _ in range(8):
        middle = (before + behind) / 2
        inside = middle > -look_up(height, middle, cv2.BORDER_REPLICATE)
        before, behind = np.where(inside, before, middle), np.where(inside, middle, behind)
    slopes = [
        cv2.Sobel(height, cv2.CV_32F, *axis, scale=PER_METRE / 8) for axis in ((1, 0), (0, 1))
    ]
    lit = (1 + 0.5 * slopes[0] - 0.3 * slopes[1]) / np.sqrt(1 + slopes[0] ** 2 + slopes[1] ** 2)
    shade = look_up(np.clip(lit, 0.3, 1.4).astype(np.float32), before, cv2.BORDER_REPLICATE)
    found = look_up(texture, before, cv2.BORDER_CONSTANT) * shade[..., None]
    return cv2.resize(found, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
