"""The files of a game: zip archives (.pk3) whose later names replace the earlier ones'."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from numpy.typing import NDArray

from covis.errors import ImageError, TrainingError
from covis.images.decode import load_image

PICTURES = (".tga", ".jpg", ".png")
LARGEST = 64 * 2**20
"""Bytes that one file may unfold to."""


class Archives:
    """Read-only; names are taken without regard to case."""

    def __init__(self, paths: list[Path]) -> None:
        """paths: in the order in which they replace each other.

        Raises TrainingError when one is no zip archive.
        """
        self._entries: dict[str, tuple[zipfile.ZipFile, zipfile.ZipInfo]] = {}
        for path in paths:
            try:
                archive = zipfile.ZipFile(path)
            except (OSError, zipfile.BadZipFile) as error:
                raise TrainingError(f"{path}: not an archive of a game ({error}).") from None
            for entry in archive.infolist():
                if entry.file_size <= LARGEST:
                    self._entries[entry.filename.lower()] = archive, entry

    def names(self, suffix: str) -> Iterator[str]:
        """In order of their names."""
        return (name for name in sorted(self._entries) if name.endswith(suffix))

    def read(self, name: str) -> bytes | None:
        """None where there is no such file."""
        found = self._entries.get(name.lower())
        return None if found is None else found[0].read(found[1])

    def picture(self, name: str) -> NDArray[Any] | None:
        """(H, W, 3) uint8, RGB, whatever the suffix said; None where there is none to read."""
        stem = str(PurePosixPath(name.lower()))
        if stem.endswith(PICTURES):
            stem = stem[: -len(PICTURES[0])]
        for suffix in PICTURES:
            data = self.read(stem + suffix)
            if data is None:
                continue
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder, f"picture{suffix}")
                path.write_bytes(data)
                try:
                    return load_image(path).pixels
                except ImageError:
                    continue
        return None


def open_games(folder: Path) -> list[Archives]:
    """One for each folder of archives with levels below `folder`; archives of one folder's name
    (baseoa, data) belong to one game, whatever package they came in.

    Raises TrainingError when there are no levels.
    """
    games: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*.pk3"), key=lambda path: path.name):
        games.setdefault(path.parent.name, []).append(path)
    found = [Archives(paths) for _, paths in sorted(games.items())]
    found = [game for game in found if any(game.names(".bsp"))]
    if not found:
        raise TrainingError(
            f"{folder}: no game's archives (.pk3) with levels (.bsp) below it. Unpack Debian's "
            "openarena-* or nexuiz-* packages there (apt-get download, dpkg -x)."
        )
    return found
