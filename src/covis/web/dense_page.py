"""Dense: places of one picture found in another, and a mask carried through frames."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, Response

from covis.errors import ArgumentError
from covis.images.decode import load_image
from covis.messages import counted
from covis.options import AUTO_DENSE
from covis.web import clips
from covis.web.access import NoSuchError, Picture, named
from covis.web.jobs import Job
from covis.web.shown import SIZES, encode
from covis.web.site import Site, one_of, whole

PLACES = 100
"""Of a pair, that are remembered."""
FRAMES = 3000
"""Of a clip; `covis dense propagate` takes any number."""
RESULTS = 3
"""Carried masks that are kept; the oldest go."""
_PREFIX = "masks-"


def options(site: Site, _: dict[str, Any]) -> Any:
    """What can be chosen."""
    found = clips.clips(site)
    return {
        "models": [AUTO_DENSE, *_models()],
        "clips": [{"id": each, "name": name} for each, (_, name) in found.items()],
    }


def _models() -> list[str]:
    from covis.runtime import list_bundles

    return [bundle.name for bundle in list_bundles([]) if bundle.architecture == "lift"]


def describe(site: Site, given: dict[str, Any]) -> Any:
    """Describe two pictures, so that places can be asked for."""
    from covis.dense import choose_model

    pictures = site.access.picture(given.get("image0")), site.access.picture(given.get("image1"))
    wanted = one_of(given, "model", [AUTO_DENSE, *_models()], AUTO_DENSE)
    model = choose_model("match")[0] if wanted == AUTO_DENSE else wanted

    def work(job: Job) -> Any:
        images = []
        for number, picture in enumerate(pictures):
            job.report("pictures described", number, 2)
            features = site.described.features(picture, model)
            size = {"width": features.width, "height": features.height}
            images.append({"id": picture.id, "name": picture.name, **size})
        job.kept.update(places=pictures, model=model)
        licence = site.described.extractor(model).licence
        told = {"asked": wanted, "model": model, "licence": licence}
        return {"kind": "places", "images": images, "places": [], **told}

    return {"job": site.jobs.start(work, "match").id}


def place(site: Site, given: dict[str, Any]) -> Any:
    """The place of picture 1 most like one of picture 0; it is remembered with the job."""
    from covis.dense import transfer

    job = site.job(given)
    source, target, point = _asked(site, given)
    found, cosines = transfer(source, target, point)
    told = {"from": _told(point[0]), "to": _told(found[0]), "cosine": round(float(cosines[0]), 3)}
    if given.get("keep") is True and len(job.answer["places"]) < PLACES:
        job.answer["places"].append(told)
    return told


def heat(site: Site, given: dict[str, Any]) -> Response:
    """Picture 1 under how like each place is to one of picture 0."""
    from covis.dense import likeness, transfer
    from covis.draw.dense import draw_heat

    source, target, point = _asked(site, given)
    (best,), _ = transfer(source, target, point)
    picture: Picture = site.done(given, "places")["places"][1]
    with site.shrunk.turns, named(picture):
        image = load_image(site.access.picture(picture.id).path, max_size=SIZES[-1])
        pixels = draw_heat(image, likeness(target, point[0], source), target.step, best)
    return Response(encode(pixels, "JPEG"), media_type="image/jpeg")


def _asked(site: Site, given: dict[str, Any]) -> Any:
    """Both pictures' features, and the place (1, 2) that is asked for."""
    from covis.dense.keypoint_transfer import within

    kept = site.done(given, "places")
    pictures = [site.access.picture(each.id) for each in kept["places"]]
    source, target = (site.described.features(each, kept["model"]) for each in pictures)
    try:
        point = [float(given[name]) for name in ("x", "y")]
    except (KeyError, TypeError, ValueError):
        raise ArgumentError("a place is x and y in pixels.") from None
    return source, target, within([point], source.width, source.height, pictures[0].name)


def _told(point: Any) -> list[float]:
    return [round(float(value), 1) for value in point]


def frame(site: Site, given: dict[str, Any]) -> Any:
    """The frame of a clip to draw on, and how many follow."""
    start = whole(given, "start", 0, 10**7, 0)
    clip = clips.opened(site, given, start)
    with site.shrunk.turns:
        picture = clips.first(site, clip, start)
    width, height = site.shrunk.size(picture)
    told = {"id": picture.id, "name": picture.name, "width": width, "height": height}
    return {**told, "start": start, "left": clip.count}


def carry(site: Site, given: dict[str, Any]) -> Any:
    """Carry a mask, an uploaded picture of labels, through the frames from one on."""
    from covis.dense import choose_model

    start = whole(given, "start", 0, 10**7, 0)
    clip = clips.opened(site, given, start)
    if clip.count > FRAMES:
        raise ArgumentError(
            f"{clip.path.name} has {counted(clip.count, 'frame')}, and the page carries masks "
            f"through {FRAMES:,} at most: covis dense propagate takes any number."
        )
    mask = site.access.picture(given.get("mask"))
    wanted = one_of(given, "model", [AUTO_DENSE, *_models()], AUTO_DENSE)
    model = choose_model("propagate")[0] if wanted == AUTO_DENSE else wanted

    def work(job: Job) -> Any:
        job.report("frames", 0, clip.count or None)
        folder = _room(site)
        job.kept["masks"] = folder
        told = {"kind": "masks", "name": clip.path.name, "model": model, "frames": 0}
        names: list[str] = []
        for name in _carried(site, clip, start, mask, model, folder):
            names.append(name)
            job.kept["names"] = names
            job.tell({**told, "frames": len(names)})
            job.report("frames", len(names), clip.count or None)
        return {**told, "frames": len(names)}

    return {"job": site.jobs.start(work, "long").id}


def _carried(
    site: Site, clip: Any, start: int, mask: Picture, model: str, folder: Path
) -> Iterator[str]:
    """Write each frame's mask and a drawing; yields the frames' names."""
    from covis.dense import DenseExtractor, carry_through, read_mask, write_mask
    from covis.draw.canvas import hues
    from covis.draw.dense import draw_labels

    with named(mask):
        labels, _ = read_mask(mask.path)
    first_picture = clips.first(site, clip, start)
    size = site.shrunk.size(first_picture)
    # As it was drawn, on a smaller picture.
    drawn = PIL.Image.fromarray(labels).resize(size, PIL.Image.Resampling.NEAREST)
    describe = DenseExtractor(model, max_size=clip.max_size, device=site.device)
    palette = [0, 0, 0, *(value for hue in hues(int(labels.max())) for value in hue)]
    through = carry_through(clips.frames(clip, start), np.asarray(drawn), describe)
    for number, (name, image, found) in enumerate(through):
        if number >= FRAMES:
            break  # Of a video whose file does not say how long it is.
        write_mask(folder / "masks" / f"{name}.png", found.labels, palette)
        content = encode(draw_labels(image, found.labels, palette), "JPEG")
        (folder / "drawings" / f"{name}.jpg").write_bytes(content)
        yield name


def _room(site: Site) -> Path:
    """A folder for results; the oldest of others go."""
    before = sorted(site.access.folder.glob(f"{_PREFIX}*"), key=lambda path: path.stat().st_mtime)
    for old in before[: max(0, len(before) - RESULTS + 1)]:
        shutil.rmtree(old, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=site.access.folder))
    for name in ("masks", "drawings"):
        (folder / name).mkdir()
    return folder


def drawn(site: Site, given: dict[str, Any]) -> Response:
    """A frame with its mask."""
    kept = site.done(given, "masks")
    names = kept.get("names", [])
    number = whole(given, "frame", 0, len(names) - 1, -1)
    path = kept["masks"] / "drawings" / f"{names[number]}.jpg"
    if not path.is_file():
        raise NoSuchError("these masks are no longer kept; carry them again.")
    return FileResponse(path, media_type="image/jpeg")


def files(site: Site, given: dict[str, Any]) -> Response:
    """All masks so far as a zip file."""
    kept = site.done(given, "masks")
    if not kept["masks"].is_dir():
        raise NoSuchError("these masks are no longer kept; carry them again.")
    with tempfile.NamedTemporaryFile(
        prefix="zip-", suffix=".zip", dir=site.access.folder, delete=False
    ) as file, zipfile.ZipFile(file, "w") as packed:  # fmt: skip
        for name in list(kept.get("names", [])):
            packed.write(kept["masks"] / "masks" / f"{name}.png", f"{name}.png")
    path = Path(file.name)
    return FileResponse(
        path,
        filename="masks.zip",
        media_type="application/zip",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )
