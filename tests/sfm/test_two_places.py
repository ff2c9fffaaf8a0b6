"""Photos of two places in one folder are two models, whatever is printed over all of them."""

from __future__ import annotations

import cv2
import numpy as np
import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont
import pytest
from helpers.corner import WALLS, look, render, texture

from covis.sfm import MapOptions, build_map

pytestmark = pytest.mark.usefixtures("colmap")


@pytest.fixture(scope="module")
def views():
    """By place and number, (h, w, 3) uint8."""
    made = {}
    for place in range(2):
        textures = [texture(10 * place + seed) for seed in range(len(WALLS))]
        for number, angle in enumerate(np.radians([-9.0, 0.0, 9.0])):
            centre = np.array([4.0 * np.sin(angle), -0.3 + 0.1 * number, 2.0 - 4.0 * np.cos(angle)])
            rotation = look(centre, np.array([0, -0.3, 2.0]))
            made[f"{'ab'[place]}{number}.png"] = render(rotation, centre, textures)
    return made


def stamped(view):
    """With a logo and a bar that says when it was taken."""
    sheet = PIL.Image.fromarray(view)
    draw = PIL.ImageDraw.Draw(sheet)
    draw.rectangle((0, view.shape[0] - 26, view.shape[1], view.shape[0]), "black")
    words = "2026-11-28 12:00 CAMERA 04 NORTH GATE 17 C"
    draw.text((8, view.shape[0] - 24), words, "white", PIL.ImageFont.load_default(18))
    draw.ellipse((10, 10, 80, 80), "navy", "white", 4)
    draw.text((22, 30), "NWW", "white", PIL.ImageFont.load_default(22))
    return np.array(sheet)


@pytest.mark.parametrize("overlay", [False, True])
def test_two_places_are_two_models(views, overlay, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, view in views.items():
        cv2.imwrite(str(folder / name), stamped(view) if overlay else view)
    summary = build_map(folder, tmp_path / "map", options=MapOptions(max_keypoints=1500))
    assert (summary.photos, summary.verified, summary.models) == (6, 6, [3, 3])
