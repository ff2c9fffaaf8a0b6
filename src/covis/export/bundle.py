"""Writing a bundle's folder whole or not at all."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from covis.errors import BundleError
from covis.runtime.bundle import Bundle


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


def write_description(bundle: Bundle) -> None:
    """Write `bundle.json` into the bundle's folder."""
    text = json.dumps(bundle.describe(), indent=2) + "\n"
    (bundle.folder / "bundle.json").write_text(text, encoding="utf-8")
