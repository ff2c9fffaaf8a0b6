"""Map: a model in three dimensions, its photos, what they share, and where another was taken."""

from __future__ import annotations

import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from covis.errors import ArgumentError, CovisError
from covis.messages import counted
from covis.web.access import named
from covis.web.jobs import Job
from covis.web.maps import OpenMap, models, rounded
from covis.web.site import Site, one_of, whole

if TYPE_CHECKING:
    from covis.sfm.localisation import Localisation

LISTED = 500
"""Photos without a place that are named at most."""
PARTNERS = 200
"""Photos that share points with one, the first of them."""


def listed(site: Site, _: dict[str, Any]) -> Any:
    """The maps that were given."""
    maps = [
        {"id": each.id, "name": each.name, "uri": each.uri, "models": len(models(each.uri))}
        for each in site.sources.all
        if each.kind == "map"
    ]
    return {"maps": maps, "problem": _problem() if maps else ""}


def _problem() -> str:
    """What the command line says where pycolmap is missing."""
    if find_spec("pycolmap") is not None:
        return ""
    from covis.sfm.map import need_pycolmap

    try:
        need_pycolmap()
    except CovisError as error:
        return str(error)
    return ""


def scene(site: Site, given: dict[str, Any]) -> Any:
    """A model without its points: cameras, and what became of the other photos."""
    from covis.sfm.exports import ExportName

    found = _opened(site, given)
    cameras, model = found.cameras(), found.reconstruction
    missing = sum(camera["image"] is None for camera in cameras)
    photos = found.settings.photos if found.settings else ""
    return {
        "uri": str(found.folder),
        "cameras": cameras,
        "points": model.num_points3D(),
        "shown": len(found.points[0]),
        "text": _text(found),
        "hidden": _hidden(found.folder, photos, missing, len(cameras)),
        **_unplaced(site, found),
        "exports": list(get_args(ExportName)),
        "locates": found.settings is not None,
    }


def _text(found: OpenMap) -> str:
    model = found.reconstruction
    placed, total = len(found.images), len(found.photos or found.images)
    words = (
        f"{placed} of {counted(total, 'photo')} placed, {counted(model.num_points3D(), 'point')}, "
        f"reprojection error {model.compute_mean_reprojection_error():.2f} px, "
        f"{model.compute_mean_track_length():.1f} photos a point."
    )
    frame = found.summary.frame() if found.summary else ""
    return f"{words} {frame}".strip()


def _hidden(folder: Path, photos: str, missing: int, total: int) -> str:
    """Why photos are not shown; "" where all are."""
    if not missing:
        return ""
    some = "The photos of this map" if missing == total else f"{missing} of {total} photos"
    where = f"lie in {photos}, which" if photos else "lie in a folder that"
    return (
        f"{some} {where} covis web was not given, or are gone: start it with their folder as "
        f"well, as in covis web {folder} {photos or 'PHOTOS'}"
    )


def _unplaced(site: Site, found: OpenMap) -> dict[str, Any]:
    """The photos that have no place in the model, each with a reason, and what to try."""
    summary = found.summary
    names = {str(image.name) for image in found.images.values()}
    others = [name for name in (found.photos.names if found.photos else []) if name not in names]
    reasons: dict[str, str] = {}
    if summary is not None:
        reasons |= dict.fromkeys(summary.unplaced, "it matches others, but not enough to be placed")
        reasons |= dict.fromkeys(summary.alone, "no other photo shows enough of the same")
    elsewhere = "it is in another model of this map, or was not mapped yet: run covis map again"
    listed = []
    for name in others[:LISTED]:
        picture = found.picture(name)
        image = None if picture is None else picture.id
        listed.append({"name": name, "image": image, "why": reasons.get(name, elsewhere)})
    failed = list(summary.failed.items()) if summary else []
    listed += [
        {"name": path, "image": None, "why": why} for path, why in failed[: LISTED - len(listed)]
    ]
    advice = [f"{line[0].upper()}{line[1:]}" for line in (summary.advice() if summary else [])]
    return {"unplaced": listed, "without": len(others) + len(failed), "advice": advice}


def points(site: Site, given: dict[str, Any]) -> Response:
    """The points, see `OpenMap.binary`."""
    return Response(_opened(site, given).binary(), media_type="application/octet-stream")


def photo(site: Site, given: dict[str, Any]) -> Any:
    """A photo of a model: its camera, and the photos that see points of it."""
    found = _opened(site, given)
    number = _photo(found, given, "photo")
    camera, pose = found.camera(number), found.pose(number)
    partners = found.partners(number)
    position = ", ".join(f"{value:.5g}" for value in pose.position)
    return {
        "name": str(found.images[number].name),
        "points": found.images[number].num_points3D,
        "lines": [
            f"Camera at ({position}).",
            f"{camera.model}, {camera.width}x{camera.height}, focal length {camera.focal:.1f} px.",
        ],
        "others": len(partners),
        "partners": [
            {"photo": other, "name": str(found.images[other].name), "points": count}
            for other, count in partners[:PARTNERS]
        ],
    }


def pair(site: Site, given: dict[str, Any]) -> Any:
    """The points that two photos of a model see, as the page draws matches."""
    found = _opened(site, given)
    numbers = [_photo(found, given, name) for name in ("photo0", "photo1")]
    if numbers[0] == numbers[1]:
        raise ArgumentError("choose two photos, not one twice.")
    images = []
    for number in numbers:
        name = str(found.images[number].name)
        picture = found.picture_of(number)
        if picture is None:
            photos = found.settings.photos if found.settings else ""
            raise ArgumentError(f"{name}: {_hidden(found.folder, photos, 1, 1)}")
        width, height = found.size(number)
        images.append({"id": picture.id, "name": name, "width": width, "height": height})
    points0, points1, errors = found.shared(numbers[0], numbers[1])
    return {
        "images": images,
        "matches": len(errors),
        "inliers": None,
        "points0": np.round(points0, 1).astype(float).ravel().tolist(),
        "points1": np.round(points1, 1).astype(float).ravel().tolist(),
        # From 1 for a point that all photos agree on to 0 for one that they put far apart.
        "scores": np.round(np.exp(-errors), 3).astype(float).tolist(),
        "told": [f"reprojection error {error:.2f} px" for error in errors.tolist()],
        "agree": [1] * len(errors),
    }


def locate(site: Site, given: dict[str, Any]) -> Any:
    """Find where a picture was taken, as `covis locate` does."""
    source = site.sources.get(given.get("map"), "map")
    number = whole(given, "model", 0, 1000, 0)
    picture = site.access.picture(given.get("image"))

    def work(job: Job) -> Any:
        job.report("opening the map", 0)
        found = site.maps.open(source, number)
        locate = found.locator
        job.report("looking for the place", 0)
        with named(picture):
            placed = locate(picture.path)
        return {
            "map": source.id,
            "model": number,
            "query": {"id": picture.id, "name": picture.name},
            "located": placed.found,
            **_placed(found, picture.path, placed),
        }

    return {"job": site.jobs.start(work, "match").id}


def _placed(found: OpenMap, path: str, placed: Localisation) -> dict[str, Any]:
    """The camera of a located picture in the scene, and in words."""
    from covis.images.exif import read_photo_info

    numbers = {str(image.name): number for number, image in found.images.items()}
    seen = [each for each in placed.neighbours if each.inliers]
    told: dict[str, Any] = {
        "lines": placed.lines(),
        "confidence": placed.estimate.confidence,
        "partners": [
            {"photo": numbers[each.name], "name": each.name, "points": each.inliers}
            for each in sorted(seen, key=lambda each: -each.inliers)
            if each.name in numbers
        ],
    }
    estimate = placed.estimate
    if estimate.pose is None:
        return told
    exif = read_photo_info(path, None).orientation.exif
    told["camera"] = found.scene.camera(estimate.pose, estimate.camera, exif)
    if estimate.covariance is not None:
        # Three standard deviations along the ellipsoid's axes; the covariance is the camera's.
        turn = found.scene.axes @ estimate.pose.rotation.T
        values, vectors = np.linalg.eigh(turn @ estimate.covariance[3:, 3:] @ turn.T)
        sides = 3 * np.sqrt(np.maximum(values, 0)) / found.scene.radius
        told["spread"] = rounded((vectors * np.minimum(sides, 10)).T.ravel())
    return told


def export(site: Site, given: dict[str, Any]) -> Response:
    """A model for other programs: a file, or several as a zip file."""
    from covis.sfm.exports import ExportName, export_model

    found = _opened(site, given)
    wanted = one_of(given, "kind", list(get_args(ExportName)), "")
    kind = next(each for each in get_args(ExportName) if each == wanted)
    folder = tempfile.TemporaryDirectory(prefix="export-", dir=site.access.folder)
    try:
        out = Path(folder.name) / kind
        # Nerfstudio's file names the photos: "images" beside it, where they are to be put.
        written = export_model(found.reconstruction, out / "images", out, kind)
        if kind != "ply":
            written = _zipped(out, Path(folder.name) / f"{kind}.zip")
    except BaseException:
        folder.cleanup()
        raise
    name = f"covis-map-{kind}{written.suffix}"
    return FileResponse(
        written,
        filename=name,
        media_type="application/octet-stream",
        background=BackgroundTask(folder.cleanup),
    )


def _zipped(folder: Path, path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as packed:
        for each in sorted(folder.iterdir()):
            packed.write(each, each.name)
    return path


def _opened(site: Site, given: dict[str, Any]) -> OpenMap:
    source = site.sources.get(given.get("map"), "map")
    return site.maps.open(source, whole(given, "model", 0, 1000, 0))


def _photo(found: OpenMap, given: dict[str, Any], name: str) -> int:
    number = whole(given, name, 0, 2**32, -1)
    if number not in found.images:
        raise ArgumentError("no such photo in this model; load the page again.")
    return number
