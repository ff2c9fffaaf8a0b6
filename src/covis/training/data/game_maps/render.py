"""Views of a level with exact depth, by casting rays on the CPU (Intel's Embree)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import TrainingError
from covis.training.data.game_maps.level import Level
from covis.training.data.game_maps.materials import Material, Materials, Pixels, mip_levels

FloatArray = NDArray[Any]
RAYS = 2
"""A pixel's side: so many rays squared are averaged."""
LIGHT, AMBIENT, BRIGHTEST = 2.2, 0.08, 2.0
"""What a lightmap is multiplied by, what is added, and the most that comes out."""
HORIZON, ZENITH = np.array([180.0, 190.0, 220.0]), np.array([120.0, 150.0, 210.0])
"""The colours of a sky, RGB."""
REMAP = 30_000
"""Samples at a time: OpenCV's remap takes fewer than 32,768 a row."""


@dataclass(frozen=True, eq=False)
class Camera:
    """A pinhole. size: (width, height) in pixels.

    intrinsics: (3, 3), the centre of the top-left pixel at (0, 0). pose: (4, 4), camera from
    world, x right, y down, z ahead.
    """

    size: tuple[int, int]
    intrinsics: FloatArray
    pose: FloatArray

    @property
    def centre(self) -> FloatArray:
        """(3,), in the world."""
        return -self.pose[:3, :3].T @ self.pose[:3, 3]

    def rays(self, points: FloatArray) -> FloatArray:
        """(N, 3), in the world, of length 1 along the camera's axis, through (N, 2) pixels."""
        seen = np.column_stack([points, np.ones(len(points))])
        return seen @ np.linalg.inv(self.intrinsics).T @ self.pose[:3, :3]


@dataclass(frozen=True, eq=False)
class View:
    """pixels: (H, W, 3) uint8, RGB. depth: (H, W) float32, along the camera's axis in the level's
    units at the pixels' centres; 0 for the sky and where there is nothing."""

    pixels: Pixels
    depth: FloatArray


class Wallpaper(NamedTuple):
    """A photograph put on all surfaces of a material by their places in the world, so that
    nothing repeats.

    levels: see `mip_levels`. side: of the photograph, in the level's units. offset: (3,). kept:
    how much of the material's own pattern shows through, 0..1.
    """

    levels: list[Pixels]
    side: float
    offset: FloatArray
    kept: float


class Hits(NamedTuple):
    """What rays met. triangle: (N,), negative for nothing. distance: (N,), in lengths of the rays.
    weights: (N, 3), of the triangle's corners."""

    triangle: NDArray[np.int32]
    distance: FloatArray
    weights: FloatArray


class Renderer:
    """Renders a level. Surfaces that are not drawn do not hide what is behind them."""

    def __init__(self, level: Level, materials: Materials) -> None:
        """Raises TrainingError without the package embreex."""
        try:
            from embreex.mesh_construction import TriangleMesh
            from embreex.rtcore_scene import EmbreeScene
        except ImportError:
            raise TrainingError(
                "Rendering scenes needs the package embreex: python -m pip install embreex"
            ) from None
        looks = [materials[name] for name in level.materials]
        sky = np.array([look == "sky" for look in looks])
        unseen = np.array([look == "unseen" for look in looks])
        keep = ~unseen[level.material] | level.sky
        self._looks: list[Material] = looks
        self._level = level
        self._index = np.flatnonzero(keep)
        self._sky = (sky[level.material] | level.sky)[self._index]
        self._scene = EmbreeScene()
        TriangleMesh(self._scene, np.ascontiguousarray(level.places[self._index]))
        self._wallpapers: dict[int, Wallpaper] = {}

    def hang(self, photos: list[Pixels], share: float, rng: np.random.Generator) -> None:
        """Put photographs (H, W, 3), RGB, on a `share` of the materials, others than before."""
        self._wallpapers = {}
        for number in range(len(self._looks)):
            if photos and rng.random() < share:
                self._wallpapers[number] = Wallpaper(
                    mip_levels(photos[rng.integers(len(photos))]),
                    side=float(rng.uniform(150, 600)),
                    offset=rng.uniform(0, 1000, 3),
                    kept=float(rng.choice([0.0, 0.5])),
                )

    def cast(self, centre: FloatArray, directions: FloatArray) -> Hits:
        """What rays from `centre` (3,) along (N, 3) meet first."""
        lengths = np.linalg.norm(directions, axis=1)
        there = np.ascontiguousarray(directions / lengths[:, None], np.float32)
        here = np.ascontiguousarray(np.broadcast_to(centre, there.shape), np.float32)
        found = self._scene.run(here, there, output=True)
        met = found["primID"]
        triangle = np.where(met >= 0, self._index[met], -1).astype(np.int32)
        u, v = found["u"], found["v"]
        return Hits(triangle, found["tfar"] / lengths, np.stack([1 - u - v, u, v], axis=1))

    def depth(self, camera: Camera, points: FloatArray) -> FloatArray:
        """(N,) along the camera's axis at (N, 2) pixels; 0 for the sky and for nothing."""
        hits = self.cast(camera.centre, camera.rays(points))
        return np.where(self._solid(hits), hits.distance, 0).astype(np.float32)

    def view(self, camera: Camera) -> View:
        """The level as the camera sees it."""
        width, height = camera.size
        steps = (np.arange(RAYS) + 0.5) / RAYS - 0.5
        x = (np.arange(width)[:, None] + steps).ravel()
        y = (np.arange(height)[:, None] + steps).ravel()
        rays = camera.rays(_grid(x, y))
        hits = self.cast(camera.centre, rays)
        colours = _sky(rays)
        solid = np.flatnonzero(self._solid(hits))
        samples = Hits(*(values[solid] for values in hits))
        # What a ray stands for at distance 1, as a part of the plane it crosses.
        pixel = 1 / (camera.intrinsics[0, 0] * RAYS) ** 2
        colours[solid] = self._colours(samples, rays[solid], camera.centre, pixel)
        colours = colours.reshape(height, RAYS, width, RAYS, 3).mean((1, 3))
        centres = _grid(np.arange(width, dtype=float), np.arange(height, dtype=float))
        depth = self.depth(camera, centres).reshape(height, width)
        return View(np.clip(colours, 0, 255).astype(np.uint8), depth)

    def _solid(self, hits: Hits) -> NDArray[np.bool_]:
        sky = np.zeros(len(self._level.material), bool)
        sky[self._index] = self._sky
        return (hits.triangle >= 0) & ~sky[hits.triangle]

    def _colours(
        self, hits: Hits, rays: FloatArray, centre: FloatArray, pixel: float
    ) -> FloatArray:
        """(N, 3), 0..255, of what rays met."""
        level, triangle = self._level, hits.triangle
        sides = level.places[triangle]
        normals = np.cross(sides[:, 1] - sides[:, 0], sides[:, 2] - sides[:, 0])
        area = np.linalg.norm(normals, axis=1) + 1e-9
        normals /= area[:, None]
        slant = np.abs((normals * rays).sum(1)) / np.linalg.norm(rays, axis=1) + 0.1
        covered = pixel * hits.distance**2 / slant
        picture = _weighted(level.picture, hits)
        corners = level.picture[triangle]
        edge0, edge1 = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
        stretch = np.abs(edge0[:, 0] * edge1[:, 1] - edge0[:, 1] * edge1[:, 0]) / area
        places = centre + rays * hits.distance[:, None]
        flat = _along_walls(places, normals)
        colours = np.empty((len(triangle), 3), np.float32)
        for number, here in _groups(level.material[triangle]):
            look, paper = self._looks[number], self._wallpapers.get(number)
            assert isinstance(look, list)
            own = _sample(look, picture[here], covered[here] * stretch[here])
            if paper is not None:
                at = (flat[here] + paper.offset[:2]) / paper.side
                photo = _sample(paper.levels, at, covered[here] / paper.side**2, mirrored=True)
                pattern = own / max(float(own.mean()), 1.0)
                own = photo * (1 - paper.kept + paper.kept * pattern)
            colours[here] = own
        light = _weighted(level.colours, hits)
        where = _weighted(level.light, hits)
        for number, here in _groups(level.lightmap[triangle]):
            if 0 <= number < len(level.lightmaps):
                light[here] = _sample([level.lightmaps[number]], where[here]) / 255
        return colours * np.clip(light * LIGHT + AMBIENT, 0, BRIGHTEST)


def _grid(x: FloatArray, y: FloatArray) -> FloatArray:
    """(N, 2), row by row."""
    return np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)


def _sky(rays: FloatArray) -> FloatArray:
    up = np.clip(rays[:, 2:] / np.linalg.norm(rays, axis=1, keepdims=True), 0, 1)
    return HORIZON + up * (ZENITH - HORIZON)


def _weighted(corners: FloatArray, hits: Hits) -> FloatArray:
    """(T, 3, D) at the corners -> (N, D) where the rays met."""
    return np.einsum("nc,ncd->nd", hits.weights, corners[hits.triangle])


def _along_walls(places: FloatArray, normals: FloatArray) -> FloatArray:
    """(N, 2): places without the axis that their surfaces face most."""
    facing = np.abs(normals).argmax(1)
    kept = np.array([[1, 2], [0, 2], [0, 1]])[facing]
    return np.take_along_axis(places, kept, axis=1)


def _groups(keys: NDArray[np.int32]) -> list[tuple[int, NDArray[np.intp]]]:
    """Each key and where it stands."""
    order = np.argsort(keys, kind="stable")
    found, begin = np.unique(keys[order], return_index=True)
    return list(zip(found.tolist(), np.split(order, begin[1:]), strict=True))


def _sample(
    levels: list[Pixels], at: FloatArray, covered: FloatArray | None = None, mirrored: bool = False
) -> FloatArray:
    """(N, 3): pictures at (N, 2) places, once across from 0 to 1, repeated or mirrored beyond.

    covered: (N,), the part of the picture that a sample stands for; None for none.
    """
    height, width = levels[0].shape[:2]
    level = np.zeros(len(at), int)
    if covered is not None:
        texels = np.maximum(covered * height * width, 1e-9)
        level = np.clip(np.rint(0.5 * np.log2(texels)), 0, len(levels) - 1).astype(int)
    at = 1 - np.abs(at % 2 - 1) if mirrored else at % 1
    result = np.empty((len(at), 3), np.float32)
    for number in np.unique(level):
        picture = levels[number]
        here = np.flatnonzero(level == number)
        pixels = (at[here] * picture.shape[1::-1] - 0.5).astype(np.float32)
        for begin in range(0, len(here), REMAP):
            part = slice(begin, begin + REMAP)
            result[here[part]] = cv2.remap(
                picture,
                pixels[part, 0][None],
                pixels[part, 1][None],
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT if mirrored else cv2.BORDER_WRAP,
            )[0]
    return result
