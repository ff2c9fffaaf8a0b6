"""Photos that the first matches leave apart: turned ones, and pairs that only LightGlue joins."""

from __future__ import annotations

import shutil
from dataclasses import replace

import cv2
import numpy as np
import pytest

from covis.sfm import Map, MapOptions, build_map, matching
from covis.sfm.joining import firm, groups_of

pytestmark = pytest.mark.usefixtures("colmap")

TURNS = {"0.png": 90, "3.png": 180, "4.png": 270}
"""Degrees clockwise by which the file shows what the camera saw."""


@pytest.fixture(scope="module")
def lying(scene, tmp_path_factory):
    """The scene's photos, some of them on their side or upside down, and no word of it in EXIF."""
    folder = tmp_path_factory.mktemp("lying") / "photos"
    shutil.copytree(scene.folder, folder)
    for name, turn in TURNS.items():
        pixels = cv2.imread(str(scene.folder / name))
        cv2.imwrite(str(folder / name), np.rot90(pixels, -turn // 90))
    return folder


def test_turned_photos_are_placed(scene, lying, tmp_path):
    summary = build_map(lying, tmp_path / "model", options=MapOptions(max_keypoints=800))
    assert (summary.registered, summary.models) == (7, [7])
    assert summary.turned == {name: 360 - turn for name, turn in TURNS.items()}
    assert "3 photos turned to fit the others: 0.png by 270 degrees, " in summary.changes()[0]
    assert [(each.method, each.view) for each in summary.tried[:2]] == [
        ("nearest", "as they are"),
        ("nearest", "turned"),
    ]
    model = Map.open(tmp_path / "model")
    assert scene.error(model.reconstruction) < 0.01
    # In the files' own pixels, where a camera that was turned saw them.
    image = model.reconstruction.find_image_with_name("4.png")
    assert (image.camera.width, image.camera.height) == (360, 480)
    again = build_map(lying, tmp_path / "model")
    assert (again.new_pairs, again.turned, again.registered) == (0, {}, 7)
    fast = MapOptions(max_keypoints=800, effort="fast")
    assert build_map(lying, tmp_path / "fast", options=fast).registered <= 4


def test_groups_are_what_pairs_connect():
    assert groups_of("fedcba", [("a", "c"), ("c", "e"), ("b", "d")]) == [
        ["a", "c", "e"],
        ["b", "d"],
        ["f"],
    ]
    assert groups_of([], []) == []


def test_lightglue_joins_what_is_apart(scene, known, tmp_path, monkeypatch):
    """Two halves of the photos; the first matches find nothing between them."""
    from covis.sfm import build
    from covis.sfm.two_view_verification import Verified

    def blind(task, pairs, threads):
        for pair, found in matching.match_here(task, pairs, threads):
            apart = min(pair) < "3.png" <= max(pair)
            none = Verified(found.indices, np.zeros(len(found.indices), bool))
            yield pair, none if apart else found

    monkeypatch.setattr(build, "match_here", blind)
    options = MapOptions(max_keypoints=800, **known)
    apart = build_map(scene.folder, tmp_path / "fast", options=replace(options, effort="fast"))
    assert (apart.models, len(apart.tried)) == ([4, 3], 1)
    summary = build_map(scene.folder, tmp_path / "auto", options=options)
    assert summary.models == [7]
    assert scene.error(Map.open(tmp_path / "auto").reconstruction) < 0.01
    first, turned, finer = summary.tried
    assert (first.pairs, first.verified) == (21, 9)
    assert (turned.view, turned.verified) == ("turned", 0)
    # The likeliest three, and then those of each photo of the smaller half.
    assert (finer.method, finer.pairs) == ("lightglue", 9)
    assert finer.verified >= 6
    assert summary.verified == first.verified + finer.verified
    again = build_map(scene.folder, tmp_path / "fast", options=MapOptions(effort="thorough"))
    assert (again.new_pairs, again.models) == (0, [7])


def test_pairs_are_firm_where_a_third_photo_sees_both():
    assert firm([("a", "b"), ("b", "c"), ("a", "c"), ("c", "d")]) == [
        ("a", "b"), ("b", "c"), ("a", "c")
    ]  # fmt: skip
    assert firm([]) == []
