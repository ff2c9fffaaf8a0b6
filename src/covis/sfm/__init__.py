"""Maps from photos: pairs, matches, tracks, COLMAP databases and models, places in them."""

from covis.sfm.model import Map

__all__ = ["Map"]
