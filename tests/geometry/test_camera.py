import numpy as np
import pytest

from covis.errors import ArgumentError
from covis.geometry import Camera


def test_from_matrix_and_back():
    k = np.array([[700, 0, 320.5], [0, 710, 240.5], [0, 0, 1]])
    camera = Camera.from_matrix(k)
    assert camera == Camera(700, 710, 320.5, 240.5)
    np.testing.assert_array_equal(camera.matrix, k)


def test_convention_principal_point_is_the_middle_of_the_picture():
    assert Camera.from_size((640, 480), 800) == Camera(800, 800, 320, 240)


def test_unknown_focal_length_is_1_2_longer_sides():
    assert Camera.from_size((480, 1000)) == Camera(1200, 1200, 240, 500)


@pytest.mark.parametrize(
    "values", [(0, 1, 0, 0), (1, -1, 0, 0), (np.nan, 1, 0, 0), (1, 1, np.inf, 0)]
)
def test_exception_intrinsics(values):
    with pytest.raises(ArgumentError, match=r"finite|positive"):
        Camera(*values)


@pytest.mark.parametrize(
    "matrix",
    [
        np.eye(4),
        [[700, 1, 320], [0, 700, 240], [0, 0, 1]],
        [[700, 0, 320], [0, 700, 240], [0, 0, 2]],
        [[700, 0], [0, 700, 3]],
        "K",
    ],
)
def test_exception_matrix(matrix):
    with pytest.raises(ArgumentError, match="Intrinsics must"):
        Camera.from_matrix(matrix)
