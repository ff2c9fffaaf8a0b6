"""covis finds, matches and searches what images have in common."""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

_PYCOLMAP_FIRST = "pycolmap" in sys.modules and "zlib" not in sys.modules
# pycolmap holds a zlib of its own. The system's, if it comes later, calls into that one, and who
# then writes a PNG (Pillow, OpenCV) dies of it.
import zlib  # noqa: E402, F401

if TYPE_CHECKING:
    from covis import convert, dense, search, sfm
    from covis.api import match, verify
    from covis.errors import CovisError
    from covis.export.import_weights import import_weights
    from covis.features import Extractor
    from covis.geometry import Camera, estimate_geometry
    from covis.images.decode import load_image
    from covis.matching import Matcher
    from covis.options import ExtractorOptions, MatcherOptions, MatchOptions, RuntimeOptions
    from covis.search import Index
    from covis.types import Features, Geometry, Image, Matches

__version__ = "0.1.0"

if _PYCOLMAP_FIRST:
    import warnings

    warnings.warn(
        "pycolmap was imported before covis: writing a PNG may now end Python, of two zlibs in "
        "it. Import covis, or zlib, first.",
        RuntimeWarning,
        stacklevel=2,
    )

_HOMES = {
    "match": "api",
    "verify": "api",
    "CovisError": "errors",
    "import_weights": "export.import_weights",
    "Extractor": "features",
    "Camera": "geometry",
    "estimate_geometry": "geometry",
    "load_image": "images",
    "Matcher": "matching",
    "ExtractorOptions": "options",
    "MatchOptions": "options",
    "MatcherOptions": "options",
    "RuntimeOptions": "options",
    "Index": "search",
    "Features": "types",
    "Geometry": "types",
    "Image": "types",
    "Matches": "types",
}
_PACKAGES = ("convert", "dense", "search", "sfm")

__all__ = [
    "Camera",
    "CovisError",
    "Extractor",
    "ExtractorOptions",
    "Features",
    "Geometry",
    "Image",
    "Index",
    "MatchOptions",
    "Matcher",
    "MatcherOptions",
    "Matches",
    "RuntimeOptions",
    "convert",
    "dense",
    "estimate_geometry",
    "import_weights",
    "load_image",
    "match",
    "search",
    "sfm",
    "verify",
]


def __getattr__(name: str) -> Any:
    """Load a public name when it is first used: `covis --help` needs none of them."""
    if name in _PACKAGES:
        return importlib.import_module(f"covis.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module 'covis' has no attribute '{name}'")
    return getattr(importlib.import_module(f"covis.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """What completion offers, loaded or not."""
    return sorted({*globals(), *__all__})
