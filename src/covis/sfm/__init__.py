"""Maps from photos: pairs, matches, tracks, COLMAP databases and models, places in them."""

from covis.sfm.localise import Located, Locator, locate
from covis.sfm.model import Map

__all__ = ["Located", "Locator", "Map", "locate"]
