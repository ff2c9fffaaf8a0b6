"""Models in metres to the east, to the north and up, where photos have GPS positions."""

from __future__ import annotations

import json
import math

import numpy as np
import PIL.Image
import pytest
from PIL.TiffImagePlugin import IFDRational

from covis.images.exif import read_photo_info
from covis.sfm import Locator, Map, MapOptions, build_map
from covis.sfm.database import Database
from covis.sfm.georegistration import Origin, first_origin, register

pytestmark = pytest.mark.usefixtures("colmap")

HERE = 47.3769, 8.5417, 408.0
LARGE = 30
"""The scene's metres in those of GPS, which says nothing of a corner of a room."""


def east_north_up(centres):
    """Of the scene, whose x points right, y down and z away."""
    return centres @ np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def place(metres):
    """By the ellipsoid's radii of curvature, good to a micrometre within metres."""
    latitude = math.radians(HERE[0])
    squared = 6.69437999014e-3
    w = math.sqrt(1 - squared * math.sin(latitude) ** 2)
    across = 6378137.0 / w + HERE[2]
    along = 6378137.0 * (1 - squared) / w**3 + HERE[2]
    east, north, up = map(float, metres)
    return (
        HERE[0] + math.degrees(north / along),
        HERE[1] + math.degrees(east / (across * math.cos(latitude))),
        HERE[2] + up,
    )


def with_gps(source, target, where):
    exif = PIL.Image.Exif()
    exif[271] = "Maker"  # Pillow writes no EXIF into a PNG where it has GPS alone.

    def angle(degrees):
        whole, rest = divmod(degrees, 1)
        seconds = IFDRational(round(rest * 3600 * 10**6), 10**6)
        return IFDRational(int(whole), 1), IFDRational(0, 1), seconds

    exif.get_ifd(0x8825).update(
        {
            1: "N", 2: angle(where[0]), 3: "E", 4: angle(where[1]), 5: b"\0",
            6: IFDRational(round(where[2] * 1000), 1000),
        }
    )  # fmt: skip
    with PIL.Image.open(source) as picture:
        picture.save(target, exif=exif)


@pytest.fixture(scope="module")
def tagged(scene, tmp_path_factory):
    """The scene's photos with GPS positions, of which one is far off."""
    folder = tmp_path_factory.mktemp("tagged") / "photos"
    folder.mkdir()
    for name, centre in scene.centres.items():
        off = [0.0, 300.0, 0.0] if name == "4.png" else [0.0, 0.0, 0.0]
        with_gps(scene.folder / name, folder / name, place(LARGE * east_north_up(centre) + off))
    return folder


@pytest.fixture(scope="module")
def placed(tagged, known, tmp_path_factory):
    folder = tmp_path_factory.mktemp("placed") / "map"
    return folder, build_map(tagged, folder, options=MapOptions(max_keypoints=800, **known))


def test_convention_axes_are_metres_to_the_east_north_and_up():
    origin = Origin(*HERE)
    np.testing.assert_allclose(origin.east_north_up([HERE]), [[0, 0, 0]], atol=1e-6)
    metres = np.array([[3.0, -2, 1], [-40, 25, 0], [0, 0, 7]])
    np.testing.assert_allclose(
        origin.east_north_up([place(row) for row in metres]), metres, atol=1e-3
    )
    assert first_origin({"b": HERE, "a": (1.0, 2.0, None)}) == Origin(*HERE)


def test_a_map_with_gps_is_in_metres(placed, scene, tagged):
    folder, summary = placed
    assert summary.gps == 6  # One contradicts the others.
    where = {name: LARGE * east_north_up(centre) for name, centre in scene.centres.items()}
    model = Map.open(folder).reconstruction
    for image in model.images.values():
        expected = where[image.name] - where["0.png"]
        np.testing.assert_allclose(image.projection_center(), expected, atol=0.5)
    assert summary.gps_error < 0.3
    assert summary.origin == pytest.approx(read_photo_info(tagged / "0.png", None).place)
    assert summary.frame().startswith("In metres to the east, north and up from 47.3")
    assert json.loads((folder / "gps.json").read_text())["photos"] == 6


def test_places_in_it_are_in_metres(placed, mapped, tagged):
    """Which the command says, too; in a map without GPS lengths mean nothing by themselves."""
    for folder, unit, words in (
        (placed[0], "metres", " metres."),
        (mapped[0], "arbitrary", " of the map's units."),
    ):
        found = Locator(folder, matcher="nearest")(tagged / "3.png", focal=420.0)
        assert (found.unit, found.to_dict()["unit"]) == (unit, unit)
        first = found.lines()[0]
        assert first.startswith("Camera at (")
        assert first.endswith(words)


def test_positions_are_priors_of_colmap_s(placed, tagged, colmap):
    with Database(placed[0] / "database.db") as database:
        ids = database.images
    rows = colmap.Database.open(str(placed[0] / "database.db"))
    priors = {prior.corr_data_id.id: prior for prior in rows.read_all_pose_priors()}
    rows.close()
    assert len(priors) == 7
    prior = priors[ids["2.png"]]
    assert prior.coordinate_system == colmap.PosePriorCoordinateSystem.WGS84
    np.testing.assert_allclose(prior.position, read_photo_info(tagged / "2.png", None).place)


def test_a_second_run_says_it_again(placed, tagged):
    again = build_map(tagged, placed[0])
    assert again.origin == placed[1].origin is not None
    assert again.frame() == placed[1].frame()


def test_models_stay_where_gps_does_not_suffice(placed, colmap, scene):
    model = Map.open(placed[0]).reconstruction
    before = [image.projection_center() for image in model.images.values()]
    places = {name: place(east_north_up(c)) for name, c in scene.centres.items()}
    rng = np.random.default_rng(0)
    noisy = {n: place(east_north_up(c) + 5 * rng.normal(size=3)) for n, c in scene.centres.items()}
    line = {name: place([float(at), 0, 0]) for at, name in enumerate(scene.centres)}
    for given, why in (
        (dict(list(places.items())[:3]), "too few, 4 are needed"),
        (places, "too inexact for photos so near each other"),
        (noisy, "too inexact|contradict each other"),
        (line, "too inexact|on one line"),
    ):
        found = register(model, given, Origin(*HERE))
        assert isinstance(found, str)
        assert any(words in found for words in why.split("|"))
    np.testing.assert_array_equal(
        [image.projection_center() for image in model.images.values()], before
    )
    larger = {name: place(100 * east_north_up(c)) for name, c in scene.centres.items()}
    found = register(model, larger, Origin(*HERE))
    assert found.photos == 7
    moved = model.find_image_with_name("1.png").projection_center()
    np.testing.assert_allclose(moved, 100 * east_north_up(scene.centres["1.png"]), atol=1.5)
