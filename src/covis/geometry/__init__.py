"""Matches -> Geometry: the two-view model that most matches agree with."""

from covis.geometry.camera import Camera
from covis.geometry.two_view import default_threshold, estimate_geometry

__all__ = ["Camera", "default_threshold", "estimate_geometry"]
