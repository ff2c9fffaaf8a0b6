"""covis finds, matches and searches what images have in common."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from covis.api import match, verify
    from covis.errors import CovisError
    from covis.features import Extractor
    from covis.geometry import Camera, estimate_geometry
    from covis.images.decode import load_image
    from covis.matching import Matcher
    from covis.search import Index
    from covis.types import Features, Geometry, Image, Matches

__version__ = "0.1.0"

_HOMES = {
    "match": "api",
    "verify": "api",
    "CovisError": "errors",
    "Extractor": "features",
    "Camera": "geometry",
    "estimate_geometry": "geometry",
    "load_image": "images",
    "Matcher": "matching",
    "Index": "search",
    "Features": "types",
    "Geometry": "types",
    "Image": "types",
    "Matches": "types",
}

__all__ = [
    "Camera",
    "CovisError",
    "Extractor",
    "Features",
    "Geometry",
    "Image",
    "Index",
    "Matcher",
    "Matches",
    "estimate_geometry",
    "load_image",
    "match",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `covis --help` needs none of them."""
    if name not in _HOMES:
        raise AttributeError(f"module 'covis' has no attribute '{name}'")
    return getattr(importlib.import_module(f"covis.{_HOMES[name]}"), name)
