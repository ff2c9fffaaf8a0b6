"""The stores that `covis web` was last given, so that without arguments it can offer them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from covis.errors import CovisError
from covis.files.atomic import replacing
from covis.runtime import user_models

MOST = 8


def _list() -> Path:
    return user_models().with_name("recent-stores.json")


def recent() -> list[str]:
    """Their paths, the last one first; only what is a store still."""
    try:
        said = json.loads(_list().read_text("utf-8"))
    except (OSError, ValueError):
        return []
    paths = [path for path in said if isinstance(path, str)] if isinstance(said, list) else []
    return [path for path in paths if os.path.isdir(os.path.join(path, "images.lance"))][:MOST]


def remember(stores: Iterable[str]) -> None:
    """Put folders of stores in front; where nothing can be written, nothing is remembered."""
    given = [path for path in stores if "://" not in path]
    if not given:
        return
    with suppress(OSError, CovisError):
        _list().parent.mkdir(parents=True, exist_ok=True)
        kept = list(dict.fromkeys([*given, *recent()]))[:MOST]
        with replacing(_list()) as file:
            file.write(json.dumps(kept).encode("utf-8", "surrogateescape"))
