"""From photos to a map: all of it, on a rendered scene."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import PIL.Image
import pytest
from helpers.ray_workers import one_worker_killed
from PIL import features

from covis.errors import ArgumentError, CovisError
from covis.images.orientation import Orientation
from covis.sfm import Map
from covis.sfm.build import build_map
from covis.sfm.map import Settings, read_model
from covis.sfm.mapper import write_models
from covis.sfm.options import MapOptions, MapSummary

pytestmark = pytest.mark.usefixtures("colmap")


def test_all_photos_are_placed_where_they_were_taken(mapped, scene):
    folder, summary = mapped
    assert (summary.photos, summary.registered, summary.models) == (7, 7, [7])
    assert summary.pairs == summary.new_pairs == 21
    assert summary.advice() == []
    model = Map.open(folder)
    assert sorted(model.names) == sorted(scene.centres)
    assert scene.error(model.reconstruction) < 0.004
    camera = next(iter(model.reconstruction.cameras.values()))
    np.testing.assert_allclose(camera.params, (420, 420, 240, 180))


def test_points_are_those_of_the_store_keypoints(mapped):
    model = Map.open(mapped[0])
    name = "3.png"
    features, points = model.features(name), model.points(name)
    assert len(points) == len(features)
    image = model.reconstruction.image(model.names[name])
    shown = np.flatnonzero(points >= 0)
    assert len(shown) > 100
    where = np.array([model.reconstruction.point3D(int(points[i])).xyz for i in shown])
    seen = np.array([image.project_point(point) for point in where])
    assert np.median(np.linalg.norm(seen - features.keypoints[shown], axis=1)) < 1.5


def test_neighbours_are_the_most_similar_photos(mapped):
    model = Map.open(mapped[0])
    place = model.photos.names.index("2.png")
    assert model.neighbours(model.photos.vectors[place], 3)[0] == "2.png"
    assert len(model.neighbours(model.photos.vectors[place], 100)) == 7


def test_a_second_run_has_nothing_to_do(mapped, scene, tmp_path):
    folder = shutil.copytree(mapped[0], tmp_path / "model")
    before = (folder / "sparse" / "0" / "images.bin").read_bytes()
    summary = build_map(scene.folder, folder)
    assert (summary.new_pairs, summary.registered) == (0, 7)
    assert (folder / "sparse" / "0" / "images.bin").read_bytes() == before


def test_other_settings_are_refused(mapped, scene, tmp_path):
    with pytest.raises(ArgumentError, match="max keypoints 1000 then, 500 now"):
        build_map(scene.folder, mapped[0], options=MapOptions(max_keypoints=500))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ArgumentError, match="holds other things"):
        build_map(scene.folder, tmp_path)


def some_photos(scene, folder: Path, names) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        shutil.copy2(scene.folder / name, folder / name)
    return folder


def test_more_photos_extend_the_model(scene, known, tmp_path):
    photos = some_photos(scene, tmp_path / "photos", ["1.png", "2.png", "4.png", "5.png"])
    options = MapOptions(max_keypoints=800, **known)
    first = build_map(photos, tmp_path / "model", options=options)
    assert first.registered == 4
    before = Map.open(tmp_path / "model")
    some_photos(scene, photos, ["3.png", "0.png"])
    second = build_map(photos, tmp_path / "model", options=options)
    assert (second.registered, second.new_pairs, second.pairs) == (6, 9, 15)
    after = Map.open(tmp_path / "model")
    there, here = (
        m.reconstruction.image(m.names["4.png"]).projection_center() for m in (before, after)
    )
    np.testing.assert_allclose(here, there, atol=0.05)
    assert {name: after.names[name] for name in before.names} == before.names
    assert scene.error(after.reconstruction) < 0.01


def start(scene, folder, report):
    """A process that maps the scene, 300 keypoints a photo; `report` is code."""
    script = (
        "import os, sys, time; from pathlib import Path; from covis.sfm import *;"
        "options = MapOptions(max_keypoints=300);"
        f"build_map(Path(sys.argv[1]), Path(sys.argv[2]), options=options, report={report})"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(scene.folder), str(folder)]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_goes_on(scene, tmp_path):
    folder = tmp_path / "model"
    report = (
        "lambda stage, done, total: stage == 'map' and (print(stage, flush=True), time.sleep(60))"
    )
    with start(scene, folder, report) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "map\n"
        process.send_signal(signal.SIGKILL)
    summary = build_map(scene.folder, folder)
    assert (summary.pairs, summary.new_pairs, summary.registered) == (21, 0, 7)


def test_a_run_killed_before_the_first_photo_goes_on(scene, tmp_path):
    folder = tmp_path / "model"
    with start(scene, folder, "lambda *done: os._exit(9)") as process:
        assert process.wait() == 9
    summary = build_map(scene.folder, folder)
    assert (summary.registered, Settings.find(folder).max_keypoints) == (7, 300)
    (tmp_path / "begun").mkdir()
    (tmp_path / "begun" / "covis.json.77.partial").touch()
    with pytest.raises(ArgumentError, match="GPS"):
        build_map(scene.folder, tmp_path / "begun", options=MapOptions(pairs="gps"))


def test_a_run_killed_before_it_maps_new_matches_maps_them(scene, known, tmp_path, monkeypatch):
    from covis.sfm import build

    photos = some_photos(scene, tmp_path / "photos", ["1.png", "2.png", "4.png", "5.png"])
    options = MapOptions(max_keypoints=500, **known)
    build_map(photos, tmp_path / "model", options=options)
    some_photos(scene, photos, ["3.png"])

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "run_mapper", killed)
    with pytest.raises(KeyboardInterrupt):
        build_map(photos, tmp_path / "model", options=options)
    monkeypatch.undo()
    summary = build_map(photos, tmp_path / "model", options=options)
    assert (summary.new_pairs, summary.registered) == (0, 5)


def test_a_folder_may_have_any_name(scene, known, tmp_path):
    """Such as those that mean something in addresses."""
    photos = some_photos(scene, tmp_path / "a?b#c%20", ["2.png", "3.png", "4.png"])
    options = MapOptions(max_keypoints=500, **known)
    summary = build_map(photos, tmp_path / "m#1?%2", options=options)
    assert summary.registered == 3
    (photos / "4.png").unlink()
    assert build_map(photos, tmp_path / "m#1?%2", options=options).gone == ["4.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a?b#c%20", "m#1?%2"]


def test_what_cannot_be_is_refused_before_the_work(scene, tmp_path):
    for options, words in (
        (MapOptions(camera_model="PINHOL"), "no camera model 'PINHOL'"),
        (MapOptions(camera_params=(1.0, 2.0)), "4 parameters"),
        (MapOptions(matcher="nothing"), "nothing"),
        (MapOptions(features="nothing"), "nothing"),
    ):
        with pytest.raises(CovisError, match=words):
            build_map(scene.folder, tmp_path / "model", options=options)
        assert list((tmp_path / "model").iterdir()) == []


def test_pairs_written_before_a_failure_stay(scene, tmp_path, monkeypatch):
    from covis.sfm import matching

    verify, calls = matching.verify_pair, []

    def failing(*arguments, **options):
        calls.append(1)
        if len(calls) > 10:
            raise CovisError("the disk is on fire")
        return verify(*arguments, **options)

    monkeypatch.setattr(matching, "verify_pair", failing)
    options = MapOptions(max_keypoints=300, threads=1)
    with pytest.raises(CovisError, match="on fire"):
        build_map(scene.folder, tmp_path / "model", options=options)
    monkeypatch.setattr(matching, "verify_pair", verify)
    summary = build_map(scene.folder, tmp_path / "model", options=options)
    assert (summary.pairs, summary.new_pairs) == (21, 11)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_turned_files_are_mapped_in_their_own_pixels(scene, colmap, tmp_path, kind):
    """Photos whose pixels lie on their side, with EXIF's word for it: COLMAP ignores that."""
    photos = tmp_path / "photos"
    photos.mkdir()
    exif = PIL.Image.Exif()
    exif[274] = 6
    for name in scene.centres:
        pixels = cv2.cvtColor(cv2.imread(str(scene.folder / name)), cv2.COLOR_BGR2RGB)
        PIL.Image.fromarray(np.rot90(pixels)).save(photos / name, kind, exif=exif)
    params = (420.0, 420.0, 180.0, 240.0)
    options = MapOptions(max_keypoints=800, camera_model="PINHOLE", camera_params=params)
    summary = build_map(photos, tmp_path / "model", options=options)
    assert summary.registered == 7
    model = Map.open(tmp_path / "model")
    assert scene.error(model.reconstruction) < 0.01
    camera = next(iter(model.reconstruction.cameras.values()))
    assert (camera.width, camera.height) == (360, 480)


def test_whatever_can_be_matched_can_be_mapped(scene, known, tmp_path, monkeypatch):
    """Any format, and more pixels than Pillow wants. No camera sees the pixels of a mirrored file,
    so such photos are upright in a map."""
    kinds = {
        "0.webp": (5, {"lossless": True}),
        "1.png": (2, {}),
        "2.jpg": (4, {"quality": 98}),
        "3.tif": (7, {}),
        "4.gif": (1, {}),
        "5.tiff": (1, {}),
        "6.avif" if features.check("avif") else "6.png": (3, {"quality": 95}),
    }
    photos = tmp_path / "photos"
    photos.mkdir()
    for name, (orientation, options) in kinds.items():
        picture = PIL.Image.open(scene.folder / f"{name[0]}.png").convert("RGB")
        if name == "5.tiff":
            floats = np.asarray(picture.convert("L"), np.float32) / 255
            PIL.Image.fromarray(floats).save(photos / name)
            continue
        exif = PIL.Image.Exif()
        exif[274] = orientation
        stored = Orientation.from_exif(orientation).inverse.of_image(np.asarray(picture))
        PIL.Image.fromarray(stored).save(photos / name, exif=exif, **options)
    monkeypatch.setattr(PIL.Image, "MAX_IMAGE_PIXELS", 1000)
    options = MapOptions(max_keypoints=1000, **known)
    assert build_map(photos, tmp_path / "model", options=options).registered == 7
    model = Map.open(tmp_path / "model").reconstruction
    centres = {name: scene.centres[f"{name[0]}.png"] for name in kinds}
    assert replace(scene, centres=centres).error(model) < 0.01
    for name in kinds:
        points = model.find_image_with_name(name).points2D
        shown = [model.point3D(p.point3D_id) for p in points if p.has_point3D()]
        assert len(shown) > 100
        assert sum(point.color.any() for point in shown) == len(shown)


def test_masked_keypoints_have_no_part(scene, known, tmp_path):
    (tmp_path / "masks").mkdir()
    mask = np.full((360, 480), 255, np.uint8)
    mask[:, :240] = 0
    for name in scene.centres:
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), mask)
    options = MapOptions(max_keypoints=1000, masks=tmp_path / "masks", **known)
    cv2.imwrite(str(tmp_path / "masks" / "other.png"), mask)
    summary = build_map(scene.folder, tmp_path / "model", options=options)
    assert summary.registered == 7
    assert summary.changes() == ["7 of 7 photos have a mask; of no photo: other.png."]
    model = Map.open(tmp_path / "model")
    for name in model.names:
        shown = model.features(name).keypoints[model.points(name) >= 0]
        assert len(shown) > 30
        assert shown[:, 0].min() >= 240
    (tmp_path / "masks").rename(tmp_path / "gone")
    with pytest.raises(ArgumentError, match="masks: no such folder of masks"):
        build_map(scene.folder, tmp_path / "model")


def test_semi_dense_matches_are_mapped(scene, known, tmp_path):
    photos = some_photos(scene, tmp_path / "photos", [f"{number}.png" for number in range(1, 7)])
    options = MapOptions(matcher="semi-dense", max_keypoints=1500, **known)
    summary = build_map(photos, tmp_path / "model", options=options)
    assert (summary.registered, summary.remade) == (6, False)
    assert summary.track_length > 2.5
    model = Map.open(tmp_path / "model")
    assert scene.error(model.reconstruction) < 0.01
    assert (model.points("3.png") >= 0).sum() > 100
    again = build_map(photos, tmp_path / "model", options=MapOptions())
    assert (again.new_pairs, again.registered, again.remade) == (0, 6, False)
    some_photos(scene, photos, ["0.png"])
    more = build_map(photos, tmp_path / "model", options=MapOptions(**known))
    assert (more.new_pairs, more.registered, more.remade) == (6, 7, True)


def test_photos_of_several_sizes_are_mapped(scene, tmp_path):
    photos = some_photos(scene, tmp_path / "photos", [f"{number}.png" for number in range(5)])
    for name in ("0.png", "3.png"):
        cv2.imwrite(str(photos / name), cv2.resize(cv2.imread(str(photos / name)), (960, 720)))
    summary = build_map(
        photos, tmp_path / "model", options=MapOptions(max_keypoints=800, max_size=480)
    )
    assert summary.registered == 5
    model = Map.open(tmp_path / "model").reconstruction
    assert scene.error(model) < 0.02
    errors = {name: [] for name in ("0.png", "1.png")}
    for name, found in errors.items():
        image = model.find_image_with_name(name)
        for seen in image.points2D:
            if seen.has_point3D():
                at = image.project_point(model.point3D(seen.point3D_id).xyz)
                found.append(np.linalg.norm(at - seen.xy))
    assert np.median(errors["1.png"]) < 0.2
    assert np.median(errors["0.png"]) < 0.4


@pytest.mark.parametrize("how", ["global"])
def test_the_global_mapper_places_all(mapped, scene, known, tmp_path, how):
    folder = shutil.copytree(mapped[0], tmp_path / "model")
    summary = build_map(scene.folder, folder, options=MapOptions(mapper=how, afresh=True, **known))
    assert summary.registered == 7
    assert scene.error(Map.open(folder).reconstruction) < 0.01


def test_a_known_model_keeps_its_poses(mapped, scene, known, tmp_path):
    """Of a model from elsewhere, with other photo ids and no keypoints of ours."""
    folder, _ = mapped
    photos = some_photos(scene, tmp_path / "photos", [f"{number}.png" for number in range(6)])
    before = Map.open(folder).reconstruction
    before.deregister_frame(before.find_image_with_name("6.png").frame_id)
    (tmp_path / "theirs").mkdir()
    before.write(str(tmp_path / "theirs"))
    options = MapOptions(max_keypoints=800, model=tmp_path / "theirs", **known)
    summary = build_map(photos, tmp_path / "model", options=options)
    assert summary.registered == 6
    after = Map.open(tmp_path / "model").reconstruction
    for name in (f"{number}.png" for number in range(6)):
        one, other = (m.find_image_with_name(name).projection_center() for m in (before, after))
        np.testing.assert_allclose(one, other, atol=1e-9)


def write_rig(colmap, source, names, folder):
    """A model and a database, whose first two photos two cameras of one rig took together."""
    images = [source.find_image_with_name(name) for name in names]
    camera, made = images[0].camera, colmap.Reconstruction()
    size = {"width": camera.width, "height": camera.height}
    database = colmap.Database.open(str(folder / "rig.db"))
    for number in (1, 2):
        made.add_camera(
            colmap.Camera(camera_id=number, model="PINHOLE", params=(420, 420, 240, 180), **size)
        )
        database.write_camera(made.camera(number), use_camera_id=True)
    poses = [image.cam_from_world() for image in images]
    rig = colmap.Rig(rig_id=1)
    rig.add_ref_sensor(made.camera(1).sensor_id)
    rig.add_sensor(made.camera(2).sensor_id, poses[1] * poses[0].inverse())
    made.add_rig(rig)
    database.write_rig(rig, use_rig_id=True)
    for number, taken in enumerate([(0, 1), *((at,) for at in range(2, len(names)))], 1):
        frame, empty = (colmap.Frame(frame_id=number, rig_id=1) for _ in range(2))
        frame.rig_from_world = poses[taken[0]]
        rows = [
            colmap.Image(name=names[at], camera_id=1 + place, image_id=at + 1)
            for place, at in enumerate(taken)
        ]
        for row in rows:
            frame.add_data_id(row.data_id)
            empty.add_data_id(row.data_id)
            database.write_image(row, use_image_id=True)
            row.frame_id = number
        database.write_frame(empty, use_frame_id=True)
        made.add_frame(frame)
        for row in rows:
            made.add_image(row)
        made.register_frame(number)
    database.close()
    (folder / "rig").mkdir()
    made.write(str(folder / "rig"))


@pytest.mark.parametrize("with_database", [True, False])
def test_a_model_with_a_rig_of_two_cameras_can_be_extended(
    colmap, mapped, scene, known, tmp_path, with_database
):
    before, names = Map.open(mapped[0]).reconstruction, ["1.png", "2.png", "3.png", "4.png"]
    write_rig(colmap, before, names, tmp_path)
    photos = some_photos(scene, tmp_path / "photos", [*names, "5.png"])
    given = {"database": tmp_path / "rig.db"} if with_database else {}
    options = MapOptions(max_keypoints=500, model=tmp_path / "rig", **given, **known)
    assert build_map(photos, tmp_path / "model", options=options).registered == 5
    after = Map.open(tmp_path / "model").reconstruction
    for name in names:
        one, other = (m.find_image_with_name(name).projection_center() for m in (before, after))
        np.testing.assert_allclose(one, other, atol=1e-9)
    assert scene.error(after) < 0.01


def test_a_database_without_rigs_and_frames_can_be_extended(mapped, scene, known, tmp_path):
    """As COLMAP 3.11 wrote them."""
    given = tmp_path / "given.db"
    shutil.copyfile(mapped[0] / "database.db", given)
    with closing(sqlite3.connect(given)) as rows, rows:
        for table in ("frame_data", "frames", "rigs"):
            rows.execute(f"DELETE FROM {table}")
    photos = some_photos(scene, tmp_path / "photos", ["2.png", "3.png", "4.png"])
    options = MapOptions(max_keypoints=500, database=given, **known)
    assert build_map(photos, tmp_path / "model", options=options).registered == 3
    some_photos(scene, photos, ["5.png"])
    assert build_map(photos, tmp_path / "model", options=options).registered == 4


def test_a_model_may_have_more_photos_than_the_folder(mapped, scene, known, tmp_path):
    photos = some_photos(scene, tmp_path / "photos", ["2.png", "3.png", "4.png"])
    for given in ({"model": mapped[0] / "sparse" / "0"}, {"database": mapped[0] / "database.db"}):
        folder = tmp_path / next(iter(given))
        summary = build_map(photos, folder, options=MapOptions(max_keypoints=500, **given, **known))
        assert (summary.photos, summary.registered, summary.pairs) == (3, 3, 3)
        assert summary.left_out == ["0.png", "1.png", "5.png", "6.png"]
        assert summary.gone == []
        assert "4 photos of the database or model not in the folder" in summary.changes()[0]


def test_exceptions_of_models_and_databases_of_other_photos(mapped, scene, tmp_path):
    renamed = tmp_path / "renamed"
    renamed.mkdir()
    smaller = tmp_path / "smaller"
    smaller.mkdir()
    for name in ("2.png", "3.png", "4.png"):
        shutil.copy2(scene.folder / name, renamed / f"x{name}")
        cv2.imwrite(
            str(smaller / name), cv2.resize(cv2.imread(str(scene.folder / name)), (240, 180))
        )
    for given in ({"model": mapped[0] / "sparse" / "0"}, {"database": mapped[0] / "database.db"}):
        path = next(iter(given.values()))
        with pytest.raises(ArgumentError, match=r"none of the photos.* such as 0\.png.*x2\.png"):
            build_map(renamed, tmp_path / "model", options=MapOptions(**given))
        with pytest.raises(ArgumentError, match="480x360 pixels, the photo 240x180"):
            build_map(smaller, tmp_path / "model", options=MapOptions(**given))
        assert path.exists()
    (tmp_path / "words.db").write_text("no database at all, just words" * 100)
    with pytest.raises(ArgumentError, match=r"words\.db: no COLMAP database"):
        build_map(renamed, tmp_path / "m", options=MapOptions(database=tmp_path / "words.db"))


def test_a_known_database_keeps_cameras_and_photos(mapped, scene, tmp_path):
    given = mapped[0] / "database.db"
    options = MapOptions(max_keypoints=500, database=given)
    summary = build_map(scene.folder, tmp_path / "model", options=options)
    assert summary.registered == 7
    model = Map.open(tmp_path / "model").reconstruction
    assert {camera.model_name for camera in model.cameras.values()} == {"PINHOLE"}
    assert len(model.find_image_with_name("0.png").points2D) <= 500


def test_a_photo_of_something_else_is_named(scene, known, tmp_path):
    photos = some_photos(scene, tmp_path / "photos", ["1.png", "2.png", "3.png"])
    noise = np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)
    cv2.imwrite(str(photos / "other.png"), cv2.resize(noise, (480, 360)))
    (photos / "bad.jpg").write_bytes(b"")
    summary = build_map(photos, tmp_path / "model", options=MapOptions(max_keypoints=800, **known))
    assert (summary.photos, summary.registered, summary.alone) == (4, 3, ["other.png"])
    assert list(summary.failed) == [str(photos / "bad.jpg")]
    assert "1 photo with no partner: other.png" in summary.advice()[0]
    (tmp_path / "pairs.txt").write_text("1.png 2.png\n2.png 3.png\nbad.jpg 1.png\n1.png 3.png\n")
    options = MapOptions(max_keypoints=400, pairs=tmp_path / "pairs.txt", **known)
    summary = build_map(photos, tmp_path / "listed", options=options)
    assert (summary.pairs, list(summary.failed)) == (3, [str(photos / "bad.jpg")])


def test_exceptions_of_build(tmp_path, scene):
    with pytest.raises(ArgumentError, match="no such folder of photos"):
        build_map(tmp_path / "none", tmp_path / "model")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ArgumentError, match="no pictures"):
        build_map(tmp_path / "empty", tmp_path / "model")
    with pytest.raises(ArgumentError, match="GPS"):
        build_map(scene.folder, tmp_path / "gps", options=MapOptions(pairs="gps", max_keypoints=50))


def test_exceptions_of_open(tmp_path, mapped, monkeypatch):
    with pytest.raises(ArgumentError, match="no map there; make one: covis map"):
        Map.open(tmp_path)
    Settings(str(tmp_path), "xfeat", 100, None, "nearest").save(tmp_path)
    with pytest.raises(ArgumentError, match="no model yet"):
        Map.open(tmp_path)
    model = Map.open(mapped[0])
    with pytest.raises(ArgumentError, match=r"no photo 'x\.png'"):
        model.features("x.png")
    with pytest.raises(ArgumentError, match="no pose"):
        model.points("x.png")
    (tmp_path / "covis.json").write_text("{}")
    with pytest.raises(CovisError, match="damaged"):
        Map.open(tmp_path)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(CovisError, match=r"pip install '\.\[map\]'"):
        Map.open(mapped[0])


def test_advice_says_what_to_do():
    split = MapSummary(photos=9, registered=4, models=[4, 3], unplaced=["a.jpg", "b.jpg"])
    lines = split.advice()
    assert "2 photos matched but not placed: a.jpg, b.jpg" in lines[0]
    assert "2 models" in lines[1]


@pytest.mark.slow
def test_ray_matches_what_this_process_would(mapped, scene, known, tmp_path, monkeypatch):
    """Though a worker is killed on the way, of the features or of the pairs."""
    ray = pytest.importorskip("ray", reason="the engine needs Ray")
    pytest.importorskip("ray.data")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    try:
        options = MapOptions(max_keypoints=1000, engine="ray", **known)
        with one_worker_killed():
            summary = build_map(scene.folder, tmp_path / "model", options=options)
        shutil.rmtree(tmp_path / "model" / "sparse")
        (tmp_path / "model" / "database.db").unlink()
        with one_worker_killed():  # The features are there: now of the pairs.
            again = build_map(scene.folder, tmp_path / "model", options=options)
    finally:
        ray.shutdown()
    assert (summary.registered, summary.pairs) == (again.registered, again.pairs) == (7, 21)
    assert again.new_pairs == 21
    assert inliers(tmp_path / "model") == inliers(mapped[0])


def inliers(folder):
    from covis.sfm.database import Database

    with Database(folder / "database.db") as database:
        return database.inliers()


@contextmanager
def small_disk(size):
    """Files may grow to so many bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("size", [100, 20_000])
def test_a_full_disk_keeps_the_models_of_before(mapped, tmp_path, size):
    sparse = Path(shutil.copytree(mapped[0] / "sparse", tmp_path / "sparse"))
    before = {path.name: path.read_bytes() for path in (sparse / "0").iterdir()}
    model = read_model(sparse / "0")
    assert max(map(len, before.values())) > size
    with small_disk(size), pytest.raises(CovisError, match="sparse: the models cannot be written"):
        write_models([model], sparse)
    assert {path.name: path.read_bytes() for path in (sparse / "0").iterdir()} == before
    assert list(tmp_path.iterdir()) == [sparse]


def test_models_moved_aside_by_a_killed_run_come_back(mapped, scene, tmp_path):
    folder = shutil.copytree(mapped[0], tmp_path / "model")
    (folder / "sparse").rename(folder / "sparse.former.partial")
    (folder / "sparse.partial" / "0").mkdir(parents=True)
    (folder / "photos.json.77.partial").touch()
    summary = build_map(scene.folder, folder, options=MapOptions(camera_model="PINHOLE"))
    assert (summary.new_pairs, summary.registered) == (0, 7)
    assert not list(folder.rglob("*partial*"))


def test_semi_dense_models_stay_until_new_ones_are_made(scene, known, tmp_path, monkeypatch):
    """All their keypoints change when photos are added."""
    from covis.sfm import build

    photos = some_photos(scene, tmp_path / "photos", ["1.png", "2.png", "3.png"])
    options = MapOptions(max_keypoints=300, matcher="semi-dense", refine_keypoints=False, **known)
    assert build_map(photos, tmp_path / "model", options=options).registered == 3
    some_photos(scene, photos, ["4.png"])

    def killed(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build, "run_mapper", killed)
        with pytest.raises(KeyboardInterrupt):
            build_map(photos, tmp_path / "model", options=options)
    assert len(Map.open(tmp_path / "model").names) == 3
    assert build_map(photos, tmp_path / "model", options=options).registered == 4


def test_a_model_of_a_rig_of_two_cameras_can_be_extended(mapped, scene, colmap, tmp_path):
    """Two photos of each frame; the second camera stands where the first pair of photos has it."""
    single, double = read_model(mapped[0] / "sparse" / "0"), colmap.Reconstruction()
    poses = {image.name: image.cam_from_world() for image in single.images.values()}
    for number in (1, 2):
        camera = colmap.Camera(model="PINHOLE", width=480, height=360, params=(420, 420, 240, 180))
        camera.camera_id = number
        double.add_camera(camera)
    sensors = [colmap.sensor_t(colmap.SensorType.CAMERA, number) for number in (1, 2)]
    rig = colmap.Rig(rig_id=1)
    rig.add_ref_sensor(sensors[0])
    rig.add_sensor(sensors[1], poses["1.png"] * poses["0.png"].inverse())
    double.add_rig(rig)
    for number, names in enumerate((["0.png", "1.png"], ["3.png"]), 1):
        frame = colmap.Frame(frame_id=number, rig_id=1)
        images = [
            colmap.Image(name=name, camera_id=place, image_id=2 * number + place)
            for place, name in enumerate(names, 1)
        ]
        for image in images:
            image.frame_id = number
            frame.add_data_id(image.data_id)
        frame.rig_from_world = poses[names[0]]
        double.add_frame(frame)
        for image in images:
            double.add_image(image)
        double.register_frame(number)
    (tmp_path / "rig").mkdir()
    double.write(str(tmp_path / "rig"))
    options = MapOptions(max_keypoints=600, model=tmp_path / "rig", refine_keypoints=False)
    assert build_map(scene.folder, tmp_path / "model", options=options).registered == 7
    model = Map.open(tmp_path / "model").reconstruction
    for name in ("0.png", "1.png", "3.png"):
        found = model.find_image_with_name(name).projection_center()
        np.testing.assert_allclose(
            found, -poses[name].rotation.matrix().T @ poses[name].translation
        )
