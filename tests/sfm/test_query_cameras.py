"""What may be true of a query's camera."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.geometry.camera import CalibratedCamera
from covis.geometry.pose_fit import CameraPrior
from covis.images.decode import load_image
from covis.images.exif import PhotoInfo
from covis.sfm.localise import Locator
from covis.sfm.query_cameras import camera_in_map, given_or_guessed
from covis.types import Image

PICTURE = Image(np.zeros((48, 64, 3), np.uint8), 640, 480, name="q.jpg")


def test_what_is_given_is_all_that_is_tried():
    camera = CalibratedCamera("PINHOLE", 640, 480, (100.0, 100.0, 1.0, 1.0))
    assert given_or_guessed(PICTURE, camera, None) == [("given", CameraPrior(camera))]
    ((source, prior),) = given_or_guessed(replace(PICTURE, focal_length=500.0), None, 600.0)
    assert (source, prior.camera.focal, prior.focal_deviation) == ("given", 600, 0)
    assert prior.distortion_deviation > 0


def test_without_it_exif_comes_first_and_an_unknown_lens_after():
    sources = [guess.source for guess in given_or_guessed(PICTURE, None, None)]
    assert sources == ["estimated", "fisheye", "cropped"]
    exif, *others = given_or_guessed(replace(PICTURE, focal_length=500.0), None, None)
    assert [guess.source for guess in others] == sources
    assert (exif.source, exif.prior.camera.params) == ("EXIF", (500, 320, 240))
    assert 0 < exif.prior.focal_deviation < 0.1
    assert all(math.isinf(guess.prior.focal_deviation) for guess in others)
    panorama = given_or_guessed(replace(PICTURE, height=320), None, None)[0]
    assert (panorama.source, panorama.prior.camera.model) == ("panorama", "EQUIRECTANGULAR")


def test_convention_the_camera_is_of_the_files_pixels():
    camera = given_or_guessed(replace(PICTURE, orientation=6), None, 500.0)[0].prior.camera
    assert (camera.width, camera.height) == (480, 640)


def test_exception_cameras_that_are_not_its():
    camera = CalibratedCamera("PINHOLE", 480, 640, (1.0, 1.0, 1.0, 1.0))
    with pytest.raises(ArgumentError, match="640x480"):
        given_or_guessed(PICTURE, camera, None)
    with pytest.raises(ArgumentError, match="not both"):
        given_or_guessed(PICTURE, camera, 500.0)
    for focal in (0.0, -1.0, math.nan, 63.0, 6500.0):
        with pytest.raises(ArgumentError, match="focal length"):
            given_or_guessed(PICTURE, None, focal)


def test_the_maps_camera_is_that_of_body_size_and_focal_length(mapped, another, monkeypatch):
    from covis.sfm import Map

    model, image = Map.open(mapped[0]), load_image(another[0])
    told = {"query": PhotoInfo((480, 360), "Maker X", 400.0)}
    shots = {name: told["query"] for name in model.names}

    def read(path, focal):
        return shots.get(Path(path).name, told["query"])

    def found():
        return camera_in_map(another[0], image, model, list(shots))

    monkeypatch.setattr("covis.sfm.query_cameras.read_photo_info", read)
    ((source, prior),) = found()
    assert (source, prior.camera) == ("map", Locator(model, matcher="nearest").camera_of("0.png"))
    assert prior.known
    for other in (
        PhotoInfo((480, 360), "Maker Y", 400.0),
        PhotoInfo((480, 360), "Maker X", 300.0),
        PhotoInfo((480, 360), "Maker X"),
        PhotoInfo((360, 480), "Maker X", 400.0),
        PhotoInfo((480, 360)),
    ):
        told["query"] = other
        assert found() == []
    # Nothing told of any: perhaps that camera, so it may be off a little.
    shots.update(dict.fromkeys(shots, PhotoInfo((480, 360))))
    ((_, prior),) = found()
    assert 0 < prior.focal_deviation < 0.05
