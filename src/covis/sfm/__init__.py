"""Maps from photos: pairs, matches, tracks, COLMAP databases and models, places in them."""

from covis.sfm.build import build_map
from covis.sfm.localisation import Localisation
from covis.sfm.localise import Locator, locate
from covis.sfm.map import Map
from covis.sfm.options import MapOptions, MapSummary

__all__ = [
    "Localisation",
    "Locator",
    "Map",
    "MapOptions",
    "MapSummary",
    "build_map",
    "locate",
]
