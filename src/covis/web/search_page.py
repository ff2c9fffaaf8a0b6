"""Search: a picture, or a part of it, in a store; and the store's care."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast, get_args

from covis.errors import ArgumentError, CovisError, ImageError
from covis.messages import STATES, attempted, counted, looked_again, turned
from covis.options import SEARCH_BUDGETS, Effort, Rotate
from covis.web.access import NoSuchError, Picture, named
from covis.web.jobs import Job
from covis.web.match_page import told
from covis.web.site import Site, one_of, whole
from covis.web.sources import Source

if TYPE_CHECKING:
    from covis.search.retrieve import Hit, SearchResult

HITS = 60
"""At most."""
BUDGETS = {"0.5 s": 0.5, "2 s": 2.0, "5 s": 5.0, "none": None}
EVERY = "all"
"""In place of a store's id: all that are made."""
READY_WITHIN = 2.0
"""Seconds that a picture waits for its turn to be made ready; later it would be of no use."""
LISTED = 200
"""Lines of a list of files that failed, and the like."""


def stores(site: Site, _: dict[str, Any]) -> Any:
    """All that was given."""
    return {
        "sources": [
            {"id": s.id, "kind": s.kind, "name": s.name, "uri": s.uri, "made": site.sources.made(s)}
            for s in site.sources.all
        ],
        "budgets": list(BUDGETS),
        "efforts": {effort: _budget(effort) for effort in get_args(Effort)},
        "every": EVERY,
        "local": site.local,
    }


def pictures(site: Site, given: dict[str, Any]) -> Any:
    """Some pictures of a folder or a store, to pick one."""
    source = site.sources.get(given.get("source"), "folder", "store", "picture")
    start = whole(given, "start", 0, 10**9, 0)
    found, total = site.sources.pictures(source, start)
    listed = [{"id": each.id, "name": each.name, "path": each.path} for each in found]
    return {"pictures": listed, "total": total}


def prepare(site: Site, given: dict[str, Any]) -> Any:
    """Make a picture ready while its search is being thought of: the first results come sooner
    then. What is wrong with it the search itself says."""
    searched = _searched(site, given)
    query = site.access.picture(given.get("image"))
    region = _region(given.get("region"))
    ready = False
    if all(map(site.sources.made, searched)) and site.shrunk.turns.acquire(timeout=READY_WITHIN):
        try:
            with suppress(CovisError):
                site.sources.index(*searched).prepare(query.path, region=region)
                ready = True
        finally:
            site.shrunk.turns.release()
    return {"ready": ready}


def search(site: Site, given: dict[str, Any]) -> Any:
    """Search a store, or all of them as one."""
    searched = _searched(site, given)
    query = site.access.picture(given.get("image"))
    region = _region(given.get("region"))
    hits = whole(given, "hits", 1, HITS, 12)
    rotate = one_of(given, "rotate", list(get_args(Rotate)), "none")
    effort = cast(Effort, one_of(given, "effort", list(get_args(Effort)), "fast"))
    budget = BUDGETS[one_of(given, "budget", list(BUDGETS), _budget(effort))]

    def work(job: Job) -> Any:
        job.report("searching", 0)
        index = site.sources.index(*searched)
        index.load()
        with named(query):
            width, height = site.shrunk.size(query)
            head = {
                "query": _query(query, width, height, region),
                "uri": index.uri,
                "several": len(searched) > 1,
            }
            found = index.search(
                query.path, hits, region=region, budget=budget, rotate=rotate, effort=effort,
                report=lambda some: job.tell({**head, **_found(site, some)}),
            )  # fmt: skip
        job.kept.update(search=found, query=query, size=(width, height))
        return {**head, **_found(site, found)}

    return {"job": site.jobs.start(work).id}


def lines(site: Site, given: dict[str, Any]) -> Any:
    """What joins the query to one of its hits."""
    kept = site.done(given, "search")
    hits = kept["search"].hits
    hit: Hit = hits[whole(given, "hit", 0, len(hits) - 1, -1)]
    if hit.matches is None:
        raise ArgumentError("this picture was not checked: there was no time; allow more.")
    other = site.access.admit(hit.path)
    sizes = kept["size"], (hit.width, hit.height)
    return told(hit.matches, (kept["query"], other), sizes)


def info(site: Site, given: dict[str, Any]) -> Any:
    """What a store holds."""
    source = site.sources.get(given.get("store"), "store")
    if not site.sources.made(source):
        return {"uri": source.uri, "made": False}
    index = site.sources.index(source)
    index.load()  # For the first search, while the picture to look for is being chosen.
    found = index.info()
    return {
        "uri": source.uri,
        "made": True,
        "images": found.images,
        "files": found.files,
        "stored": found.stored,
        "memory": found.memory,
        "model": found.identity.features,
        "failed": _listed(index.failures().values()),
        "failures": found.failed,
    }


def add(site: Site, given: dict[str, Any]) -> Any:
    """Add a folder's pictures to a store."""
    store = site.sources.get(given.get("store"), "store")
    folder = site.sources.get(given.get("folder"), "folder")

    def work(job: Job) -> Any:
        job.report("photos", 0)
        index = site.sources.index(store)
        paths, refused = site.sources.inside(folder)
        failed = list(refused)
        count = itertools.count(1)

        def report(_: str, why: str) -> None:
            if why:
                failed.append(why)
                job.tell({"failed": _listed(failed), "failures": len(failed)})
            job.report("photos", next(count), len(paths))

        if not paths:
            raise ArgumentError(refused[0])
        added = index.add(paths, report=report)
        words = (
            f"{added.added:,} added, {added.unchanged:,} unchanged, "
            f"{counted(added.copies, 'copy', 'copies')}, {added.replaced:,} replaced, "
            f"{len(failed):,} failed. {store.uri} holds {counted(len(index), 'picture')}."
        )
        return {"text": words, "failed": _listed(failed), "failures": len(failed)}

    return {"job": site.jobs.start(work, "long").id}


def remove(site: Site, given: dict[str, Any]) -> Any:
    """Forget a file, or all that are no longer there; the files themselves stay."""
    store = site.sources.get(given.get("store"), "store")
    missing = given.get("missing") is True
    paths = [] if missing else [site.access.picture(given.get("image")).path]

    def work(job: Job) -> Any:
        job.report("removing", 0)
        index = site.sources.index(store)
        removed = index.remove(paths, missing=missing)
        for path in removed.unknown:
            raise ArgumentError(f"{path} is not in {store.uri}.")
        words = f"{counted(len(removed.files), 'file')} forgotten; {store.uri} holds "
        return {"text": f"{words}{counted(len(index), 'picture')}."}

    return {"job": site.jobs.start(work, "long").id}


def folder(site: Site, given: dict[str, Any]) -> Any:
    """Open the folder of a picture where the page is: on this machine."""
    picture = site.access.picture(given.get("image"))
    opener = shutil.which("xdg-open")
    if not site.local or opener is None:
        why = "no xdg-open is installed" if site.local else "covis runs on another machine"
        raise ArgumentError(f"{os.path.dirname(picture.path)}: cannot be opened, since {why}.")
    subprocess.Popen(
        [opener, os.path.dirname(picture.path)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    return {}


def verify(site: Site, given: dict[str, Any]) -> Any:
    """Read all of a store, and look whether its files are as they were."""
    store = site.sources.get(given.get("store"), "store")

    def work(job: Job) -> Any:
        job.report("reading", 0)
        found = asdict(site.sources.index(store).verify())
        words = f"{counted(found['images'], 'picture')} and {counted(found['files'], 'file')} read."
        found["failed"] = list(found["failed"].values())
        if not found["problems"]:
            words += " The store is whole."
        lists = {k: _listed(found[k]) for k in ("problems", "gone", "changed", "failed")}
        return {"text": words, "lists": lists}

    return {"job": site.jobs.start(work, "long").id}


def _searched(site: Site, given: dict[str, Any]) -> list[Source]:
    """The store that is named, or all that are made. Raises NoSuchError where there is none."""
    if given.get("store") != EVERY:
        return [site.sources.get(given.get("store"), "store")]
    made = [s for s in site.sources.all if s.kind == "store" and site.sources.made(s)]
    if not made:
        raise NoSuchError("no store is made yet; add a folder to one.")
    return made


def _budget(effort: Effort) -> str:
    """The time that an effort gets, as it is called here."""
    return next(name for name, value in BUDGETS.items() if value == SEARCH_BUDGETS[effort])


def _listed(lines: Any) -> list[str]:
    listed = list(lines)
    more = [f"and {len(listed) - LISTED:,} more."] if len(listed) > LISTED else []
    return listed[:LISTED] + more


def _region(said: Any) -> tuple[float, float, float, float] | None:
    if said is None:
        return None
    if not isinstance(said, list) or len(said) != 4:
        raise ArgumentError("a region is [x, y, width, height].")
    if not all(isinstance(part, int | float) and abs(part) < 1e9 for part in said):
        raise ArgumentError("a region is four numbers of pixels.")
    x, y, width, height = map(float, said)
    return x, y, width, height


def _query(
    query: Picture, width: int, height: int, region: tuple[float, float, float, float] | None
) -> dict[str, Any]:
    return {
        "id": query.id,
        "name": query.name,
        "width": width,
        "height": height,
        "region": None if region is None else list(region),
    }


def _found(site: Site, found: SearchResult) -> dict[str, Any]:
    certain = len(found.certain)
    words = (
        f"{found.checked} of {counted(found.candidates, 'candidate')} checked, "
        f"{counted(found.images, 'picture')}, {1000 * found.seconds['total']:.0f} ms."
    )
    words = " ".join([words, *looked_again(found.looked_again, found.left)])
    return {
        "certain": certain,
        "perhaps": 0 if certain else len(found.worth_showing),
        "images": found.images,
        "unchecked": found.candidates - found.checked,
        "text": words,
        "hits": [_hit(site, hit) for hit in found.hits],
    }


def _hit(site: Site, hit: Hit) -> dict[str, Any]:
    said = hit.to_dict()
    matches = hit.matches
    words = [] if matches is None else [*turned(hit.turn, hit.mirrored), *attempted(matches)]
    words += [STATES[hit.state]] if hit.state != "there" else []
    words += [counted(len(hit.copies), "more file")] if hit.copies else []
    image = None
    if hit.state == "there":
        with suppress(ImageError, NoSuchError):
            image = site.access.admit(hit.path).id
    kept = "similarity", "checked", "matches", "inliers", "verdict", "probability", "outline"
    store = next((s for s in site.sources.all if s.kind == "store" and s.uri == hit.store), None)
    return {
        "path": hit.path,
        "store": None if store is None else {"id": store.id, "name": store.name},
        "image": image,
        "width": hit.width,
        "height": hit.height,
        "words": words,
        "region": said["region"] if hit.certain else None,
        **{name: said[name] for name in kept},
    }
