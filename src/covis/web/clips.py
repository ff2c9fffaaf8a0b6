"""Frames in the folders that `covis web` was given: folders of pictures, and video files."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from covis.errors import ArgumentError, ImageError
from covis.images.passed_over import VIDEO
from covis.images.picture_files import is_picture
from covis.web.access import NoSuchError, Picture
from covis.web.shown import encode
from covis.web.site import Site
from covis.web.sources import folders_in

if TYPE_CHECKING:
    from covis.dense import Frames
    from covis.types import Image

LISTED = 500
"""Clips that are offered at most."""
LEAST = 2
"""Pictures of a folder of frames."""


def clips(site: Site) -> dict[str, tuple[str, str]]:
    """(path, name) of each, by an id of its own."""
    found: dict[str, tuple[str, str]] = {}
    for path, name in islice(_all(site), LISTED):
        told = path.encode("utf-8", "surrogateescape")
        found[hashlib.sha256(told).hexdigest()[:16]] = path, name
    return found


def _all(site: Site) -> Iterator[tuple[str, str]]:
    for source in site.sources.all:
        if source.kind != "folder":
            continue
        for folder in folders_in(source.uri):
            inner = os.path.relpath(folder, source.uri)
            name = source.name if inner == "." else f"{source.name}/{inner}"
            with suppress(OSError):
                files = sorted(os.listdir(folder))
                if sum(map(is_picture, files)) >= LEAST:
                    yield folder, name
                for file in filter(_is_video, files):
                    yield os.path.join(folder, file), f"{name}/{file}"


def _is_video(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in VIDEO and not name.startswith(".")


def opened(site: Site, given: dict[str, Any], start: int) -> Frames:
    """The frames of a clip of a question from `start` on. Links that lead out are left out.

    Raises NoSuchError for a clip that there is not, ArgumentError where it has no frame `start`.
    """
    from covis.dense import Frames

    known = clips(site).get(str(given.get("clip")))
    if known is None:
        raise NoSuchError("no such frames here; load the page again.")
    path, name = known
    clip = Frames.open(path)
    if clip.pictures:
        kept = []
        for picture in clip.pictures:
            with suppress(ImageError):
                kept.append(Path(site.sources.allowed(str(picture)).path))
        clip = replace(clip, pictures=tuple(kept), count=len(kept))
    else:
        site.sources.allowed(path)
    if clip.count and start >= clip.count:
        raise ArgumentError(f"{name} has {clip.count} frames, the last is {clip.count - 1}.")
    pictures = clip.pictures[start:]
    return replace(clip, pictures=pictures, count=max(clip.count - start, 0))


def frames(clip: Frames, start: int) -> Iterator[tuple[str, Image]]:
    """Its frames; of a video those from `start` on."""
    return iter(clip) if clip.pictures else islice(clip, start, None)


def first(site: Site, clip: Frames, start: int) -> Picture:
    """The first one, to draw on."""
    if clip.pictures:
        return site.sources.allowed(str(clip.pictures[0]))
    for name, image in frames(clip, start):
        return site.access.keep(f"{name}.png", encode(image.pixels, "PNG"))
    raise ArgumentError(f"{clip.path.name} has no frame {start}.")
