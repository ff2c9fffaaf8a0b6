"""A street corner that exists only as code, seen twice: a pair of pictures with exact truth.

Every surface of the scene is a flat quad with a drawn texture, so what one camera sees maps to
the other by a homography per quad. The world is in metres: x right, y down, z forward, the
ground at y = 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError
from covis.types import BoolArray, Matrix

Pixels = NDArray[np.uint8]
Colour = tuple[int, int, int]
Rng = np.random.Generator

_OVERSAMPLING = 2
_FRAME: Colour = (238, 234, 222)
_INK: Colour = (36, 38, 44)
_PALETTES: tuple[tuple[Colour, ...], ...] = (
    ((244, 236, 214), (214, 76, 58), (28, 58, 92), (238, 176, 62)),
    ((30, 52, 66), (240, 226, 196), (226, 108, 72), (92, 164, 150)),
    ((248, 206, 92), (44, 44, 52), (204, 62, 74), (250, 244, 230)),
    ((196, 222, 214), (24, 74, 84), (232, 98, 88), (252, 250, 240)),
    ((226, 212, 236), (70, 44, 110), (246, 180, 70), (52, 130, 142)),
)
_HEADLINES = ("ECHO", "NOVA", "JAZZ 21", "OPERA", "LUNA", "FILM FEST", "VERTIGO", "ATLAS")


@dataclass(frozen=True, eq=False)
class DemoPair:
    """Two rendered pictures of one scene, and where each point went.

    image0, image1: (h, w, 3) uint8, RGB.
    """

    image0: Pixels
    image1: Pixels
    _quads: Sequence[_Quad] = field(repr=False)
    _camera0: _Camera = field(repr=False)
    _camera1: _Camera = field(repr=False)

    def to_view1(self, points0: NDArray[np.floating[Any]]) -> tuple[Matrix, BoolArray]:
        """Where points of image 0 lie in image 1.

        points0: (N, 2), (x, y), the centre of the top-left pixel at (0.5, 0.5).

        Returns (N, 2) float64 points in image 1, NaN for the sky, which has no place; and (N,)
        bool, True where the point is inside image 1 and nothing stands in front of it.
        """
        points0 = np.asarray(points0, np.float64).reshape(-1, 2)
        surface, inside, _ = _hit(self._quads, self._camera0, points0)
        points1 = np.full(points0.shape, np.nan)
        depth1 = np.full(len(points0), np.inf)
        for index, quad in enumerate(self._quads):
            on = surface == index
            points1[on], depth1[on] = _project(quad.seen_by(self._camera1), inside[on])
        _, _, nearest = _hit(self._quads, self._camera1, points1)
        height, width = self.image1.shape[:2]
        visible = (points1 >= 0).all(axis=1) & (points1 <= (width, height)).all(axis=1)
        visible &= (depth1 > 0) & (depth1 <= nearest * (1 + 1e-9))
        return points1, visible


@dataclass(frozen=True, eq=False)
class _Camera:
    """intrinsics K and rotation R, (3, 3), and the centre, (3,): x ~ K R (X - centre)."""

    intrinsics: Matrix
    rotation: Matrix
    centre: Matrix


@dataclass(frozen=True, eq=False)
class _Quad:
    """The parallelogram origin + a * right + b * down for a, b in 0..1, and what is on it."""

    origin: Matrix
    right: Matrix
    down: Matrix
    texture: Pixels
    shadowed: bool = True

    @property
    def inward(self) -> Matrix:
        """(3,) unit normal, away from whoever sees the front."""
        normal = np.cross(self.right, self.down)
        unit: Matrix = normal / np.linalg.norm(normal)
        return unit

    @property
    def corners(self) -> Matrix:
        """(4, 3), clockwise as seen."""
        across = self.origin + self.right
        return np.stack([self.origin, across, across + self.down, self.origin + self.down])

    def faces(self, camera: _Camera) -> bool:
        return bool(self.inward @ (self.origin - camera.centre) > 0)

    def seen_by(self, camera: _Camera) -> Matrix:
        """(3, 3) homography from (a, b) to pixels; its third coordinate is the depth."""
        columns = np.stack([self.right, self.down, self.origin - camera.centre], axis=1)
        return camera.intrinsics @ camera.rotation @ columns


@dataclass(frozen=True)
class _Light:
    """Where the sun stands, and how bright it and the sky are by channel."""

    to_sun: tuple[float, float, float]
    sun: tuple[float, float, float]
    sky: tuple[float, float, float]
    zenith: Colour
    horizon: Colour


_MORNING = _Light((-0.75, -0.85, -0.62), (0.86, 0.74, 0.56), (0.42, 0.45, 0.52),
                  (104, 152, 206), (238, 226, 204))  # fmt: skip
_EVENING = _Light((0.8, -0.6, -0.66), (0.62, 0.54, 0.48), (0.42, 0.47, 0.58),
                  (92, 122, 168), (214, 208, 212))  # fmt: skip


def render_demo(
    size: tuple[int, int] = (960, 720), seed: int = 0, baseline: float = 1.0
) -> DemoPair:
    """Render the street corner from two places, in morning and in evening light.

    size: (width, height) of each picture in pixels. seed: of everything drawn by chance; the
    same seed gives the same pictures. baseline: how far apart the two places are, 0 to 3; up to
    about 1 pairs are easy.

    Raises ArgumentError for sides below 64 pixels, a negative seed or a baseline out of range.
    """
    if min(size) < 64:
        raise ArgumentError(f"size is {size[0]}x{size[1]}; both sides must be at least 64 pixels.")
    if seed < 0:
        raise ArgumentError(f"seed is {seed}; it must not be negative.")
    if not 0 <= baseline <= 3:
        raise ArgumentError(f"baseline is {baseline}; it must lie in 0 to 3.")
    rng = np.random.default_rng(seed)
    quads = _street_corner(rng, density=size[0] / 6)
    camera0 = _camera(
        size, centre=(-1.3 * baseline, -1.65, 0.9), yaw=4 * baseline, pitch=4.5, roll=0
    )
    camera1 = _camera(
        size, centre=(1.3 * baseline, -1.8, 1.5), yaw=-11 * baseline, pitch=3.0, roll=-3.5
    )
    return DemoPair(
        _picture(quads, camera0, _MORNING, size, rng),
        _picture(quads, camera1, _EVENING, size, rng),
        quads,
        camera0,
        camera1,
    )


def _bytes(values: NDArray[np.floating[Any]]) -> Pixels:
    pixels: Pixels = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return pixels


# Geometry


def _camera(
    size: tuple[int, int], centre: tuple[float, float, float], yaw: float, pitch: float, roll: float
) -> _Camera:
    """yaw to the right, pitch upwards and roll clockwise, in degrees."""
    width, height = size
    focal = 0.9 * max(width, 4 / 3 * height)
    intrinsics = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    turns = np.radians([[0, 0, -roll], [-pitch, 0, 0], [0, -yaw, 0]])
    rotation: Matrix = np.linalg.multi_dot([cv2.Rodrigues(turn)[0] for turn in turns])
    return _Camera(intrinsics, rotation, np.array(centre))


def _project(homography: Matrix, points: Matrix) -> tuple[Matrix, Matrix]:
    """Points (N, 2) -> points (N, 2) and their third coordinates (N,)."""
    mapped = points @ homography[:, :2].T + homography[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return mapped[:, :2] / mapped[:, 2:], mapped[:, 2]


def _hit(
    quads: Sequence[_Quad], camera: _Camera, points: Matrix
) -> tuple[NDArray[np.intp], Matrix, Matrix]:
    """The first quad behind each pixel (N,), -1 for none; where on it (N, 2); its depth (N,)."""
    surface = np.full(len(points), -1)
    place = np.full(points.shape, np.nan)
    nearest = np.full(len(points), np.inf)
    for index, quad in enumerate(quads):
        if not quad.faces(camera):
            continue
        homography = quad.seen_by(camera)
        from_pixels = np.linalg.inv(homography).astype(np.float64)
        inside, _ = _project(from_pixels, points)
        _, depth = _project(homography, inside)
        closer = ((inside >= 0) & (inside <= 1)).all(axis=1) & (depth > 0) & (depth < nearest)
        surface[closer], place[closer], nearest[closer] = index, inside[closer], depth[closer]
    return surface, place, nearest


# Rendering


def _picture(
    quads: Sequence[_Quad], camera: _Camera, light: _Light, size: tuple[int, int], rng: Rng
) -> Pixels:
    width, height = size
    canvas = _sky(width * _OVERSAMPLING, height * _OVERSAMPLING, light, rng)
    for quad in quads:
        if quad.faces(camera):
            _paint(canvas, quad, camera, _lit(quad, quads, light))
    small: NDArray[Any] = cv2.resize(canvas, size, interpolation=cv2.INTER_AREA)
    x, y = np.linspace(-1, 1, width), np.linspace(-1, 1, height)
    vignette = 1 - 0.07 * (x**2 + y[:, None] ** 2)
    noisy = small * vignette[:, :, None] + rng.normal(0, 2, small.shape)
    return _bytes(noisy)


def _paint(canvas: Pixels, quad: _Quad, camera: _Camera, texture: Pixels) -> None:
    """Draw the quad over the canvas, its texture first brought to about the size it is seen."""
    to_canvas: Matrix = np.diag([_OVERSAMPLING, _OVERSAMPLING, 1.0]) @ quad.seen_by(camera)
    corners, _ = _project(to_canvas, np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64))
    x, y, width, height = cv2.boundingRect(corners.astype(np.float32))
    left, top = max(x - 1, 0), max(y - 1, 0)
    right = min(x + width + 1, canvas.shape[1])
    bottom = min(y + height + 1, canvas.shape[0])
    if left >= right or top >= bottom:
        return
    sides = np.linalg.norm(corners - np.roll(corners, -1, axis=0), axis=1)
    seen = np.maximum(sides[:2], sides[2:])
    stored = np.array([texture.shape[1], texture.shape[0]])
    texture_size = np.maximum(np.minimum(stored, np.rint(seen)), 1).astype(int)
    prefiltered = cv2.resize(texture, texture_size.tolist(), interpolation=cv2.INTER_AREA)
    to_texture = np.array(
        [[texture_size[0], 0, -0.5], [0, texture_size[1], -0.5], [0, 0, 1]]
    ) @ np.linalg.inv(to_canvas)
    from_window = np.array([[1, 0, left + 0.5], [0, 1, top + 0.5], [0, 0, 1.0]])
    window = canvas[top:bottom, left:right]
    seen_texture = cv2.warpPerspective(
        prefiltered,
        to_texture @ from_window,
        (right - left, bottom - top),
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REPLICATE,
    )
    mask = np.zeros(window.shape[:2], np.uint8)
    outline = np.rint((corners - (left + 0.5, top + 0.5)) * 256).astype(np.int32)
    cv2.fillConvexPoly(mask, outline, 255, shift=8)
    cv2.copyTo(seen_texture, mask, window)


def _lit(quad: _Quad, quads: Sequence[_Quad], light: _Light) -> Pixels:
    """The texture under sun and sky, with the shadows that other quads throw on it."""
    to_sun = np.array(light.to_sun) / np.linalg.norm(light.to_sun)
    facing = max(0.0, float(-quad.inward @ to_sun)) if quad.shadowed else 0.6
    height, width = (max(2, side // 4) for side in quad.texture.shape[:2])
    shade = np.ones((height, width), np.float32)
    if quad.shadowed and facing > 0:
        basis = np.linalg.inv(np.stack([quad.right, quad.down, to_sun], axis=1))
        for caster in quads:
            local = (caster.corners - quad.origin) @ basis.T
            sunward = local[:, 2].min() > -1e-6 and local[:, 2].max() > 1e-3
            if caster.shadowed and sunward:
                outline = np.clip(local[:, :2] * (width, height), -1e4, 1e4)
                cv2.fillConvexPoly(shade, np.rint(outline).astype(np.int32), 0.0, cv2.LINE_AA)
        shade = cv2.GaussianBlur(shade, (0, 0), 1.5)
    brightness = np.array(light.sky) + facing * shade[:, :, None] * np.array(light.sun)
    size = quad.texture.shape[1::-1]
    smooth = cv2.resize(brightness.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    lit: NDArray[Any] = cv2.multiply(quad.texture, smooth, dtype=cv2.CV_8U)
    return lit


def _sky(width: int, height: int, light: _Light, rng: Rng) -> Pixels:
    down = np.clip(np.linspace(0, 1.7, height // 4), 0, 1)[:, None, None]
    blue: Matrix = np.array(light.zenith) * (1 - down) + np.array(light.horizon) * down
    clouds = np.clip(0.3 * _noise(height // 4, width // 4, width / 14, rng), 0, 0.6)[:, :, None]
    sky = _bytes(blue * (1 - clouds) + 246.0 * clouds)
    smooth: NDArray[Any] = cv2.resize(sky, (width, height), interpolation=cv2.INTER_CUBIC)
    return smooth


# The scene


def _street_corner(rng: Rng, density: float) -> list[_Quad]:
    """Back to front. density: texture pixels a metre where the cameras come close."""
    height = 4.9
    quads = [_quad((-16, -4.2, 26), (34, 0, 0), (0, 4.2, 0), _skyline(rng, density / 4), False)]
    table = rng.normal(0, 1, (64, 128)).astype(np.float32)
    for far, near in ((28, 17), (17, 11), (11, 7.5), (7.5, 5), (5, 3.2)):
        half = 0.62 * far + 3
        texture = _paving(table, far, near, half, min(density, 6 * density / near), rng)
        quads.append(_quad((-half, 0, far), (2 * half, 0, 0), (0, 0, near - far), texture))
    left, right = _brick_house(rng, density, height), _plaster_house(rng, density, height)
    quads.append(_quad((-8, -height, 12.6), (8, 0, -4), (0, height, 0), left))
    quads.append(_quad((0, -height, 8.6), (6.6, 0, 4.4), (0, height, 0), right))
    quads += _kiosk(rng, density)
    board = _blackboard(rng, density * 1.5)
    quads.append(_quad((1.25, -1.15, 6.3), (0.8, 0, 0.18), (0.05, 1.15, -0.22), board))
    return quads


def _quad(
    origin: tuple[float, float, float],
    right: tuple[float, float, float],
    down: tuple[float, float, float],
    texture: Pixels,
    shadowed: bool = True,
) -> _Quad:
    return _Quad(
        np.array(origin, np.float64),
        np.array(right, np.float64),
        np.array(down, np.float64),
        texture,
        shadowed,
    )


def _kiosk(rng: Rng, density: float) -> list[_Quad]:
    """An advertising pillar of square section, turned by 30 degrees."""
    side, height = 1.1, 2.45
    along = side * np.array([np.cos(np.pi / 6), 0, -np.sin(np.pi / 6)])
    across = side * np.array([np.sin(np.pi / 6), 0, np.cos(np.pi / 6)])
    front = np.array([-2.9, -height, 7.3])
    down = np.array([0, height, 0])
    return [
        _Quad(origin, axis, down, _pillar_face(rng, density * 1.4, side, height))
        for origin, axis in (
            (front + along + across, -along),
            (front + across, -across),
            (front + along, across),
            (front, along),
        )
    ]


# Textures. Positions on a board are in metres from its top left.


class _Board:
    """A texture being drawn in metres."""

    def __init__(self, pixels: Pixels, density: float) -> None:
        self.pixels = pixels
        self.density = density

    def _at(self, *metres: float) -> list[int]:
        return [round(m * self.density) for m in metres]

    def box(self, x: float, y: float, width: float, height: float, colour: Colour) -> None:
        left, top, right, bottom = self._at(x, y, x + width, y + height)
        self.pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = colour

    def shade(self, x: float, y: float, width: float, height: float, factor: float) -> None:
        left, top, right, bottom = self._at(x, y, x + width, y + height)
        part = self.pixels[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)]
        part[:] = np.minimum(part * factor, 255).astype(np.uint8)

    def disc(self, x: float, y: float, radius: float, colour: Colour) -> None:
        cx, cy, r = self._at(x, y, radius)
        cv2.circle(self.pixels, (cx, cy), r, colour, -1, cv2.LINE_AA)

    def polygon(self, corners: Sequence[tuple[float, float]], colour: Colour) -> None:
        outline = np.array([self._at(*corner) for corner in corners], np.int32)
        cv2.fillPoly(self.pixels, [outline], colour, cv2.LINE_AA)

    def text(
        self, words: str, x: float, y: float, height: float, colour: Colour, width: float = 9
    ) -> None:
        """`words` centred on (x, y), as high as said or as small as the width asks."""
        font = cv2.FONT_HERSHEY_DUPLEX
        (natural, tall), _ = cv2.getTextSize(words, font, 1, 2)
        scale = min(height / tall, width / natural) * self.density
        thickness = max(1, round(2.2 * scale))
        cx, cy = self._at(x, y)
        corner = (round(cx - natural * scale / 2), round(cy + tall * scale / 2))
        cv2.putText(self.pixels, words, corner, font, scale, colour, thickness, cv2.LINE_AA)


def _noise(height: int, width: int, coarsest: float, rng: Rng) -> NDArray[np.float32]:
    """(height, width) of about unit deviation, smooth over `coarsest` pixels, with detail."""
    total = np.zeros((height, width), np.float32)
    cell, weight = coarsest, 0.75
    while cell > 2 and weight > 0.1:
        grid = rng.normal(0, weight, (int(height / cell) + 3, int(width / cell) + 3))
        total += cv2.resize(grid.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
        cell, weight = cell / 2.5, weight * 0.62
    return total


def _masonry(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    brick: tuple[float, float],
    joint: float,
    table: NDArray[np.float32],
    offset: float,
) -> tuple[NDArray[np.float32], BoolArray]:
    """A value for each brick of a wall, drawn from `table`, and where the joints are.

    x (w,) and y (h,) in metres; brick is its (length, height); every other row is moved by
    `offset` bricks.
    """
    row = np.floor(y / brick[1])
    along = x[None, :] / brick[0] + offset * (row[:, None] % 2)
    column = np.floor(along)
    rows, columns = table.shape
    value = table[row.astype(int)[:, None] % rows, column.astype(int) % columns]
    gap = (along - column) * brick[0] < joint
    gap |= ((y - row * brick[1]) < joint)[:, None]
    return value, gap


def _metres(length: float, density: float) -> NDArray[np.float32]:
    return (np.arange(round(length * density), dtype=np.float32) + 0.5) / np.float32(density)


def _wall(
    tone: NDArray[np.float32], base: Colour, spread: Colour, gap: BoolArray, joint: Colour
) -> Pixels:
    pixels = np.array(base, np.float32) + tone[:, :, None] * np.array(spread, np.float32)
    pixels[gap] = np.array(joint, np.float32) + 5 * tone[gap][:, None]
    return _bytes(pixels)


def _brick_house(rng: Rng, density: float, height: float) -> Pixels:
    width = float(np.hypot(8, 4))
    table = rng.normal(0, 1, (61, 47)).astype(np.float32)
    x, y = _metres(width, density), _metres(height, density)
    tone, gap = _masonry(x, y, (0.27, 0.095), 0.014, table, 0.5)
    tone = tone + 0.8 * _noise(len(y), len(x), density, rng)
    board = _Board(_wall(tone, (160, 88, 66), (17, 13, 11), gap, (186, 174, 158)), density)
    _cornice(board, width)
    for x0 in (0.7, 2.75, 4.8, 6.85):
        _window(board, x0, 0.72, 1.05, 1.35, rng, shutters=(52, 92, 82))
    board.box(0, 2.45, width, 0.09, (212, 200, 178))
    _shop_front(board, 4.55, 2.75, 3.9, "BAKERY & CO", (36, 74, 66), (246, 226, 170), rng)
    _door(board, 3.1, 2.95, 1.0, (122, 44, 40), "14")
    _window(board, 0.55, 2.95, 1.7, 1.15, rng)
    _base(board, width, height)
    return board.pixels


def _plaster_house(rng: Rng, density: float, height: float) -> Pixels:
    width = float(np.hypot(6.6, 4.4))
    shape = round(height * density), round(width * density)
    tone = _noise(*shape, density * 1.6, rng) + rng.normal(0, 0.25, shape).astype(np.float32)
    none = np.zeros(shape, bool)
    board = _Board(_wall(tone, (222, 196, 142), (9, 10, 11), none, _INK), density)
    _cornice(board, width)
    for row in range(9):
        for x0, step in ((0.0, 1), (width - 0.5, 0)):
            long = 0.5 if (row + step) % 2 else 0.34
            start = x0 if step else width - long
            board.box(start, 0.5 + 0.5 * row, long, 0.47, (204, 190, 166))
            board.shade(start, 0.93 + 0.5 * row, long, 0.04, 0.75)
    for x0 in (0.95, 2.95, 5.0):
        _window(board, x0, 0.75, 1.1, 1.35, rng, shutters=(84, 108, 136))
    _shop_front(board, 0.75, 2.65, 3.3, "CAFE NORD", (126, 46, 44), (250, 236, 206), rng)
    for index, x0 in enumerate((4.4, 5.25, 6.1)):
        _poster(board, x0, 2.75 + 0.06 * (index % 2), 0.75, 1.1, rng)
    board.box(4.4, 4.02, 2.5, 0.2, (38, 66, 104))
    board.text("LONG STREET", 5.65, 4.12, 0.11, (240, 240, 236))
    _base(board, width, height)
    return board.pixels


def _cornice(board: _Board, width: float) -> None:
    for y, height, grey in ((0, 0.16, 226), (0.16, 0.1, 204), (0.26, 0.08, 216), (0.34, 0.03, 120)):
        board.box(0, y, width, height, (grey, grey - 6, grey - 18))
    for x in np.arange(0.08, width, 0.3):
        board.box(float(x), 0.17, 0.14, 0.09, (158, 150, 136))
    board.shade(0, 0.37, width, 0.1, 0.72)


def _base(board: _Board, width: float, height: float) -> None:
    board.box(0, height - 0.42, width, 0.42, (84, 82, 80))
    for index, x in enumerate(np.arange(0, width, 0.62)):
        grey = 128 + 13 * (index * 7 % 5 - 2)
        board.box(float(x), height - 0.42, 0.6, 0.42, (grey, grey - 3, grey - 8))
    board.shade(0, height - 0.42, width, 0.03, 0.6)
    board.shade(0, height - 0.06, width, 0.06, 0.6)


def _window(
    board: _Board,
    x: float,
    y: float,
    width: float,
    height: float,
    rng: Rng,
    shutters: Colour | None = None,
) -> None:
    board.shade(x - 0.1, y - 0.06, width + 0.26, height + 0.18, 0.7)
    board.box(x - 0.09, y - 0.1, width + 0.18, height + 0.2, (212, 202, 184))
    board.box(x, y, width, height, _FRAME)
    _glass(board, x + 0.06, y + 0.06, width - 0.12, height - 0.12, rng)
    board.box(x + width / 2 - 0.03, y, 0.06, height, _FRAME)
    board.box(x, y + 0.34 * height, width, 0.05, _FRAME)
    board.box(x - 0.15, y + height + 0.06, width + 0.3, 0.09, (226, 218, 204))
    board.shade(x - 0.15, y + height + 0.15, width + 0.3, 0.05, 0.6)
    if shutters is None:
        return
    for left in (x - 0.44, x + width + 0.09):
        board.box(left, y - 0.04, 0.35, height + 0.1, shutters)
        for slat in np.arange(y + 0.05, y + height - 0.06, 0.075):
            board.shade(left + 0.05, float(slat), 0.25, 0.03, 0.62)
    _flowers(board, x, y + height - 0.1, width, rng)


def _glass(board: _Board, x: float, y: float, width: float, height: float, rng: Rng) -> None:
    steps = 12
    for step in range(steps):
        part = step / steps
        colour = (round(52 + 62 * part), round(70 + 62 * part), round(90 + 52 * part))
        board.box(x, y + part * height, width, height / steps + 0.01, colour)
    slant = float(rng.uniform(0.2, 0.6)) * width
    left = x + float(rng.uniform(0, 0.3)) * width
    right = min(left + 0.25 * width, x + width)
    board.polygon(
        [(min(left + slant, x + width), y), (min(right + slant, x + width), y),
         (right, y + height), (left, y + height)],
        (148, 168, 182),
    )  # fmt: skip
    curtain = float(rng.uniform(0.12, 0.3)) * width
    for start in (x, x + width - curtain):
        board.box(start, y, curtain, height * 0.9, (216, 208, 190))
        for fold in np.arange(start + 0.03, start + curtain, 0.07):
            board.shade(float(fold), y, 0.025, height * 0.9, 0.8)


def _flowers(board: _Board, x: float, y: float, width: float, rng: Rng) -> None:
    board.box(x, y + 0.05, width, 0.17, (112, 74, 50))
    for kind, count in (("leaf", 60), ("flower", 34)):
        for _ in range(count):
            green = int(rng.integers(70, 140))
            petals = ((222, 60, 74), (244, 196, 66), (236, 130, 160))
            colour = (green // 2, green, 48) if kind == "leaf" else petals[int(rng.integers(3))]
            at = x + float(rng.uniform(0, width)), y + float(rng.uniform(-0.12, 0.1))
            board.disc(*at, 0.036 if kind == "leaf" else 0.026, colour)


def _door(board: _Board, x: float, y: float, width: float, colour: Colour, number: str) -> None:
    height = 4.9 - y
    board.box(x - 0.12, y - 0.14, width + 0.24, height + 0.14, (214, 204, 186))
    board.shade(x, y, width, height, 0.4)
    board.box(x + 0.03, y + 0.04, width - 0.06, height, colour)
    for column in (0.12, 0.54):
        for row, tall in ((0.5, 0.5), (1.1, 0.55)):
            board.shade(x + column * width, y + row, 0.34 * width, tall, 0.66)
            board.shade(x + column * width + 0.03, y + row + 0.03, 0.34 * width - 0.05,
                        tall - 0.05, 1.6)  # fmt: skip
    board.box(x + 0.12 * width, y + 0.14, 0.76 * width, 0.26, (92, 112, 126))
    board.text(number, x + width / 2, y + 0.27, 0.16, (250, 240, 210))
    board.disc(x + 0.88 * width, y + 1.08, 0.035, (222, 188, 96))


def _shop_front(
    board: _Board,
    x: float,
    y: float,
    width: float,
    name: str,
    colour: Colour,
    letters: Colour,
    rng: Rng,
) -> None:
    """Ends at the ground, 4.9 metres down."""
    board.box(x - 0.1, y, width + 0.2, 4.9 - y, colour)
    board.box(x - 0.04, y + 0.06, width + 0.08, 0.4, letters)
    board.box(x - 0.01, y + 0.09, width + 0.02, 0.34, colour)
    board.text(name, x + width / 2, y + 0.26, 0.2, letters, width - 0.4)
    panes = 3
    pane = width / panes
    for index in range(panes):
        left = x + index * pane + 0.05
        board.box(left, y + 0.56, pane - 0.1, 1.1, letters)
        _glass(board, left + 0.04, y + 0.6, pane - 0.18, 1.02, rng)
        for shelf in (1.1, 1.45):
            board.box(left + 0.04, y + shelf, pane - 0.18, 0.035, (150, 110, 70))
            for _ in range(7):
                goods = left + 0.1 + float(rng.uniform(0, pane - 0.34))
                tall = float(rng.uniform(0.07, 0.2))
                tint = _PALETTES[int(rng.integers(len(_PALETTES)))][int(rng.integers(4))]
                board.box(goods, y + shelf - tall, 0.1, tall, tint)
    stripes = int(width / 0.2)
    for stripe in range(stripes):
        tint = (246, 240, 226) if stripe % 2 else colour
        left, right = (x + width * (stripe + side) / stripes for side in (0, 1))
        board.box(left, y + 0.5, right - left, 0.2, tint)
        board.disc((left + right) / 2, y + 0.7, (right - left) / 2, tint)
    board.shade(x, y + 0.8, width, 0.08, 0.7)


def _poster(board: _Board, x: float, y: float, width: float, height: float, rng: Rng) -> None:
    """Shapes in four colours, a headline and lines of small print."""
    paper, dark, accent, other = _PALETTES[int(rng.integers(len(_PALETTES)))]
    board.shade(x + 0.02, y + 0.02, width + 0.015, height + 0.015, 0.6)
    board.box(x, y, width, height, paper)
    for index in range(int(rng.integers(6, 10))):
        tint = (dark, accent, other)[index % 3]
        cx = x + width * float(rng.uniform(0.2, 0.8))
        cy = y + height * float(rng.uniform(0.18, 0.58))
        reach = width * float(rng.uniform(0.06, 0.2))
        match int(rng.integers(4)):
            case 0:
                board.disc(cx, cy, reach, tint)
                board.disc(cx, cy, reach * 0.55, paper)
            case 1:
                board.disc(cx, cy, reach, tint)
            case 2:
                turn = float(rng.uniform(0, 2 * np.pi))
                angles = [turn + k * 2 * np.pi / 3 for k in range(3)]
                board.polygon(
                    [(cx + reach * np.cos(a), cy + reach * np.sin(a)) for a in angles], tint
                )
            case _:
                for bar in range(4):
                    board.box(cx - reach, cy + (bar - 2) * reach / 2, 2 * reach, reach / 4, tint)
    headline = _HEADLINES[int(rng.integers(len(_HEADLINES)))]
    board.box(x, y + 0.74 * height, width, 0.26 * height, dark)
    board.text(headline, x + width / 2, y + 0.82 * height, 0.1 * height, paper, 0.84 * width)
    date = f"{int(rng.integers(1, 29))}.{int(rng.integers(1, 13))}. - {int(rng.integers(17, 23))} h"
    board.text(date, x + width / 2, y + 0.935 * height, 0.05 * height, accent, 0.7 * width)
    board.text("presents", x + width * 0.3, y + 0.07 * height, 0.04 * height, dark, 0.4 * width)


def _pillar_face(rng: Rng, density: float, width: float, height: float) -> Pixels:
    shape = round(height * density), round(width * density)
    tone = _noise(*shape, density / 2, rng)
    board = _Board(_wall(tone, (92, 116, 108), (6, 7, 7), np.zeros(shape, bool), _INK), density)
    board.box(0, 0, width, 0.2, (40, 72, 66))
    board.text("CITY INFO", width / 2, 0.1, 0.09, (244, 232, 190))
    board.box(0, 0.2, width, 0.03, (206, 178, 98))
    _poster(board, 0.05, 0.28, 0.62, 0.92, rng)
    _poster(board, 0.7, 0.26, 0.4, 0.56, rng)
    _poster(board, 0.71, 0.86, 0.39, 0.55, rng)
    _poster(board, 0.06, 1.25, 0.45, 0.66, rng)
    _poster(board, 0.55, 1.46, 0.55, 0.6, rng)
    board.box(0, height - 0.32, width, 0.32, (52, 62, 62))
    board.shade(0, height - 0.32, width, 0.03, 0.5)
    return board.pixels


def _blackboard(rng: Rng, density: float) -> Pixels:
    width, height = 0.8, 1.2
    shape = round(height * density), round(width * density)
    tone = _noise(*shape, density / 4, rng)
    board = _Board(_wall(tone, (46, 52, 50), (6, 6, 6), np.zeros(shape, bool), _INK), density)
    chalk = (236, 232, 220)
    board.text("TODAY", 0.4, 0.2, 0.13, (244, 204, 108), 0.6)
    for line, dish in enumerate(("soup 4.50", "quiche 6.20", "apple cake 3.80", "coffee 2.40")):
        board.text(dish, 0.4, 0.44 + 0.15 * line, 0.075, chalk, 0.62)
    board.disc(0.4, 1.03, 0.07, (214, 108, 92))
    board.disc(0.4, 1.03, 0.04, (46, 52, 50))
    wood = (162, 116, 70)
    for y in (0, height - 0.05):
        board.box(0, y, width, 0.05, wood)
    for x in (0, width - 0.05):
        board.box(x, 0, 0.05, height, wood)
    return board.pixels


def _paving(
    table: NDArray[np.float32], far: float, near: float, half: float, density: float, rng: Rng
) -> Pixels:
    """From `far` to `near` in z, seen from above with far at the top, 2 * half wide."""
    x, y = _metres(2 * half, density), _metres(far - near, density)
    tone, gap = _masonry(x + (40 - half), far - y, (0.62, 0.42), 0.022, table, 0.5)
    tone = tone + 0.9 * _noise(len(y), len(x), density, rng)
    tone += rng.normal(0, 0.4, tone.shape).astype(np.float32)
    return _wall(tone, (158, 150, 140), (10, 10, 10), gap, (96, 90, 84))


def _skyline(rng: Rng, density: float) -> Pixels:
    width, height = 34.0, 4.2
    shape = round(height * density), round(width * density)
    board = _Board(np.full((*shape, 3), (176, 170, 164), np.uint8), density)
    x = 0.0
    while x < width:
        wide = float(rng.uniform(2.2, 3.8))
        tint = np.array([178, 160, 142]) + rng.integers(-26, 26, 3)
        red, green, blue = (int(channel) for channel in tint)
        board.box(x, 0, wide, height, (red, green, blue))
        board.box(x, 0, wide, 0.3, (132, 74, 58))
        for row in np.arange(0.7, height - 0.8, 1.05):
            for column in np.arange(x + 0.3, x + wide - 0.5, 0.75):
                board.box(float(column), float(row), 0.42, 0.65, _FRAME)
                board.box(float(column) + 0.05, float(row) + 0.05, 0.32, 0.55, (86, 98, 112))
        x += wide
    return board.pixels
