"""How strong the edges of a picture are, whatever its greys."""

from __future__ import annotations

import numpy as np
from helpers.textures import draw_texture

from covis.images.edges import edge_strength

GREY = draw_texture(120, 160, seed=3)[:, :, 0]


def test_a_negative_has_the_same_edges() -> None:
    edges = edge_strength(GREY)
    assert (edges.shape, edges.dtype) == (GREY.shape, np.uint8)
    assert edges.std() > 20
    # Fractions are cut off, and float32 rounds each picture's in its own way.
    assert np.abs(edges.astype(int) - edge_strength(255 - GREY)).max() <= 1


def test_a_pale_picture_has_nearly_the_same_edges() -> None:
    pale = np.asarray(100 + 0.4 * GREY, np.uint8)
    both = np.corrcoef(edge_strength(GREY).ravel(), edge_strength(pale).ravel())[0, 1]
    assert both > 0.95


def test_edges_lie_where_the_grey_changes_and_nowhere_else() -> None:
    step = np.full((60, 80), 50, np.uint8)
    step[:, 40:] = 200
    edges = edge_strength(step)
    assert set(edges[:, [39, 40]].ravel()) == {255}
    assert edges[:, :34].max() == edges[:, 46:].max() == 0
