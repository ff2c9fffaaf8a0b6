"""Absolute poses of made-up cameras among made-up points."""

from __future__ import annotations

import math

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.geometry import Camera
from covis.geometry.absolute_pose import (
    EXIF_DEVIATION,
    choose_absolute_pose,
    default_threshold,
    estimate_absolute_pose,
)
from covis.geometry.camera import BENDING, MODELS, POSELIB_MODELS, CalibratedCamera
from covis.geometry.pose import Pose
from covis.geometry.pose_confidence import POSE_CONFIDENCE, surprise
from covis.geometry.pose_fit import CENTRE_DEVIATION, CameraPrior

SIZE = (640, 480)
PINHOLE = CalibratedCamera("PINHOLE", *SIZE, (520.0, 530.0, 322.0, 238.0))
CAMERAS = [
    CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (525.0, 320.0, 240.0)),
    PINHOLE,
    CalibratedCamera("SIMPLE_RADIAL", *SIZE, (525.0, 320.0, 240.0, -0.08)),
    CalibratedCamera("RADIAL", *SIZE, (525.0, 320.0, 240.0, -0.08, 0.01)),
    CalibratedCamera("OPENCV", *SIZE, (520.0, 530.0, 322.0, 238.0, -0.08, 0.01, 1e-3, -1e-3)),
    CalibratedCamera(
        "OPENCV_FISHEYE", *SIZE, (520.0, 530.0, 322.0, 238.0, 0.01, 0.01, 1e-3, -1e-3)
    ),
    CalibratedCamera(
        "FULL_OPENCV", *SIZE, (520.0, 530.0, 322.0, 238.0, -0.08, 0.01, 1e-3, -1e-3, 0, 0, 0, 0)
    ),
]
COLMAPS = [
    CalibratedCamera(model, *SIZE, params)
    for model, params in {
        "SIMPLE_FISHEYE": (300.0, 320.0, 240.0),
        "FISHEYE": (300.0, 310.0, 320.0, 240.0),
        "SIMPLE_RADIAL_FISHEYE": (300.0, 320.0, 240.0, 0.02),
        "RADIAL_FISHEYE": (300.0, 320.0, 240.0, 0.02, -0.01),
        "FOV": (400.0, 410.0, 320.0, 240.0, 0.8),
        "SIMPLE_DIVISION": (450.0, 320.0, 240.0, -0.1),
        "DIVISION": (450.0, 460.0, 320.0, 240.0, -0.1),
        "EUCM": (400.0, 410.0, 320.0, 240.0, 0.5, 1.1),
        "THIN_PRISM_FISHEYE": (300.0, 310.0, 320.0, 240.0, 0.02, 0, 0, 0, 0, 0, 1e-3, 0),
        "RAD_TAN_THIN_PRISM_FISHEYE": (300.0, 310.0, 320.0, 240.0, 0.02, *[0.0] * 11),
        "EQUIRECTANGULAR": (640.0, 480.0),
    }.items()
]
"""Cameras that PoseLib does not know."""
# A quarter turn about z, then two metres back: x_cam = (-y, x, z) + (0.1, -0.2, 2).
TRUTH = Pose(np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]]), np.array([0.1, -0.2, 2.0]))


def make_scene(camera=PINHOLE, count=200, noise=0.5, outliers=0, seed=0, depth=(-0.6, 2.0)):
    """Pixels (N, 2) and places (N, 3) that TRUTH sees; the last `outliers` are wrong."""
    rng = np.random.default_rng(seed)
    inside = rng.uniform((20, 20), (SIZE[0] - 20, SIZE[1] - 20), (count, 2))
    rays = camera.rays(inside)
    if camera.with_poselib:  # Then depths are along the axis.
        rays /= rays[:, 2:]
    local = rays * (2 + rng.uniform(*depth, (count, 1)))
    world = (local - TRUTH.translation) @ TRUTH.rotation
    pixels = inside + rng.normal(0, noise, (count, 2))
    if outliers:
        pixels[-outliers:] = rng.uniform((0, 0), SIZE, (outliers, 2))
    return pixels, world


def angle(pose):
    cosine = (np.trace(pose.rotation.T @ TRUTH.rotation) - 1) / 2
    return math.degrees(math.acos(min(cosine, 1)))


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_finds_the_pose_of_every_camera_model(camera):
    pixels, world = make_scene(camera, noise=0.3, outliers=80)
    found = estimate_absolute_pose(pixels, world, camera)
    assert found.pose is not None
    assert angle(found.pose) < 0.1
    np.testing.assert_allclose(found.pose.position, TRUTH.position, atol=0.005)
    assert found.inliers[:120].all()
    assert found.inliers[120:].sum() < 5
    assert found.confidence > 0.99
    assert found.camera == camera


@pytest.mark.parametrize("camera", COLMAPS, ids=lambda camera: camera.model)
def test_finds_the_pose_of_every_model_of_colmap(camera):
    pytest.importorskip("pycolmap", reason="these cameras need pycolmap")
    pixels, world = make_scene(camera, noise=0.3, outliers=40)
    found = estimate_absolute_pose(pixels, world, camera)
    assert found.pose is not None
    assert angle(found.pose) < 0.15
    np.testing.assert_allclose(found.pose.position, TRUTH.position, atol=0.01)
    assert found.inliers[:160].all()
    assert found.confidence > 0.99


def test_every_model_of_the_list_is_tried():
    assert {camera.model for camera in CAMERAS} == set(POSELIB_MODELS)
    assert {camera.model for camera in CAMERAS + COLMAPS} == set(MODELS)


def test_the_list_is_colmaps():
    colmap = pytest.importorskip("pycolmap", reason="the list is pycolmap's")
    theirs = {}
    for name in colmap.CameraModelId.__members__:
        if name != "INVALID":
            theirs[name] = len(colmap.Camera.create_from_model_name(0, name, 1.0, 2, 2).params)
    assert theirs == MODELS


@pytest.mark.parametrize("camera", [CAMERAS[2], CAMERAS[5], *COLMAPS], ids=lambda c: c.model)
def test_derivatives_are_those_of_pixels(camera):
    if not camera.with_poselib:
        pytest.importorskip("pycolmap", reason="these cameras need pycolmap")
    local = np.random.default_rng(0).uniform([-1, -1, 2], [1, 1, 4], (20, 3))
    found, step = camera.derivatives(local), 1e-5
    for axis in range(3):
        moved = [camera.pixels(local + sign * step * np.eye(3)[axis]) for sign in (-1, 1)]
        np.testing.assert_allclose((moved[1] - moved[0]) / (2 * step), found[:, :, axis], atol=1e-2)
    if camera.model in BENDING:
        more = (camera.bent(step).pixels(local) - camera.bent(-step).pixels(local)) / (2 * step)
        np.testing.assert_allclose(more, camera.by_distortion(local), rtol=1e-3, atol=1e-3)


def test_same_input_same_output_whatever_the_order():
    pixels, world = make_scene(outliers=60)
    one, again = (estimate_absolute_pose(pixels, world, PINHOLE, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one.pose.rotation, again.pose.rotation)
    np.testing.assert_array_equal(one.inliers, again.inliers)
    scores = np.linspace(1, 0, len(pixels))
    shuffled = np.random.default_rng(1).permutation(len(pixels))
    there = estimate_absolute_pose(
        pixels[shuffled], world[shuffled], PINHOLE, scores=scores[shuffled]
    )
    here = estimate_absolute_pose(pixels, world, PINHOLE, scores=scores)
    np.testing.assert_array_equal(there.inliers, here.inliers[shuffled])


@pytest.mark.parametrize("true_focal", [350.0, 700.0, 1600.0])
def test_an_unknown_focal_length_is_found(true_focal):
    camera = CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (true_focal, 320.0, 240.0))
    pixels, world = make_scene(camera, outliers=60)
    guess = CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (1.2 * 640, 320.0, 240.0))
    found = estimate_absolute_pose(pixels, world, guess, focal_deviation=math.inf)
    assert found.pose is not None
    assert found.camera.focal == pytest.approx(true_focal, rel=0.02)
    assert abs(found.camera.focal / true_focal - 1) < 5 * found.focal_deviation
    assert np.linalg.norm(found.pose.position - TRUTH.position) < 0.1


def test_a_focal_length_known_roughly_is_held_where_the_points_do_not_tell():
    camera = CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (600.0, 320.0, 240.0))
    # A plane that faces the camera: farther with a longer lens looks the same.
    pixels, world = make_scene(camera, depth=(1.0, 1.0 + 1e-9), noise=0.2)
    guess = camera.scaled(1.02)
    free = estimate_absolute_pose(pixels, world, guess, focal_deviation=math.inf)
    held = estimate_absolute_pose(pixels, world, guess, focal_deviation=0.01)
    assert abs(held.camera.focal / guess.focal - 1) < 0.01
    assert held.focal_deviation == pytest.approx(0.01, rel=0.2)
    if free.pose is not None:
        assert free.focal_deviation > 10 * held.focal_deviation
    fixed = estimate_absolute_pose(pixels, world, guess)
    assert fixed.focal_deviation == 0
    assert held.position_deviation[2] > 3 * fixed.position_deviation[2]


def test_deviations_are_those_of_repeated_noise():
    poses = []
    for seed in range(60):
        pixels, world = make_scene(count=60, noise=0.0)
        pixels = pixels + np.random.default_rng(seed).normal(0, 1.0, pixels.shape)
        poses.append(estimate_absolute_pose(pixels, world, PINHOLE, threshold=12.0))
    positions = np.array([TRUTH.rotation @ (p.pose.position - TRUTH.position) for p in poses])
    promised = np.mean([p.position_deviation for p in poses], axis=0)
    np.testing.assert_allclose(positions.std(axis=0), promised, rtol=0.3)
    turns = np.array([p.pose.rotation @ TRUTH.rotation.T for p in poses])
    about = np.degrees(np.stack([turns[:, 2, 1], turns[:, 0, 2], turns[:, 1, 0]], axis=1))
    promised = np.mean([p.rotation_deviation for p in poses], axis=0)
    np.testing.assert_allclose(about.std(axis=0), promised, rtol=0.3)


def test_deviations_when_some_keypoints_are_far_off():
    poses = []
    for seed in range(60):
        pixels, world = make_scene(count=80, noise=0.0)
        pixels = pixels + np.random.default_rng(seed).standard_t(2, pixels.shape)
        poses.append(estimate_absolute_pose(pixels, world, PINHOLE, threshold=9.0))
    positions = np.array([TRUTH.rotation @ (p.pose.position - TRUTH.position) for p in poses])
    promised = np.mean([p.position_deviation for p in poses], axis=0)
    np.testing.assert_allclose(positions.std(axis=0), promised, rtol=0.3)


def squared_error(found):
    """Of the position, normalised by the covariance: 1 on average if that is right."""
    miss = found.pose.rotation @ (found.pose.position - TRUTH.position)
    return miss @ np.linalg.solve(found.covariance[3:, 3:], miss) / 3


@pytest.mark.parametrize("k", [0.0, -0.1, -0.2])
def test_an_unknown_distortion_is_found_and_its_uncertainty_told(k):
    guess, squares = CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (700.0, 320.0, 240.0)), []
    for seed in range(12):
        camera = CalibratedCamera("SIMPLE_RADIAL", *SIZE, (480.0, 320.0, 240.0, k))
        pixels, world = make_scene(camera, count=150, noise=1.0, outliers=20, seed=seed)
        found = estimate_absolute_pose(
            pixels, world, guess, focal_deviation=math.inf, distortion_deviation=0.1
        )
        assert found.camera.distortion == pytest.approx(k, abs=0.04)
        assert found.camera.focal == pytest.approx(480, rel=0.1)
        squares.append(squared_error(found))
    assert 0.4 < np.mean(squares) < 2


LENS = CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (700.0, 320.0, 240.0))
UNKNOWN = CameraPrior(LENS, math.inf, 0.1)


@pytest.mark.parametrize(("said", "taken"), [(480.0, 0), (490.0, 0), (290.0, 1), (700.0, 1)])
def test_a_focal_length_that_the_points_contradict_is_not_taken(said, taken):
    """As EXIF's is after a photo was cropped."""
    camera = CalibratedCamera("SIMPLE_RADIAL", *SIZE, (480.0, 320.0, 240.0, -0.05))
    pixels, world = make_scene(camera, outliers=40)
    exif = CameraPrior(LENS.scaled(said / 700), EXIF_DEVIATION, 0.1)
    found, place = choose_absolute_pose(pixels, world, [exif, UNKNOWN])
    assert place == taken
    assert found.camera.focal == pytest.approx(480, rel=0.03)
    assert squared_error(found) < 4


def test_a_photo_cropped_aside_is_placed():
    camera = CalibratedCamera("SIMPLE_RADIAL", *SIZE, (480.0, 460.0, 160.0, -0.05))
    pixels, world = make_scene(camera, count=300, outliers=40)
    cropped = CameraPrior(LENS, math.inf, 0.1, 0.25)
    found, place = choose_absolute_pose(pixels, world, [UNKNOWN, cropped])
    assert place == 1
    np.testing.assert_allclose(found.camera.centre, (460, 160), atol=15)
    assert squared_error(found) < 4


def test_a_known_camera_is_taken_where_it_fits():
    pixels, world = make_scene(outliers=40)
    found, place = choose_absolute_pose(pixels, world, [CameraPrior(PINHOLE), UNKNOWN])
    assert (place, found.camera) == (0, PINHOLE)
    found, place = choose_absolute_pose(pixels, world, [CameraPrior(PINHOLE.scaled(1.1)), UNKNOWN])
    assert place == 1


def test_deviations_when_the_principal_point_is_off_the_middle():
    rng = np.random.default_rng(0)
    guess, squares = CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (700.0, 320.0, 240.0)), []
    for seed in range(20):
        middle = np.array([320, 240]) + rng.normal(0, CENTRE_DEVIATION * SIZE[0], 2)
        pixels, world = make_scene(
            CalibratedCamera("SIMPLE_PINHOLE", *SIZE, (525.0, *middle)), seed=seed
        )
        found = estimate_absolute_pose(pixels, world, guess, focal_deviation=math.inf)
        squares.append(squared_error(found))
    assert 0.5 < np.mean(squares) < 1.6


def test_thousands_of_points_gain_little():
    few, many, most = (
        estimate_absolute_pose(*make_scene(count=count), PINHOLE).position_deviation
        for count in (50, 2000, 20_000)
    )
    assert (many < few / 3).all()
    assert (most > many / 1.5).all()
    assert (most < many).all()


@pytest.mark.parametrize("count", [0, 2, 5, 100, 1000])
@pytest.mark.parametrize("deviation", [0.0, math.inf])
def test_unrelated_points_give_no_pose(count, deviation):
    for seed in range(3):
        pixels, world = make_scene(count=count, outliers=count, seed=seed)
        found = estimate_absolute_pose(pixels, world, PINHOLE, focal_deviation=deviation)
        assert found.pose is None
        assert found.note.startswith("cannot say")
        assert "few places" not in found.note
        assert found.inliers.shape == (count,)
        assert np.isinf(found.position_deviation).all()


def test_inliers_in_one_spot_are_not_believed():
    camera, rng = PINHOLE, np.random.default_rng(0)
    pixels, world = make_scene(count=120, noise=0.3)
    spot = 300 + rng.uniform(-8, 8, (30, 2))
    flat = np.array(camera.to_poselib().unproject(spot)).reshape(-1, 2)
    local = np.column_stack([flat, np.ones(30)]) * 2
    right = (local - TRUTH.translation) @ TRUTH.rotation
    wrong = rng.uniform((0, 0), SIZE, (120, 2))
    found = estimate_absolute_pose(np.r_[spot, wrong], np.r_[right, world], camera)
    assert found.pose is None
    assert found.note.endswith("but in too few places of the picture")
    wide = estimate_absolute_pose(np.r_[pixels[:30], wrong], np.r_[world[:30], world], camera)
    assert wide.pose is not None


def test_confidence_grows_with_surprise():
    grown = [POSE_CONFIDENCE.confidence(value) for value in (0, 5, 20, 100)]
    assert grown == sorted(grown)
    assert POSE_CONFIDENCE.confidence(POSE_CONFIDENCE.even) == 0.5
    assert (
        POSE_CONFIDENCE.confidence(-5) == POSE_CONFIDENCE.confidence(0) < POSE_CONFIDENCE.believed
    )


def test_surprise_counts_cells_by_hand():
    """Two cells of 160 x 160 pixels: one is 10 x 10. Threshold 2: chance 4 pi / 25600."""
    points = np.array([[5, 5], [6, 6], [155, 5], [5, 155], [155, 155], [80, 80.0]])
    inliers = np.array([True, True, True, True, True, False])
    # Five cells have a point, four of them an inlier: 4 * (5 - 3) * C(5, 4) * C(4, 3) * chance.
    chance = 1 - (1 - 4 * math.pi / 25600) ** (6 / 5)
    expected = -math.log10(4 * 2 * 5 * 4 * chance)
    assert surprise(points, inliers, (160, 160), 2.0) == pytest.approx(max(expected, 0))
    inliers[0] = False
    assert surprise(points, inliers, (160, 160), 2.0) == pytest.approx(max(expected, 0))
    assert surprise(points, ~inliers, (160, 160), 2.0) == 0
    assert surprise(points[:0], inliers[:0], (160, 160), 2.0) == 0


def test_convention_quaternion_is_w_first_and_half_turns_work():
    assert Pose(np.eye(3), np.zeros(3)).quaternion == (1, 0, 0, 0)
    half = math.sqrt(0.5)
    assert TRUTH.quaternion == pytest.approx((half, 0, 0, half))
    rng = np.random.default_rng(0)
    halves = [[0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1], [0, -1, 1, 0]]
    for q in [*halves, *rng.normal(size=(20, 4))]:
        pose = Pose.from_quaternion(q, np.zeros(3))
        np.testing.assert_allclose(pose.rotation @ pose.rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(pose.rotation) == pytest.approx(1)
        expected = np.array(q) / np.linalg.norm(q)
        assert abs(np.dot(pose.quaternion, expected)) == pytest.approx(1)
        assert pose.quaternion[0] >= 0


def test_convention_position_is_where_the_camera_stands():
    # x_cam = R x + t is zero at the camera: y = -0.1... by hand: (-y + 0.1, x - 0.2, z + 2) = 0.
    np.testing.assert_allclose(TRUTH.position, [0.2, 0.1, -2.0])


def test_camera_from_text_and_from_camera():
    assert CalibratedCamera.parse("pinhole,500,510,320,240", SIZE) == CalibratedCamera(
        "PINHOLE", *SIZE, (500.0, 510.0, 320.0, 240.0)
    )
    assert CalibratedCamera.parse("SIMPLE_RADIAL 500 320 240 -0.1", SIZE).params[3] == -0.1
    assert CalibratedCamera.of(Camera(500, 510, 320, 240), SIZE).params == (500, 510, 320, 240)
    assert PINHOLE.focal == 525
    assert PINHOLE.scaled(2).params == (1040, 1060, 322, 238)
    assert CAMERAS[2].scaled(2).params == (1050, 320, 240, -0.08)
    np.testing.assert_array_equal(PINHOLE.centre, [322, 238])


@pytest.mark.parametrize(
    "text", ["", "PINHOLE", "PINHOLE,1,2,3", "PINHOLE,a,b,c,d", "FOV,1,2,3,4", "PINHOLE,-1,1,2,3",
             "PINHOLE,nan,1,2,3"]
)  # fmt: skip
def test_exception_no_camera(text):
    with pytest.raises(ArgumentError):
        CalibratedCamera.parse(text, SIZE)


def test_exception_arguments():
    pixels, world = make_scene(count=20)
    for bad in (
        {"points": pixels[:-1]},
        {"points": pixels[:, :1]},
        {"world": np.full((20, 3), np.nan)},
        {"focal_deviation": -1.0},
        {"focal_deviation": math.nan},
        {"distortion_deviation": 0.1},
        {"threshold": 0.0},
        {"seed": -1},
        {"max_iterations": 0},
    ):
        given = {"points": pixels, "world": world, "camera": PINHOLE} | bad
        with pytest.raises(ArgumentError):
            estimate_absolute_pose(**given)
    with pytest.raises(ArgumentError):
        Pose.from_quaternion([0, 0, 0, 0], [0, 0, 0])


def test_default_threshold_grows_with_the_picture():
    assert default_threshold(PINHOLE) == pytest.approx(6.4)
    assert default_threshold(CalibratedCamera("SIMPLE_PINHOLE", 100, 80, (90.0, 50.0, 40.0))) == 3.0
