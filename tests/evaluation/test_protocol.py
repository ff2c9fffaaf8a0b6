from pathlib import Path

import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.evaluation.benchmark import Settings
from covis.evaluation.datasets.pairs import HomographyPair, PairSet, PosePair, scaled
from covis.evaluation.protocol import Protocol, chosen, measure
from covis.geometry import Camera

HOMOGRAPHY = np.array([[0.9, 0.05, 10], [-0.03, 1.1, -8], [1e-4, 0, 1]])


def plane(size0=(800, 600), size1=(400, 800)):
    return HomographyPair(Path("a"), Path("b"), size0, size1, HOMOGRAPHY)


def mapped(matrix, point):
    x, y, w = matrix @ [*point, 1]
    return np.array([x / w, y / w])


def test_a_shrunk_homography_maps_shrunk_points():
    small = scaled(plane(), 400, 200)
    assert (small.size0, small.size1) == ((400, 300), (100, 200))
    # Half as large and a quarter: a point at half its place goes to a quarter of the other's.
    for point in np.array([[0, 0], [30, 500], [799, 2]]):
        expected = mapped(HOMOGRAPHY, point) / 4
        assert mapped(small.homography_1from0, point / 2) == pytest.approx(expected)


def test_a_shrunk_camera_sees_shrunk_points():
    camera = Camera(600, 610, 320, 240)
    pair = PosePair(
        Path("a"), Path("b"), (640, 480), (640, 480), camera, camera, np.eye(3), np.ones(3)
    )
    small = scaled(pair, 320, 9999)
    assert small.camera0 == Camera(300, 305, 160, 120)
    assert small.camera1 == camera
    assert small.size1 == (640, 480)


@pytest.mark.parametrize(
    ("limits", "size0", "size1"),
    [
        ({}, (800, 600), (400, 800)),
        ({"longest": 400}, (400, 300), (200, 400)),
        # Shorter sides of 300: half of 600, three quarters of 400.
        ({"shortest": 300}, (400, 300), (300, 600)),
        ({"longest": 10_000, "shortest": 10_000}, (800, 600), (400, 800)),
    ],
)
def test_sizes_of_a_protocol(limits, size0, size1):
    pair = Protocol("p", 10, ("poselib",), (), **limits).sized(plane())
    assert (pair.size0, pair.size1) == (size0, size1)


ONE = Protocol("one", 100, ("opencv",), (1.0, 2.0), longest=640)
TWO = Protocol("two", 200, ("poselib",), (), shortest=480)


def test_settings_go_before_protocols():
    assert chosen((ONE, TWO), Settings()) == [ONE, TWO]
    settings = Settings(
        protocol="two", max_size=0, max_keypoints=7, estimators=("dlt",), thresholds=(3.0,)
    )
    assert chosen((ONE, TWO), settings) == [Protocol("two", 7, ("dlt",), (3.0,))]


def test_exception_unknown_protocol():
    with pytest.raises(ArgumentError, match="no protocol 'three'; there are: one, two"):
        chosen((ONE, TWO), Settings(protocol="three"))


class Extractor:
    max_keypoints = 100


class Shifted:
    """A method whose matches are all right but for a noise of one pixel."""

    name = "shifted"
    extractor = Extractor()

    def match(self, pair):
        rng = np.random.default_rng(0)
        points0 = rng.uniform(0, pair.size0, (200, 2)).astype(np.float32)
        points1 = np.array([mapped(pair.homography_1from0, p) for p in points0])
        noise = rng.normal(0, 1, points1.shape)
        noise[:60] = rng.uniform(-300, 300, (60, 2))
        return points0, (points1 + noise).astype(np.float32)


def areas(result):
    return {f"AUC@{t}": 100 * value for t, value in result.areas((1, 3)).items()}


def test_the_best_threshold_is_reported_as_such():
    sets = [PairSet(name, "homography", (plane(), plane())) for name in ("left", "right")]
    tried = (0.01, 3.0)
    protocol = Protocol("p", 100, ("opencv",), tried)
    ticks = []
    rows = measure(protocol, Shifted(), sets, areas, Settings(seeds=2), lambda: ticks.append(1))
    assert [row.part for row in rows] == ["left", "right", "all"]
    assert {row.protocol for row in rows} == {"p, RANSAC"}
    assert len(ticks) == 4
    assert [row.items for row in rows] == [2, 2, 4]
    assert rows[0].detail["threshold"] == 3.0
    assert "threshold 3 px, the best of 0.01, 3 on these pairs" in rows[0].note
    single = {
        t: measure(
            Protocol("p", 100, ("opencv",), (t,)),
            Shifted(),
            sets,
            areas,
            Settings(seeds=2),
            lambda: None,
        )[-1].figures
        for t in tried
    }
    assert rows[-1].figures == single[3.0]
    assert sum(single[3.0].values()) > sum(single[0.01].values())
