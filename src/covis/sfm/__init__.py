"""Maps from photos: pairs, matches, tracks, COLMAP databases and models, places in them."""

from covis.sfm.localise import Localisation, Locator, locate
from covis.sfm.map import Map

__all__ = ["Localisation", "Locator", "Map", "locate"]
