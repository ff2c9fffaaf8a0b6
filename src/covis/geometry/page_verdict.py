"""Two pages on one template: their matches agree, what is written on them does not.

Letters, forms, slides and screens have most of their points on the template, and no count of
inliers tells two apart. Where both are mostly paper, and one lies over the other as it is, their
pixels have the last word. Photographs are left alone: in other light, and with other people in the
way, they show the same place.
"""

from __future__ import annotations

from dataclasses import replace

from covis.geometry.agreement import View, compare, is_near_similar, is_paper
from covis.geometry.similarity import similarity_of_pictures
from covis.geometry.two_view import estimate_geometry
from covis.types import Geometry, Matches, Matrix, Verdict

MIN_CONTRADICTED = 0.02
"""Of the contrast: copies of pages have 0.012 at most, see `agreement`."""
MIN_ON_PLANE = 0.15
"""Of the inliers of another geometry, those that agree with a homography: the template's."""
MIN_MOVED = 0.8
"""Of the inliers, those that agree with a similarity; of a page seen from the side few do."""
NOTE = "laid over each other, what is written differs: perhaps two pages on one template"


def doubt_pages(found: Matches, view0: View, view1: View) -> Matches:
    """Matches that are the "same", "unsure" where the pictures are two pages on one template.

    The probability is then at most even, and the geometry's note says why.
    """
    if found.verdict is None or found.geometry is None or found.verdict.label != "same":
        return found
    if not (is_paper(view0) and is_paper(view1)):
        return found
    matrix = _homography(found, found.geometry, view0.size, view1.size)
    if matrix is None or not is_near_similar(matrix, view0.size):
        matrix = _similarity(found)
    if matrix is None:
        return found
    agreement = compare(view0, view1, matrix)
    if agreement.copies or agreement.contradicted < MIN_CONTRADICTED:
        return found
    note = "; ".join(filter(None, [found.geometry.note, NOTE]))
    return replace(
        found,
        geometry=replace(found.geometry, note=note),
        verdict=Verdict("unsure", min(found.verdict.probability, 0.5)),
    )


def _homography(
    found: Matches, geometry: Geometry, size0: tuple[int, int], size1: tuple[int, int]
) -> Matrix | None:
    if geometry.kind == "homography":
        return geometry.matrix
    points0, points1 = found.points0[found.inliers], found.points1[found.inliers]
    model = estimate_geometry(
        points0, points1, "homography", size0=size0, size1=size1, mirrored=found.mirrored
    )
    return model.matrix if model.inliers.sum() >= MIN_ON_PLANE * len(points0) else None


def _similarity(found: Matches) -> Matrix | None:
    """Where the points are few and in one corner, as a letterhead's: what most of them move by."""
    points0, points1 = found.points0[found.inliers], found.points1[found.inliers]
    fitted = similarity_of_pictures(points0, points1, mirrored=found.mirrored)
    if fitted is None or fitted[1].sum() < MIN_MOVED * len(points0):
        return None
    return fitted[0]
