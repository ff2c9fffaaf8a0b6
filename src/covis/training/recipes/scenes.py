"""Make pairs of views with real depth and occlusion: levels of games, photographs on their walls.

Written in MegaDepth's layout (see `training.data.scenes`), PART pairs a scene_info file, so that
a run that was stopped goes on with the next part, and several may fill one folder with different
seeds.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import h5py
import numpy as np
from numpy.typing import NDArray

from covis.errors import TrainingError
from covis.files.atomic import replacing, write_arrays
from covis.training.data.game_maps import Archives, Renderer, read_level
from covis.training.data.game_maps.archives import open_games
from covis.training.data.game_maps.materials import Materials
from covis.training.data.game_maps.places import Layout, Pair, find_pair
from covis.training.data.photos import load_photos, photos_below

PART = 25
"""Pairs of one scene_info file."""
PER_LEVEL = 2
"""Pairs of a level before another is drawn."""
PHOTOS = 200
"""Photographs held in memory at a time."""
PAPERED = 0.6
"""The share of materials that photographs are put on."""
QUALITY = 95
"""Of the JPEG files."""


def render_scenes(
    maps: Path,
    photos: Path | None,
    out: Path,
    *,
    pairs: int = 1000,
    seed: int = 0,
    layout: Layout | None = None,
    report: Callable[[str], None] = print,
) -> int:
    """Write about `pairs` pairs under `out`, whole parts of PART; returns how many are there of
    this seed.

    maps: a folder with the games' archives (.pk3) below it. photos: for the walls; None for the
    games' own pictures alone.

    Raises TrainingError when there are no levels or no photographs, or without embreex.
    """
    games = [(game, Materials(game)) for game in open_games(maps)]
    levels = [(*game, name) for game in games for name in game[0].names(".bsp")]
    chosen = [] if photos is None else _some_photos(photos, seed)
    layout = layout or Layout()
    parts = -(-pairs // PART)
    for part in range(parts):
        name = f"{seed:04}-{part:05}"
        if (out / "scene_info" / f"{name}.npz").exists():
            continue
        rng = np.random.default_rng([seed, part])
        found: list[Pair] = []
        while len(found) < PART:
            archives, materials, level = levels[rng.integers(len(levels))]
            found += _pairs_of(archives, materials, level, chosen, layout, rng)
        _write(out, name, found[:PART])
        report(f"{(part + 1) * PART} of {parts * PART} pairs")
    return parts * PART


def _some_photos(folder: Path, seed: int) -> list[NDArray[Any]]:
    photos = load_photos(photos_below(folder))
    order = np.random.default_rng(seed).permutation(len(photos))[:PHOTOS]
    return [cv2.cvtColor(photos[i], cv2.COLOR_BGR2RGB) for i in order]


def _pairs_of(
    archives: Archives,
    materials: Materials,
    name: str,
    photos: list[NDArray[Any]],
    layout: Layout,
    rng: np.random.Generator,
) -> list[Pair]:
    """PER_LEVEL pairs at most of a level; none where it cannot be read."""
    try:
        level = read_level(archives, name)
    except TrainingError:
        return []
    renderer = Renderer(level, materials)
    pairs = []
    for _ in range(PER_LEVEL):
        renderer.hang(photos, PAPERED, rng)
        pair = find_pair(level, renderer, layout, rng)
        if pair is not None:
            pairs.append(pair)
    return pairs


def _write(out: Path, name: str, pairs: list[Pair]) -> None:
    """The files of a part, its scene_info last."""
    folder = Path("views") / name
    (out / folder).mkdir(parents=True, exist_ok=True)
    (out / "scene_info").mkdir(parents=True, exist_ok=True)
    images, depths, cameras = [], [], []
    overlap = np.zeros((2 * len(pairs), 2 * len(pairs)), np.float32)
    for number, pair in enumerate(pairs):
        for side in (0, 1):
            stem = f"{number:03}-{side}"
            images.append(str(folder / f"{stem}.jpg"))
            depths.append(str(folder / f"{stem}.h5"))
            view = pair.views[side]
            bgr = cv2.cvtColor(view.pixels, cv2.COLOR_RGB2BGR)
            _, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
            with replacing(out / images[-1]) as file:
                file.write(encoded.tobytes())
            with replacing(out / depths[-1]) as file:
                file.write(_stored_depth(view.depth))
            cameras.append(pair.cameras[side])
        overlap[2 * number, 2 * number + 1] = overlap[2 * number + 1, 2 * number] = pair.overlap
    write_arrays(
        out / "scene_info" / f"{name}.npz",
        {
            "image_paths": np.array(images),
            "depth_paths": np.array(depths),
            "intrinsics": np.array([camera.intrinsics for camera in cameras]),
            "poses": np.array([camera.pose for camera in cameras]),
            "overlap_matrix": overlap,
        },
    )


def _stored_depth(depth: NDArray[Any]) -> bytes:
    """An HDF5 file; 16 bits a pixel keep 3 digits, enough for what lies 5 % apart."""
    data = io.BytesIO()
    with h5py.File(data, "w") as file:
        stored = depth.astype(np.float16)
        file.create_dataset("depth", data=stored, compression="gzip", compression_opts=4)
    return data.getvalue()
