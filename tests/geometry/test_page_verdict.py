"""`covis.match` on two pages of one template."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.pages import jpeg, page
from helpers.textures import draw_texture

from covis import match
from covis.geometry.page_verdict import NOTE


@pytest.mark.parametrize("geometry", ["homography", "fundamental"])
def test_two_pages_on_one_template_are_not_called_the_same(geometry: str) -> None:
    pages = page(1, lines=6), page(2, lines=6)
    found = match(*pages, features="sift", matcher="nearest", geometry=geometry)
    assert found.verdict.label == "unsure"
    assert found.verdict.probability == 0.5
    assert NOTE in found.geometry.note
    again = match(
        pages[0], jpeg(pages[0], 40), features="sift", matcher="nearest", geometry=geometry
    )
    assert again.verdict.label == "same"
    assert NOTE not in again.geometry.note


def test_a_picture_of_which_a_part_is_another_stays_the_same() -> None:
    """A photo with people in the way: no page."""
    picture = draw_texture(300, 400, seed=1)
    changed = picture.copy()
    changed[:, 250:] = draw_texture(300, 400, seed=2)[:, 250:]
    found = match(picture, np.ascontiguousarray(changed), features="sift", matcher="nearest")
    assert found.verdict.label == "same"
