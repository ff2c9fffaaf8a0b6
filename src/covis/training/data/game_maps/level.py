"""Levels in Quake 3's format (IBSP, version 46), as triangles.

The file begins with "IBSP", the version and 17 lumps (offset, length). Read here: 0 entities as
text, 1 textures, 10 vertices, 11 triangles' vertices, 13 faces, 14 lightmaps. Faces of type 1
and 3 are triangles, those of type 2 grids of biquadratic patches, 4 billboards, which are left out.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from covis.errors import TrainingError
from covis.training.data.game_maps.archives import Archives

VERSION = 46
LUMPS = 17
ENTITIES, TEXTURES, VERTICES, CORNERS, FACES, LIGHTMAPS = 0, 1, 10, 11, 13, 14
POLYGON, PATCH, MESH = 1, 2, 3
SKY, NOT_DRAWN = 0x4, 0x80
"""Flags of a texture."""
LIGHTMAP = 128
"""Sides of a lightmap inside the file, in pixels."""
STEPS = 5
"""Into how many squares a side a patch is cut."""
_TEXTURE = np.dtype([("name", "S64"), ("flags", "<i4"), ("contents", "<i4")])
_VERTEX = np.dtype(
    [
        ("place", "<3f4"),
        ("picture", "<2f4"),
        ("light", "<2f4"),
        ("normal", "<3f4"),
        ("colour", "u1", 4),
    ]
)
_FACE = np.dtype(
    [
        ("texture", "<i4"),
        ("effect", "<i4"),
        ("type", "<i4"),
        ("vertex", "<i4"),
        ("vertices", "<i4"),
        ("corner", "<i4"),
        ("corners", "<i4"),
        ("lightmap", "<i4"),
        ("rest", "<i4", 16),
        ("size", "<i4", 2),
    ]
)
_STANDS = re.compile(r"(info_player|item_|weapon_|ammo_|team_|misc_teleporter_dest|holdable)")
"""Things that lie or stand where a player can be."""


@dataclass(frozen=True, eq=False)
class Level:
    """T triangles. Lengths are the game's units, some 2.5 cm each, z up.

    places: (T, 3, 3) float32. picture, light: (T, 3, 2), where in its texture and lightmap, 0..1
    once across. colours: (T, 3, 3), 0..1, the light where there is no lightmap. material: (T,),
    index in `materials`. lightmap: (T,), index in `lightmaps`, negative for none. sky: (T,) bool.
    lightmaps: (H, W, 3) uint8 each. stands: (N, 3), where one can stand.
    """

    places: NDArray[np.float32]
    picture: NDArray[np.float32]
    light: NDArray[np.float32]
    colours: NDArray[np.float32]
    material: NDArray[np.int32]
    lightmap: NDArray[np.int32]
    sky: NDArray[np.bool_]
    materials: list[str]
    lightmaps: list[NDArray[Any]]
    stands: NDArray[np.float32]


def read_level(archives: Archives, name: str) -> Level:
    """The level of an archive's file. Raises TrainingError when it is none."""
    data = archives.read(name)
    try:
        if data is None:
            raise ValueError("no such file")
        return _read(archives, name, data)
    except (ValueError, struct.error, IndexError) as error:
        raise TrainingError(f"{name}: not a level of version {VERSION} ({error}).") from None


def _read(archives: Archives, name: str, data: bytes) -> Level:
    magic, version = struct.unpack_from("<4si", data)
    if magic != b"IBSP" or version != VERSION:
        raise ValueError(f"it begins with {magic!r}, {version}")
    table = struct.unpack_from(f"<{2 * LUMPS}i", data, 8)
    lump = [data[begin : begin + size] for begin, size in zip(table[::2], table[1::2], strict=True)]
    textures = np.frombuffer(lump[TEXTURES], _TEXTURE)
    vertices = _columns(np.frombuffer(lump[VERTICES], _VERTEX))
    corners = np.frombuffer(lump[CORNERS], "<i4")
    parts: list[NDArray[np.float32]] = []
    owners: list[tuple[int, int]] = []
    for face in np.frombuffer(lump[FACES], _FACE):
        flags = textures["flags"][face["texture"]]
        if flags & NOT_DRAWN and not flags & SKY:
            continue
        triangles = _triangles(face, vertices, corners)
        parts.append(triangles)
        owners += [(int(face["texture"]), int(face["lightmap"]))] * len(triangles)
    if not owners:
        raise ValueError("it has no surfaces")
    all_, (texture, lightmap) = np.concatenate(parts), np.array(owners, np.int32).T
    names = [bytes(each).split(b"\0")[0].decode("latin-1").lower() for each in textures["name"]]
    return Level(
        places=np.ascontiguousarray(all_[..., :3]),
        picture=all_[..., 3:5],
        light=all_[..., 5:7],
        colours=all_[..., 7:],
        material=texture,
        lightmap=lightmap,
        sky=(textures["flags"][texture] & SKY) != 0,
        materials=names,
        lightmaps=_lightmaps(archives, name, lump[LIGHTMAPS]),
        stands=_stands(lump[ENTITIES].decode("latin-1")),
    )


def _columns(vertices: NDArray[Any]) -> NDArray[np.float32]:
    """(N, 10): place, place in the picture and the lightmap, colour."""
    parts = vertices["place"], vertices["picture"], vertices["light"]
    return np.concatenate([*parts, vertices["colour"][:, :3] / np.float32(255)], axis=1)


def _triangles(
    face: Any, vertices: NDArray[np.float32], corners: NDArray[Any]
) -> NDArray[np.float32]:
    """(T, 3, 10) of a face."""
    begin = face["vertex"]
    if face["type"] in (POLYGON, MESH):
        indices = corners[face["corner"] : face["corner"] + face["corners"]]
        return vertices[begin + indices.reshape(-1, 3)]
    if face["type"] != PATCH:
        return np.empty((0, 3, vertices.shape[1]), np.float32)
    width, height = face["size"]
    grid = vertices[begin : begin + width * height].reshape(height, width, -1)
    patches = [
        _patch(grid[y : y + 3, x : x + 3])
        for y in range(0, height - 2, 2)
        for x in range(0, width - 2, 2)
    ]
    return np.concatenate(patches)


def _patch(controls: NDArray[np.float32]) -> NDArray[np.float32]:
    """(3, 3, D) -> (2 STEPS^2, 3, D): a biquadratic patch cut into triangles."""
    t = np.linspace(0, 1, STEPS + 1, dtype=np.float32)
    weights = np.stack([(1 - t) ** 2, 2 * t * (1 - t), t**2], axis=1)
    grid = np.einsum("ui,vj,ijk->uvk", weights, weights, controls)
    a, b, c, d = grid[:-1, :-1], grid[1:, :-1], grid[:-1, 1:], grid[1:, 1:]
    halves = np.stack([a, b, c], axis=2), np.stack([c, b, d], axis=2)
    return np.concatenate(halves).reshape(-1, 3, controls.shape[-1])


def _lightmaps(archives: Archives, name: str, inside: bytes) -> list[NDArray[Any]]:
    """Those in the file, or, where there are none, those beside it."""
    if inside:
        return list(np.frombuffer(inside, np.uint8).reshape(-1, LIGHTMAP, LIGHTMAP, 3))
    found: list[NDArray[Any]] = []
    folder = name.removesuffix(".bsp")
    while (picture := archives.picture(f"{folder}/lm_{len(found):04}")) is not None:
        found.append(picture)
    return found


def _stands(entities: str) -> NDArray[np.float32]:
    places = []
    for block in re.findall(r"\{([^}]*)\}", entities):
        said = dict(re.findall(r'"([^"]+)"\s+"([^"]*)"', block))
        if "origin" in said and _STANDS.match(said.get("classname", "")):
            places.append([float(value) for value in said["origin"].split()[:3]])
    return np.array(places, np.float32).reshape(-1, 3)
