"""Models for other programs: the same pixel from both conventions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from covis.draw.canvas import save_picture
from covis.draw.map import draw_map
from covis.errors import ArgumentError
from covis.sfm import Map
from covis.sfm.exports import export_model
from covis.sfm.map import read_model
from covis.sfm.mapper import Mapping
from covis.sfm.refine_keypoints import _jacobians, _observations


@pytest.fixture(scope="module")
def model(mapped):
    return Map.open(mapped[0])


def test_nerfstudio_sees_points_where_colmap_does(model, scene, tmp_path):
    path = export_model(model.reconstruction, scene.folder, tmp_path / "out", "nerfstudio")
    values = json.loads(path.read_text())
    applied = np.array(values["applied_transform"])
    assert values["camera_model"] == "OPENCV"
    assert len(values["frames"]) == 7
    for frame in values["frames"]:
        file = Path(frame["file_path"])
        assert (tmp_path / "out" / file).resolve().parent == scene.folder.resolve()
        image = model.reconstruction.image(model.names[file.name])
        assert frame["colmap_im_id"] == image.image_id
        for point in list(model.reconstruction.points3D.values())[:20]:
            expected = image.project_point(point.xyz)
            world = applied @ np.append(point.xyz, 1)
            x, y, z = (np.linalg.inv(frame["transform_matrix"]) @ np.append(world, 1))[:3]
            # OpenGL: the camera looks along -z, y points up.
            found = (
                frame["cx"] + frame["fl_x"] * x / -z,
                frame["cy"] - frame["fl_y"] * y / -z,
            )
            np.testing.assert_allclose(found, expected, atol=1e-6)


def test_nerfstudio_names_distortions(model, scene, colmap, tmp_path):
    from covis.sfm.exports import _intrinsics

    camera = colmap.Camera(
        model="OPENCV", width=40, height=30, params=[20, 21, 19, 16, 0.1, 0.2, 0.3, 0.4]
    )
    assert _intrinsics(camera) == {
        "camera_model": "OPENCV", "w": 40, "h": 30, "fl_x": 20, "fl_y": 21, "cx": 19, "cy": 16,
        "k1": 0.1, "k2": 0.2, "p1": 0.3, "p2": 0.4,
    }  # fmt: skip
    camera = colmap.Camera(model="FOV", width=40, height=30, params=[20, 21, 19, 16, 0.1])
    with pytest.raises(ArgumentError, match="Nerfstudio has no camera model FOV"):
        _intrinsics(camera)


@pytest.mark.usefixtures("colmap")
def test_nerfstudio_is_refused_before_the_work(tmp_path):
    from typer.testing import CliRunner

    from covis.cli import app

    arguments = ["map", str(tmp_path), "-o", str(tmp_path / "m"), "--export", "nerfstudio"]
    run = CliRunner().invoke(app, [*arguments, "--camera-model", "EUCM"])
    assert run.exit_code == 2
    assert "Nerfstudio has no camera model EUCM; map with one of: SIMPLE_PINHOLE" in run.stderr
    assert not (tmp_path / "m").exists()


def test_panoramas_are_drawn_and_aligned(mapped, scene, colmap):
    """They have no focal length."""
    model = Map.open(mapped[0]).reconstruction
    for number, camera in model.cameras.items():
        size = {"width": camera.width, "height": camera.height}
        panorama = colmap.Camera(model="EQUIRECTANGULAR", params=list(size.values()), **size)
        panorama.camera_id = number
        model.cameras[number].model = panorama.model
        model.cameras[number].params = panorama.params
    assert draw_map(model).any()
    seen = _observations(model, Mapping())
    found = _jacobians(seen)
    place = int(seen.image[0])
    image, point = seen.images[place], seen.positions[seen.point[0]]
    moved = [image.project_point(point + step * np.eye(3)[0]) for step in (-1e-4, 1e-4)]
    np.testing.assert_allclose(found[0, :, 0], (moved[1] - moved[0]) / 2e-4, rtol=1e-2, atol=1e-2)


def test_ply_has_all_points_and_colours(model, scene, colmap, tmp_path):
    path = export_model(model.reconstruction, scene.folder, tmp_path, "ply")
    read = colmap.Reconstruction()
    read.import_PLY(str(path))
    theirs, ours = (
        sorted((*np.round(p.xyz, 3), *p.color) for p in m.points3D.values())
        for m in (read, model.reconstruction)
    )
    assert len(theirs) == len(ours)
    np.testing.assert_allclose(
        np.sort(np.array(theirs), axis=0), np.sort(np.array(ours), axis=0), atol=2e-3
    )


@pytest.mark.parametrize("kind", ["text", "binary"])
def test_colmap_reads_its_own_formats(model, scene, colmap, tmp_path, kind):
    folder = export_model(model.reconstruction, scene.folder, tmp_path / "out", kind)
    read = colmap.Reconstruction(str(folder))
    assert read.num_reg_images() == 7
    assert read.num_points3D() == model.reconstruction.num_points3D()
    assert (folder / f"points3D.{'txt' if kind == 'text' else 'bin'}").exists()


def test_the_picture_shows_cameras_before_the_walls(model, tmp_path):
    picture = draw_map(model.reconstruction, width=320, height=200)
    assert picture.shape == (200, 320, 3)
    orange = (picture.astype(int) - (255, 138, 61)).__abs__().max(axis=2) < 60
    coloured = (picture != picture[0, 0]).any(axis=2)
    assert orange.sum() > 50
    assert (coloured & ~orange).sum() > 1000
    # Cameras lie below, near whoever looks; the walls above.
    assert np.nonzero(orange)[0].mean() > np.nonzero(coloured & ~orange)[0].mean() + 20
    save_picture(picture, tmp_path / "model.png")
    assert (tmp_path / "model.png").stat().st_size > 1000


def test_names_with_spaces(model, scene, tmp_path):
    """pycolmap 4 writes them whole into text and reads what is before the first space."""
    spaced = model.reconstruction.__class__(model.reconstruction)
    for image in spaced.images.values():
        image.name = f"my photo {image.name}"
    expected = sorted(image.name for image in spaced.images.values())
    for kind in ("text", "binary"):
        (tmp_path / kind).mkdir()
        getattr(spaced, f"write_{kind}")(str(tmp_path / kind))
        found = read_model(tmp_path / kind)
        assert sorted(image.name for image in found.images.values()) == expected
        assert found.num_points3D() == spaced.num_points3D()
    export_model(spaced, scene.folder, tmp_path / "out", "binary")
    with pytest.raises(ArgumentError, match=r"'my photo 0.png' \(7 photos\); export binary"):
        export_model(spaced, scene.folder, tmp_path / "out", "text")
