"""Photos without a place: what a map says of them."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from covis.cli import app
from covis.errors import ArgumentError, CovisError
from covis.sfm.build import build_map
from covis.sfm.database import Database
from covis.sfm.map import Settings, read_model
from covis.sfm.mapper import largest_first, quiet
from covis.sfm.options import MapOptions, MapSummary
from covis.sfm.unplaced import untried

pytestmark = pytest.mark.usefixtures("colmap")


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_views_from_one_spot_make_no_map(panorama, tmp_path, mapper):
    out = str(tmp_path / "model")
    arguments = ["map", str(panorama), "-o", out, "--mapper", mapper, "--max-keypoints", "500"]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "0 of 4 photos placed: no model could be made."
    assert len(lines) == 2
    assert (
        "verified pairs were taken from one spot, or show one plane: nothing tells depth"
        in result.stderr
    )
    assert len(result.stderr.splitlines()) == 1


def test_colmaps_log_stays_out(colmap, capfd):
    colmap.logging.error("shown")
    with quiet(colmap):
        colmap.logging.error("hidden")
    assert [line[-5:] for line in capfd.readouterr().err.splitlines()] == ["shown"]


@pytest.mark.parametrize("mapper", ["incremental", "global"])
def test_colmap_says_nothing_of_its_own(panorama, tmp_path, mapper, capfd):
    """Where no model can be made, and of what is no database."""
    options = MapOptions(max_keypoints=500, mapper=mapper)
    assert build_map(panorama, tmp_path / "model", options=options).models == []
    (tmp_path / "words.db").write_text("no database at all, just words" * 100)
    with pytest.raises(CovisError, match="not a COLMAP database"):
        Database(tmp_path / "words.db")
    printed = capfd.readouterr()
    assert (printed.out, printed.err) == ("", "")


def test_two_photos_make_no_map(scene, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in (0, 1):
        shutil.copy2(scene.folder / f"{number}.png", photos)
    with pytest.raises(ArgumentError, match="2 photos that can be used; a map needs 3 or more"):
        build_map(photos, tmp_path / "model", options=MapOptions(max_keypoints=50))
    shutil.copy2(scene.folder / "2.png", photos)
    assert build_map(photos, tmp_path / "model").photos == 3


def test_models_that_tell_nothing_new_are_dropped(mapped, colmap):
    whole, part, pointless = (read_model(mapped[0] / "sparse" / "0") for _ in range(3))
    for number in (2, 3):
        part.deregister_frame(part.image(number).frame_id)
    for point in list(pointless.points3D)[14:]:
        pointless.delete_point3D(point)
    kept = largest_first([part, pointless, whole])
    assert [model.num_reg_images() for model in kept] == [7]
    assert kept[0].num_points3D() == whole.num_points3D()
    assert len(largest_first([part])) == 1


def test_advice_is_of_what_was_not_tried():
    made = Settings("photos", "xfeat", 4096, 1600, "nearest")
    light, keypoints = (
        "--matcher lightglue (a new folder)",
        "--max-keypoints 8192 (a new folder)",
    )
    thorough = "--effort thorough"
    assert untried(made, False, "auto") == ["--pairs exhaustive", thorough, light, keypoints]
    assert untried(made, True, "fast") == [thorough, light, keypoints]
    assert untried(made, True, "thorough") == [light, keypoints]
    for matcher in ("lightglue", "auto"):
        assert untried(Settings("photos", "xfeat", 8192, 1600, matcher), True, "thorough") == []
    assert untried(Settings("photos", "xfeat", 8192, 1600, "semi-dense"), True, "auto") == [light]
    lines = MapSummary(photos=4, alone=["a.jpg"], unplaced=["b.jpg"], verified=3).advice()
    assert [line.split(". ", 1)[1] for line in lines] == [
        "Take more photos between them and the others.",
        "Too few matches with the others; take more photos between them and the others.",
    ]


def test_ordinary_photos_are_no_panoramas(scene, tmp_path):
    options = MapOptions(max_keypoints=300, camera_model="EQUIRECTANGULAR")
    summary = build_map(scene.folder, tmp_path / "model", options=options)
    assert summary.photos == len(summary.no_panoramas) == 7
    (line,) = [line for line in summary.advice() if "models" not in line]
    assert line.startswith("7 photos of 7 can be no panorama all around")
    assert "leave out --camera-model EQUIRECTANGULAR" in line


def test_advice_on_models_that_share_photos():
    split = MapSummary(photos=9, registered=5, models=[5, 4], shared=["a.jpg", "b.jpg"])
    assert split.advice() == [
        "the photos fall into 2 models (others of 4 photos): they share 2 photos (a.jpg, b.jpg), "
        "too little to join them; more photos around these would."
    ]
