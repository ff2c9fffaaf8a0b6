"""Frames of a square that moves, and where it truly is."""

from __future__ import annotations

import cv2
import numpy as np

from helpers.textures import clouds

SIZE = 240, 180
STEP = 6
SIDE = 60


def truth(number):
    """(H, W): where the square of a frame lies."""
    mask = np.zeros(SIZE[::-1], bool)
    left = 40 + STEP * number
    mask[60 : 60 + SIDE, left : left + SIDE] = True
    return mask


def frame(number):
    """A bright square that moves to the right over clouds."""
    rng = np.random.default_rng(1)
    pixels = np.clip(clouds(rng, SIZE[1], SIZE[0], (6, 12, 25)) * 40, 0, 255).astype(np.uint8)
    square = np.clip(clouds(rng, SIDE, SIDE, (4, 9)) * 60 + 100, 0, 255).astype(np.uint8)
    pixels = np.broadcast_to(np.atleast_3d(pixels)[..., :1], (*SIZE[::-1], 3)).copy()
    square = np.broadcast_to(np.atleast_3d(square)[..., :1], (SIDE, SIDE, 3)) * [1.0, 0.5, 0.2]
    pixels[truth(number)] = square.reshape(-1, 3).astype(np.uint8)
    return pixels


def write_frames(folder):
    """Four of them in folder/square, with a link that leads out, and as a video."""
    (folder / "square").mkdir(parents=True)
    film = folder / "film.avi"
    writer = cv2.VideoWriter(str(film), cv2.VideoWriter.fourcc(*"MJPG"), 10, SIZE, True)
    for number in range(4):
        pixels = np.ascontiguousarray(frame(number)[..., ::-1])
        cv2.imwrite(str(folder / "square" / f"{number}.png"), pixels)
        writer.write(pixels)
    writer.release()
    cv2.imwrite(str(folder.parent / "outside.png"), pixels)
    (folder / "square" / "9.png").symlink_to(folder.parent / "outside.png")
    return folder
