"""Writing a bundle's folder whole or not at all, and what it is told of the weights."""

from __future__ import annotations

import json
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

    Raises BundleError when `folder` holds something else than a bundle.
    """
    if not (folder / "bundle.json").is_file() and (
        folder.is_file() or (folder.is_dir() and any(folder.iterdir()))
    ):
        raise BundleError(f"{folder}: is there and is no bundle; it is left alone.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        new = Path(work) / "bundle"
        new.mkdir()
        yield new
        if folder.exists():
            shutil.rmtree(folder)
        new.rename(folder)


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
