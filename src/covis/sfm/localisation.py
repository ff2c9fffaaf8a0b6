"""What is to be known of a query's place: the camera's pose, how sure it is, and in words."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from covis.geometry.absolute_pose import AbsolutePose
from covis.images.decode import load_image
from covis.types import DRAWN_SIZE, FloatArray, Matrix, Source

if TYPE_CHECKING:
    from covis.sfm.map import Map

METRES, ARBITRARY = "metres", "arbitrary"
"""What a map's lengths are in."""

_SOURCES = {
    "given": "given",
    "map": "as photos of the map have it",
    "EXIF": "EXIF's, adjusted",
    "panorama": "of a panorama all around",
    "fisheye": "of a fisheye, estimated",
    "cropped": "of a cropped photo, estimated",
    "estimated": "estimated",
}


@dataclass(frozen=True)
class Neighbour:
    """A photo of the map, and what the query shares with it.

    matches: of the features. points: of these, how many show a 3D point. inliers: of the query's
    keypoints that agree with the pose, how many this photo named the point of.
    """

    name: str
    matches: int
    points: int
    inliers: int


@dataclass(frozen=True)
class PlaceTried:
    """One attempt at a query's place.

    method: features and matcher. view: how the query was seen, in words. neighbours: photos of the
    map that it was matched with. points, inliers: that were recognised, and that agree with a pose.
    confidence: that this pose is right, by this attempt alone.
    """

    method: str
    view: str
    neighbours: int
    points: int
    inliers: int
    confidence: float


@dataclass(frozen=True, eq=False)
class Localisation:
    """Where a query was taken.

    name: of the query. estimate: the pose, as COLMAP has it for the file's pixels; see there for
        when it has none. found: whether it has.
    neighbours: the photos of the map it was matched with, the most similar first.
    keypoints: (N, 2), upright pixels, of the query's features that show a 3D point; point_ids (N,)
        which, places (N, 3) where those lie. `estimate.inliers` belongs to them.
    focal_source: where the camera came from: "given"; "map", a camera of the map; "EXIF", its focal
        length; or it was estimated from the points: "estimated", a lens with one radial term;
        "fisheye"; "cropped", with the principal point somewhere else; "panorama", all around.
    notes: what else is to be known of it, a sentence each. tried: the attempts; the last one is the
        answer where it has a pose, else the one that comes closest to one.
    unit: of all lengths: "metres" in a map that GPS laid out, else "arbitrary".
    seconds: wall time by stage. model, licence: what made the matches, and under which terms.
    """

    name: str
    estimate: AbsolutePose
    neighbours: tuple[Neighbour, ...]
    keypoints: FloatArray
    point_ids: NDArray[np.int64]
    places: Matrix
    focal_source: str
    seconds: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    licence: str = ""
    notes: tuple[str, ...] = ()
    unit: str = ARBITRARY
    tried: tuple[PlaceTried, ...] = ()

    @property
    def found(self) -> bool:
        return self.estimate.pose is not None

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and words, ready for JSON; without a pose, null."""
        estimate = self.estimate
        pose, camera = estimate.pose, estimate.camera
        return {
            "query": self.name,
            "located": self.found,
            "note": estimate.note,
            "notes": list(self.notes),
            "cam_from_world": None
            if pose is None
            else {"quaternion_wxyz": pose.quaternion, "translation": pose.translation.tolist()},
            "position": None if pose is None else pose.position.tolist(),
            "rotation_deviation_degrees": None
            if pose is None
            else estimate.rotation_deviation.tolist(),
            "position_deviation": None if pose is None else estimate.position_deviation.tolist(),
            "unit": self.unit,
            "covariance": None if estimate.covariance is None else estimate.covariance.tolist(),
            "confidence": estimate.confidence,
            "camera": {
                "model": camera.model,
                "width": camera.width,
                "height": camera.height,
                "params": list(camera.params),
                "focal": self.focal_source,
                "focal_deviation": estimate.focal_deviation,
            },
            "points": len(estimate.inliers),
            "inliers": int(estimate.inliers.sum()),
            "neighbours": [vars(neighbour) for neighbour in self.neighbours],
            "tried": [vars(attempt) for attempt in self.tried],
            "seconds": dict(self.seconds),
            "model": self.model,
            "licence": self.licence,
        }

    def lines(self) -> list[str]:
        """What people want to know of it, a line each, as `covis locate` prints them."""
        estimate = self.estimate
        inliers, points = int(estimate.inliers.sum()), len(estimate.inliers)
        if estimate.pose is None:
            lines = [f"{estimate.note[0].upper()}{estimate.note[1:]}."]
        else:
            turn, place = estimate.rotation_deviation, estimate.position_deviation
            quaternion = " ".join(f"{value:.6f}" for value in estimate.pose.quaternion)
            shift = " ".join(f"{value:.5g}" for value in estimate.pose.translation)
            position = ", ".join(f"{value:.5g}" for value in estimate.pose.position)
            unit = "metres" if self.unit == "metres" else "of the map's units"
            lines = [
                f"Camera at ({position}), give or take {max(place):.2g} {unit}.",
                f"cam_from_world: rotation (w x y z) {quaternion}, give or take {max(turn):.2g} "
                f"degrees; translation {shift}.",
                f"{inliers} of {points} points agree, confidence {estimate.confidence:.3f}.",
            ]
            focal = f"Focal length {estimate.camera.focal:.1f} px, {_SOURCES[self.focal_source]}"
            if estimate.focal_deviation:
                focal += f", give or take {100 * estimate.focal_deviation:.1g} %"
            if estimate.camera.model == "SIMPLE_RADIAL":
                focal += f"; distortion {estimate.camera.distortion:.3f}"
            lines.append(f"{focal}.")
        lines += [f"{note[0].upper()}{note[1:]}." for note in self.notes]
        seen = [neighbour for neighbour in self.neighbours if neighbour.inliers]
        seen.sort(key=lambda neighbour: -neighbour.inliers)
        if seen and estimate.pose is not None:
            names = ", ".join(f"{neighbour.name} ({neighbour.inliers})" for neighbour in seen[:3])
            lines.append(f"Sees what these photos of the map see: {names}.")
        if len(self.tried) > 1:
            ways = "; ".join(f"{each.method}, {each.view}: {each.inliers}" for each in self.tried)
            lines.append(f"Tried, with points that agree: {ways}.")
        stages = ", ".join(
            f"{stage} {1000 * spent:.0f} ms" for stage, spent in self.seconds.items()
        )
        lines.append(f"Time: {sum(self.seconds.values()):.2f} s ({stages}).")
        lines.append(f"Model: {self.model}; licence: {self.licence}.")
        return lines

    def draw(
        self, query: Source, model: Map, path: str | os.PathLike[str] | None = None
    ) -> NDArray[np.uint8]:
        """The query's points beside the map from above, (h, w, 3) RGB; see `draw_localisation`.

        query: what `load_image` takes. path: where to write the picture as well.
        """
        from covis.draw.canvas import save_picture
        from covis.draw.localisation import draw_localisation

        picture = draw_localisation(load_image(query, max_size=DRAWN_SIZE), model, self)
        if path is not None:
            save_picture(picture, path)
        return picture
