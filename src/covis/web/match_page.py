"""Match: two pictures, the lines between them, and one laid onto the other."""

from __future__ import annotations

import json
import time
from functools import cache
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
from starlette.responses import Response

from covis.errors import ArgumentError
from covis.messages import described_matches
from covis.options import DEFAULT_EFFORT, DEFAULT_MAX_KEYPOINTS, Effort, GeometryKind, Rotate
from covis.web.access import Picture, named
from covis.web.jobs import Job
from covis.web.shown import SIZES, encode
from covis.web.site import Site, download, one_of, whole

if TYPE_CHECKING:
    from covis.geometry.alignment import Alignment
    from covis.types import Matches

KEYPOINTS, LIGHTGLUE_KEYPOINTS = 20_000, 4096
"""The most that the page asks for; LightGlue's memory grows with their square."""
FRUGAL = "auto", "nearest", "semi-dense"
"""The matchers whose memory does not; "auto" gives LightGlue the best points only."""
DEMO = 960, 720
DRAWN = "drawing.png", "matches.json", "warped.png"
"""What can be downloaded."""


@cache
def choices() -> dict[str, list[str]]:
    """The values of each control, the default first: names, so that no folder can be asked for."""
    from covis.features.registry import HANDCRAFTED
    from covis.matching.registry import MATCHERS
    from covis.runtime import list_bundles
    from covis.runtime.architectures import ARCHITECTURES

    bundles = list_bundles([])
    features = [b.name for b in bundles if ARCHITECTURES[b.architecture].role == "features"]
    matchers = [b.name for b in bundles if ARCHITECTURES[b.architecture].role == "matcher"]
    return {
        "effort": sorted(get_args(Effort), key=lambda effort: effort != DEFAULT_EFFORT),
        "features": list(dict.fromkeys(["auto", *HANDCRAFTED, *features])),
        "matcher": list(dict.fromkeys(["auto", *MATCHERS, *matchers])),
        "geometry": sorted(get_args(GeometryKind), key=lambda kind: kind != "fundamental"),
        "rotate": list(get_args(Rotate)),
    }


def options(_: Site, __: dict[str, Any]) -> Any:
    """What the controls offer."""
    return {**choices(), "max_keypoints": DEFAULT_MAX_KEYPOINTS}


def size(site: Site, given: dict[str, Any]) -> Any:
    """A picture's full size in pixels."""
    width, height = site.shrunk.size(site.access.picture(given.get("image")))
    return {"width": width, "height": height}


def demo(site: Site, _: dict[str, Any]) -> Any:
    """Two views of the street corner of `covis demo`."""
    from covis.demo import render_demo

    pair = render_demo(DEMO)
    views = zip(("street-0.png", "street-1.png"), (pair.image0, pair.image1), strict=True)
    kept = [site.access.keep(name, encode(pixels, "PNG")) for name, pixels in views]
    return [{"id": each.id, "name": each.name} for each in kept]


def start(site: Site, given: dict[str, Any]) -> Any:
    """Match two pictures."""
    pictures = site.access.picture(given.get("image0")), site.access.picture(given.get("image1"))
    wanted: dict[str, Any] = {
        name: one_of(given, name, named, named[0]) for name, named in choices().items()
    }
    keypoints = whole(given, "max_keypoints", 1, KEYPOINTS, DEFAULT_MAX_KEYPOINTS)
    if wanted["matcher"] not in FRUGAL and keypoints > LIGHTGLUE_KEYPOINTS:
        raise ArgumentError(
            f"on this page LightGlue takes up to {LIGHTGLUE_KEYPOINTS:,} keypoints; for more "
            f"choose the matcher {', '.join(FRUGAL)}."
        )

    features = None if wanted["features"] == "auto" else wanted["features"]
    asked = {**wanted, "features": features, "device": site.device}

    def work(job: Job) -> Any:
        from covis.api import match

        job.report("matching", 0)
        began = time.perf_counter()
        with named(*pictures):
            found = match(pictures[0].path, pictures[1].path, **asked, max_keypoints=keypoints)
        seconds = time.perf_counter() - began
        sizes = tuple(site.shrunk.size(picture) for picture in pictures)
        job.kept.update(match=found, pictures=pictures, sizes=sizes)
        return {
            **told(found, pictures, sizes),
            "seconds": seconds,
            "options": {**wanted, "max_keypoints": keypoints},
        }

    return {"job": site.jobs.start(work, "match").id}


def told(
    found: Matches, pictures: tuple[Picture, Picture], sizes: tuple[tuple[int, int], ...]
) -> dict[str, Any]:
    """What the page draws: rounded to a tenth of a pixel."""
    verdict = found.verdict
    return {
        "images": [
            {"id": each.id, "name": each.name, "width": size[0], "height": size[1]}
            for each, size in zip(pictures, sizes, strict=True)
        ],
        "lines": described_matches(found),
        "verdict": None if verdict is None else verdict.label,
        "probability": None if verdict is None else verdict.probability,
        "matches": len(found),
        "inliers": int(found.inliers.sum()) if found.verified else None,
        "turn": found.turn,
        "mirrored": found.mirrored,
        "points0": np.round(found.points0, 1).astype(float).ravel().tolist(),
        "points1": np.round(found.points1, 1).astype(float).ravel().tolist(),
        "scores": np.round(found.scores, 3).astype(float).tolist(),
        "agree": found.inliers.astype(int).tolist(),
    }


def alignment(site: Site, given: dict[str, Any]) -> Any:
    """How well picture 1 lies on picture 0."""
    with site.shrunk.turns:
        return {"text": _aligned(site.done(given, "match")).describe()}


def overlay(site: Site, given: dict[str, Any]) -> Response:
    """Picture 1 laid onto picture 0, shrunk for the page."""
    with site.shrunk.turns:
        content = encode(_warped(site.done(given, "match"), SIZES[-1]), "WEBP")
    return Response(content, media_type="image/webp")


def file(site: Site, given: dict[str, Any]) -> Response:
    """A download."""
    kept = site.done(given, "match")
    name = one_of(given, "name", list(DRAWN), "")
    found, pictures = kept["match"], kept["pictures"]
    if name == "matches.json":
        return download(json.dumps(found.to_dict()).encode(), name, "application/json")
    with site.shrunk.turns, named(*pictures):
        if name == "warped.png":
            pixels = _warped(kept, 0)
        else:
            pixels = found.draw(*(site.access.picture(each.id).path for each in pictures))
        return download(encode(pixels, "PNG"), name, "image/png")


def _aligned(kept: dict[str, Any]) -> Alignment:
    from covis.geometry.alignment import estimate_alignment

    if "alignment" not in kept:
        kept["alignment"] = estimate_alignment(kept["match"], *kept["sizes"])
    found: Alignment = kept["alignment"]
    return found


def _warped(kept: dict[str, Any], longest: int) -> Any:
    """At a longest side, 0 for full size."""
    from covis.draw.aligned import warp_onto
    from covis.images.decode import load_image

    aligned = _aligned(kept)
    width, height = aligned.size0
    scale = min(1.0, longest / max(width, height)) if longest else 1.0
    size = max(1, round(width * scale)), max(1, round(height * scale))
    image1 = load_image(kept["pictures"][1].path, max_size=longest)
    return warp_onto(image1, aligned, size)
