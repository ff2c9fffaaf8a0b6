"""Small data sets in their published layouts, made of one texture seen twice."""

import json

import cv2
import numpy as np

MOVE = np.array([[1.0, 0, 12], [0, 1, 8], [0, 0, 1]])
"""Where a point of the first picture stands in the second, pixel centres at whole numbers."""
SIZE = (240, 180)
SPACE_K = np.array([[200.0, 0, 120], [0, 210, 90], [0, 0, 1]])


def texture(seed=0):
    """(220, 280, 3): large enough for every view."""
    noise = np.random.default_rng(seed).integers(0, 256, (55, 70, 3), np.uint8)
    return cv2.resize(noise, (280, 220), interpolation=cv2.INTER_CUBIC)


def views(seed=0):
    """Two pictures of SIZE: the second one's point is the first one's by MOVE."""
    whole = texture(seed)
    return whole[20:200, 20:260], whole[12:192, 8:248]


def write(path, picture):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), picture)


def hpatches(root, names=("i_wall", "v_wall")):
    for seed, name in enumerate(names):
        first, second = views(seed)
        write(root / name / "1.ppm", first)
        for k in range(2, 7):
            write(root / name / f"{k}.ppm", second)
            np.savetxt(root / name / f"H_1_{k}", MOVE)
    return root


def pairs(root, seed=0):
    first, second = views(seed)
    write(root / "a.png", first)
    write(root / "b.png", second)
    entry = {"image0": "a.png", "image1": "b.png", "kind": "homography", "H_1from0": MOVE.tolist()}
    (root / "pairs.json").write_text(json.dumps([entry] * 2))
    return root


def queries(root, count=4):
    """`count` pictures; the query of each is another view of it."""
    for seed in range(count):
        first, second = views(seed)
        write(root / "db" / f"{seed}.png", first)
        write(root / "queries" / f"{seed}.png", second)
    entries = [{"query": f"{i}.png", "relevant": [f"{i}.png"]} for i in range(count)]
    (root / "queries.json").write_text(json.dumps(entries))
    return root
