"""Writing a bundle's folder whole or not at all, and what it is told of the weights."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NotRequired, TypedDict, Unpack

from covis.errors import BundleError
from covis.runtime.bundle import Bundle


class About(TypedDict):
    """What every export is told of the weights, for the fields of `Bundle` of these names."""

    name: str
    licence: str
    source: str
    training: NotRequired[Mapping[str, Any]]
    metrics: NotRequired[Mapping[str, Any]]


@contextmanager
def replacing_bundle(folder: Path) -> Iterator[Path]:
    """A new, empty folder that takes the place of `folder` when the block ends without an error.

    Raises BundleError when `folder` holds something else than a bundle, or other files beside one,
    and where nothing can be written.
    """
    _check_replaceable(folder)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _remove_left_behind(folder.parent)
        work = tempfile.mkdtemp(prefix=f"{_UNFINISHED}{os.getpid()}-", dir=folder.parent)
    except OSError as error:
        raise BundleError(f"{folder}: cannot be written ({error.strerror}).") from error
    try:
        new, old = Path(work) / "bundle", Path(work) / "old"
        new.mkdir()
        yield new
        _check_replaceable(folder)
        replaced = folder.exists()
        if replaced:
            folder.rename(old)
        try:
            new.rename(folder)
        except OSError as error:
            if replaced:
                old.rename(folder)
            raise BundleError(f"{folder}: cannot be written ({error.strerror}).") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


_UNFINISHED = ".covis-unfinished-"
_BESIDE = {"bundle.json", "one_file.onnx", "parity.md"}
"""What covis writes into a bundle's folder beside its graphs."""


def _check_replaceable(folder: Path) -> None:
    """Raise BundleError for a folder with anything in it that is not a bundle's."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not (folder / "bundle.json").is_file():
        raise BundleError(f"{folder}: is there and is no bundle; it is left alone.")
    known = _BESIDE | set(Bundle.read(folder).graphs.values())
    others = sorted(path.name for path in folder.iterdir() if path.name not in known)
    if others:
        raise BundleError(
            f"{folder}: holds {others[0]}, which is no part of its bundle; it is left alone. "
            "Move that away, or name another folder."
        )


def _remove_left_behind(folder: Path) -> None:
    """Delete what killed runs left there half written."""
    for path in folder.glob(f"{_UNFINISHED}*"):
        process = path.name.removeprefix(_UNFINISHED).partition("-")[0]
        if process.isdigit() and not _runs(int(process)):
            shutil.rmtree(path, ignore_errors=True)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextmanager
def writing_bundle(
    folder: Path,
    architecture: str,
    roles: Iterable[str],
    settings: Mapping[str, Any] | None = None,
    **about: Unpack[About],
) -> Iterator[Path]:
    """A new folder for a graph of each role, ROLE.onnx, as `replacing_bundle` gives one.

    `bundle.json` is written when the block ends. Raises BundleError as `replacing_bundle` does.
    """
    graphs = {role: f"{role}.onnx" for role in roles}
    with replacing_bundle(folder) as new:
        bundle = Bundle(
            architecture=architecture, graphs=graphs, folder=new, settings=settings or {}, **about
        )
        yield new
        text = json.dumps(bundle.describe(), indent=2) + "\n"
        (new / "bundle.json").write_text(text, encoding="utf-8")
