"""Image -> Features."""

from covis.features.extractor import Extractor

__all__ = ["Extractor"]
