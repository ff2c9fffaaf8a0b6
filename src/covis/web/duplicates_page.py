"""Duplicates: groups side by side, why they are copies, and a folder to move some of them to.

covis deletes nothing. What is moved is written down beside it first, so that it can be undone, by
hand too: each line of `moved.jsonl` says where a file is and where it was.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from starlette.responses import Response

from covis.errors import ArgumentError, CovisError, ImageError
from covis.messages import turned
from covis.web.access import Picture
from covis.web.jobs import Job
from covis.web.site import Site, download

if TYPE_CHECKING:
    from covis.search.duplicates import Copy, Group

JOURNAL = "moved.jsonl"
OTHER_SHAPE = 0.02
"""From so different an aspect on a copy is called cropped or with edges added."""


def start(site: Site, given: dict[str, Any]) -> Any:
    """Look for near-copies in a store."""
    store = site.sources.get(given.get("store"), "store")

    def work(job: Job) -> Any:
        job.report("compared", 0, 100)
        index = site.sources.index(store)
        groups = index.duplicates(report=lambda share: job.report("compared", 100 * share, 100))
        known: dict[str, Picture] = {}
        shown = [_group(site, group, known) for group in groups]
        job.kept.update(duplicates=shown, known=known, store=store, moved={})
        return {"groups": shown, "left_out": len(index.stale()), "folder": str(_folder(store.uri))}

    return {"job": site.jobs.start(work, "long").id}


def listed(site: Site, given: dict[str, Any]) -> Response:
    """The chosen files as a list, a path a line."""
    paths = [picture.path for picture in _chosen(site, given)]
    text = "".join(f"{path}\n" for path in paths).encode("utf-8", "surrogateescape")
    return download(text, "duplicates.txt", "text/plain; charset=utf-8")


def move(site: Site, given: dict[str, Any]) -> Any:
    """Move the chosen files to a folder beside the store."""
    chosen = _chosen(site, given)
    folder = _folder(site.done(given, "duplicates")["store"].uri)
    if given.get("sure") is not True:
        raise ArgumentError("moving files must be confirmed.")
    moved: dict[str, tuple[str, str]] = {}
    failed = []
    with _journal(folder) as journal:
        for picture in chosen:
            try:
                site.access.picture(picture.id)
                if os.path.islink(picture.path):
                    raise ImageError(f"{picture.path} is a link; move what it leads to.")
                target = _free(folder / os.path.basename(picture.path))
                # Written down first: after a kill one line may be too many, none is missing.
                print(json.dumps({"at": str(target), "from": picture.path}), file=journal)
                journal.flush()
                shutil.move(picture.path, target)
            except (CovisError, OSError) as error:
                failed.append(f"{picture.path}: {error}")
            else:
                moved[picture.id] = str(target), picture.path
    away = _away(site, given, moved)
    return {"moved": len(moved), "failed": failed, "folder": str(folder), "away": away}


def _away(site: Site, given: dict[str, Any], moved: dict[str, tuple[str, str]]) -> list[str]:
    """Keep which copies lie in the folder, for the page as well, which may be loaded again."""
    job = site.job(given)
    job.kept["moved"] |= moved
    away = list(job.kept["moved"])
    job.answer = {**job.answer, "away": away}
    return away


def undo(site: Site, given: dict[str, Any]) -> Any:
    """Bring back what this page moved; nothing is written over."""
    kept = site.done(given, "duplicates")
    back, failed = 0, []
    for name, (at, path) in list(kept["moved"].items()):
        if os.path.lexists(path):
            failed.append(f"{path}: something else is there now; the file is {at}.")
            continue
        try:
            shutil.move(at, path)
        except OSError as error:
            failed.append(f"{at}: {error.strerror or error}")
        else:
            del kept["moved"][name]
            back += 1
    return {"back": back, "failed": failed, "away": _away(site, given, {})}


def _journal(folder: Path) -> TextIO:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return (folder / JOURNAL).open("a", encoding="utf-8", errors="surrogateescape")
    except OSError as error:
        raise ArgumentError(f"{folder}: cannot be written ({error.strerror}).") from None


def _group(site: Site, group: Group, known: dict[str, Picture]) -> list[dict[str, Any]]:
    copies = []
    for copy in group:
        picture = None
        with suppress(ImageError):
            picture = site.access.admit(copy.path)
            known[picture.id] = picture
        copies.append(
            {
                "image": None if picture is None else picture.id,
                "path": copy.path,
                "width": copy.width,
                "height": copy.height,
                "bytes": 0 if picture is None else picture.size,
                "why": _why(copy, group[0]),
            }
        )
    return copies


def _why(copy: Copy, first: Copy) -> list[str]:
    """How a copy differs from the group's first, a phrase each."""
    if copy is first:
        return ["the likely original: the most pixels, then the largest and oldest file"]
    if copy.identical:
        return ["the same bytes"]
    words = turned(copy.turn, copy.mirrored)
    sides = (copy.height, copy.width) if copy.turn in (90, 270) else (copy.width, copy.height)
    shares = sides[0] / first.width, sides[1] / first.height
    if abs(shares[0] / shares[1] - 1) > OTHER_SHAPE:
        words.append("another shape: cropped, or with edges added")
    if max(shares) < 0.98:
        words.append(f"{100 * max(shares):.0f} % of its size")
    return words or ["the same size, other bytes"]


def _chosen(site: Site, given: dict[str, Any]) -> list[Picture]:
    """The pictures of a question, never all of a group. Raises ArgumentError for others."""
    kept = site.done(given, "duplicates")
    asked = given.get("images")
    if not isinstance(asked, list) or not asked or not all(each in kept["known"] for each in asked):
        raise ArgumentError("choose some of the copies on the page.")
    gone = {None, *kept["moved"], *asked}
    for group in kept["duplicates"]:
        chosen = any(copy["image"] in asked for copy in group)
        if chosen and all(copy["image"] in gone for copy in group):
            raise ArgumentError(f"keep one of each group: all of {group[0]['path']} are chosen.")
    return [kept["known"][each] for each in dict.fromkeys(asked)]


def _folder(uri: str) -> Path:
    if "://" in uri:
        raise ArgumentError(f"{uri} is no folder here: save the list of copies in place of moving.")
    return Path(f"{uri.rstrip('/')}-moved") / time.strftime("%Y-%m-%d")


def _free(path: Path) -> Path:
    """That path, or one with a number, where there is nothing yet."""
    number = 1
    found = path
    while os.path.lexists(found):
        number += 1
        found = path.with_name(f"{path.stem}-{number}{path.suffix}")
    return found
