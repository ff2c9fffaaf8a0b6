"""Pictures laid over each other: the same, or only alike."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.pages import jpeg, page, written_over
from helpers.textures import draw_texture

from covis.geometry.agreement import Agreement, View, compare, is_near_similar
from covis.images.decode import load_image

UNMOVED = np.eye(3)
TEXTURE, PAGE = draw_texture(400, 600, seed=1), page(1)


def agreement(picture0, picture1, h_1from0=UNMOVED) -> Agreement:
    return compare(View.of(load_image(picture0)), View.of(load_image(picture1)), h_1from0)


def scaled(picture, factor):
    return cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)


@pytest.mark.parametrize("picture", [TEXTURE, PAGE], ids=["texture", "page"])
@pytest.mark.parametrize(
    ("change", "matrix"),
    [
        (lambda p: p, UNMOVED),
        (lambda p: jpeg(p, 12), UNMOVED),
        (lambda p: cv2.GaussianBlur(p, (0, 0), 1.5), UNMOVED),
        (lambda p: np.asarray(40 + 0.6 * p, np.uint8), UNMOVED),
        (lambda p: scaled(p, 0.5), np.diag([0.5, 0.5, 1])),
        (lambda p: scaled(p, 0.25), np.diag([0.25, 0.25, 1])),
        (lambda p: p[40:, 60:], np.array([[1, 0, -60], [0, 1, -40], [0, 0, 1.0]])),
    ],
    ids=["itself", "jpeg", "blurred", "paler", "half", "quarter", "cropped"],
)
def test_copies_agree_either_way_round(picture, change, matrix) -> None:
    copy = np.ascontiguousarray(change(picture))
    for found in (
        agreement(picture, copy, matrix),
        agreement(copy, picture, np.linalg.inv(matrix)),
    ):
        assert found.copies, found
        assert found.contradicted < 0.005


def test_pages_of_other_words_on_one_template_contradict() -> None:
    found = agreement(PAGE, page(2))
    assert not found.copies
    assert found.contradicted > 0.1
    assert not agreement(PAGE, scaled(page(2), 0.5), np.diag([0.5, 0.5, 1])).copies


def test_an_almost_empty_page_is_not_one_that_was_written_on() -> None:
    found = agreement(page(1, lines=1), page(1))
    assert found.overlaid > 0.2
    assert found.blank > 0.5
    assert not found.copies


def test_letters_over_a_picture_leave_it_a_copy() -> None:
    found = agreement(TEXTURE, written_over(TEXTURE))
    assert found.copies, found
    assert found.overlaid + found.contradicted > 0.02
    # Over other letters they do not.
    assert not agreement(written_over(TEXTURE, "ELSEWHERE"), written_over(TEXTURE)).copies


def test_a_part_that_moved_contradicts() -> None:
    moved = TEXTURE.copy()
    moved[:, 400:] = np.roll(TEXTURE, 9, axis=0)[:, 400:]
    found = agreement(TEXTURE, moved)
    assert not found.copies
    assert 0.1 < found.contradicted < 0.5


def test_nothing_to_see_is_no_copy() -> None:
    blank = np.full((100, 100, 3), 200, np.uint8)
    assert agreement(blank, blank) == Agreement(0, 0, 0, 0, 0, 1)
    assert not agreement(blank, blank).copies
    # Neither is an empty wall with a door in one corner.
    wall = np.full((400, 600, 3), 200, np.uint8)
    wall[340:, 540:] = TEXTURE[340:, 540:]
    found = agreement(wall, wall)
    assert (found.agreed, found.cells > 12, found.copies) == (pytest.approx(1), True, False)


@pytest.mark.parametrize(
    ("matrix", "near"),
    [
        (np.array([[0.6, -0.8, 5], [0.8, 0.6, 9], [0, 0, 1]]), True),
        (np.array([[-1, 0, 100], [0, 0.6, 0], [0, 0, 1]]), True),
        (-np.diag([1, 0.7, 1.0]), True),
        (np.array([[1, 0, 0], [0, 1, 0], [0.002, 0, 1]]), False),
        (np.array([[1, 0.5, 0], [0, 1, 0], [0, 0, 1.0]]), False),
        (np.array([[1, 0, 0], [0, 1, 0], [-0.02, 0, 1]]), False),
    ],
    ids=["turned", "mirrored", "negative", "perspective", "sheared", "behind"],
)
def test_near_similar_by_hand(matrix, near) -> None:
    assert is_near_similar(matrix.astype(np.float64), (100, 80)) == near
