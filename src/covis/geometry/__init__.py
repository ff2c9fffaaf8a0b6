"""Matches -> Geometry: the two-view model that most matches agree with."""

from covis.geometry.camera import Camera
from covis.geometry.estimate import default_threshold, estimate_geometry

__all__ = ["Camera", "default_threshold", "estimate_geometry"]
