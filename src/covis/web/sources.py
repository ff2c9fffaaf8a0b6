"""What `covis web` was given: stores, maps, folders and single pictures, each with an id."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

from covis.errors import ArgumentError, ImageError
from covis.images.picture_files import is_picture, walk_pictures
from covis.messages import not_there
from covis.options import DEFAULT_DEVICE, Device
from covis.web.access import Access, NoSuchError, Picture

LISTED = 100_000
"""Pictures of a folder or a store that can be looked through."""
SHOWN = 60
"""Of these at a time."""
DEEP, LOOKED_INTO = 3, 2000
"""Levels below a given folder, and folders in all, in which maps and frames are looked for."""

Kind = Literal["store", "folder", "picture", "map"]


@dataclass(frozen=True)
class Source:
    """id: for the page. uri: a path, or a store's address. name: for people."""

    id: str
    kind: Kind
    uri: str
    name: str


class Sources:
    """All that were given, in that order."""

    def __init__(
        self, given: Iterable[str], access: Access, device: Device = DEFAULT_DEVICE
    ) -> None:
        """Raises ArgumentError for what is neither there nor a name for a store."""
        self._access, self.device = access, device
        self._lock = threading.Lock()
        self._indexes: dict[tuple[str, ...], Any] = {}
        self._lists: dict[str, list[str]] = {}
        found = [_kind(uri) for uri in given]
        below = [each for kind, uri in found if kind == "folder" for each in folders_in(uri)]
        if not any(kind == "store" for kind, _ in found):
            # Where only folders are given, the store of each is the one beside it.
            found += [("store", f"{uri}.covis") for kind, uri in found if kind == "folder"]
        found += [("map", folder) for folder in below if _is_map(folder)]
        self.all = [
            Source(f"{kind}{number}", kind, uri, os.path.basename(uri.rstrip("/")) or uri)
            for number, (kind, uri) in enumerate(dict.fromkeys(found))
        ]

    def get(self, name: object, *kinds: Kind) -> Source:
        """One by its id. Raises NoSuchError where there is none of these kinds."""
        for source in self.all:
            if source.id == name and source.kind in kinds:
                return source
        raise NoSuchError(f"no such {' or '.join(kinds)} here; load the page again.")

    def index(self, *sources: Source) -> Any:
        """The store's `covis.Index`, opened once; or that of several, which holds as much as theirs
        together: either it stays open or those of single stores."""
        from covis.search import Index

        uris = tuple(source.uri for source in sources)
        with self._lock:
            if uris not in self._indexes:
                made = Index(uris, device=self.device)
                for other in list(self._indexes):
                    if len(uris) > 1 or len(other) > 1:
                        del self._indexes[other]
                self._indexes[uris] = made
            return self._indexes[uris]

    def allowed(self, path: str) -> Picture:
        """A file that something else names, such as a map its photos, if it lies in a folder or a
        map that was given, or was given itself. Raises ImageError where it does not."""
        for source in self.all:
            if source.kind in ("folder", "map"):
                with suppress(ImageError):
                    return self._access.admit(path, within=source.uri)
            elif source.kind == "picture" and source.uri == os.path.abspath(path):
                return self._access.admit(path)
        raise ImageError(f"{path} lies in no folder that covis web was given.")

    def made(self, source: Source) -> bool:
        """Whether a store is there; one may be named that is still to be made."""
        return source.kind != "store" or "://" in source.uri or _is_store(source.uri)

    def pictures(self, source: Source, start: int) -> tuple[list[Picture], int]:
        """`SHOWN` pictures from `start` on, and how many there are. Those that lead out of their
        folder, or went away, are left out."""
        if start == 0 or source.id not in self._lists:
            self._lists[source.id] = self._listed(source)
        paths = self._lists[source.id]
        within = source.uri if source.kind == "folder" else None
        found = []
        for path in paths[start : start + SHOWN]:
            with suppress(ImageError):
                found.append(self._access.admit(path, within=within))
        return found, len(paths)

    def inside(self, source: Source) -> tuple[list[str], list[str]]:
        """A folder's pictures at any depth; and a line for each that leads out of it."""
        real, kept, refused = os.path.realpath(source.uri), [], []
        for path in walk_pictures([source.uri]):
            if os.path.commonpath([os.path.realpath(path), real]) == real:
                kept.append(path)
            else:
                refused.append(f"{path} leads out of {source.uri}; covis does not follow it.")
        return kept, refused

    def _listed(self, source: Source) -> list[str]:
        if source.kind == "picture":
            return [source.uri]
        if source.kind == "folder":
            return list(islice(walk_pictures([source.uri]), LISTED))
        if not self.made(source):
            return []
        index = self.index(source)
        index.store.refresh()
        failed = index.failures()
        paths = (p for p in index.store.column(index.store.files, "path") if p not in failed)
        return sorted(islice(paths, LISTED))


def _kind(uri: str) -> tuple[Kind, str]:
    if "://" in uri:
        return "store", uri
    path = os.path.abspath(os.path.expanduser(uri))
    if os.path.isfile(path):
        if not is_picture(os.path.basename(path)):
            raise ArgumentError(f"{uri} is no picture; give pictures, folders, stores or maps.")
        return "picture", path
    if os.path.isdir(path):
        above = os.path.dirname(os.path.dirname(path))
        if _is_model(path) and os.path.isfile(os.path.join(above, "covis.json")):
            path = above  # Its sparse/0.
        if _is_map(path):
            return "map", path
        empty = path.endswith(".covis") and not os.listdir(path)
        return "store" if empty or _is_store(path) else "folder", path
    if path.endswith(".covis") and os.path.isdir(os.path.dirname(path)):
        return "store", path
    raise ArgumentError(not_there(uri, "store, map, folder or picture"))


def folders_in(folder: str) -> list[str]:
    """A folder and those below it, sorted, without links, stores and what maps are made of."""
    found: list[str] = []
    after = [(folder, 0)]
    while after and len(found) < LOOKED_INTO:
        path, deep = after.pop(0)
        found.append(path)
        if deep == DEEP or _is_map(path):
            continue
        with suppress(OSError), os.scandir(path) as entries:
            inner = [e.path for e in entries if e.is_dir(follow_symlinks=False)]
            after += [(each, deep + 1) for each in sorted(inner) if not _is_store(each)]
    return found


def _is_model(path: str) -> bool:
    """Whether COLMAP wrote a model there."""
    names = "cameras", "images", "points3D"
    return any(
        all(os.path.isfile(os.path.join(path, f"{name}.{kind}")) for name in names)
        for kind in ("bin", "txt")
    )


def _is_map(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "covis.json")) or any(
        _is_model(os.path.join(path, *model)) for model in ((), ("sparse",), ("sparse", "0"))
    )


def _is_store(path: str) -> bool:
    return os.path.isdir(os.path.join(path, "images.lance"))
