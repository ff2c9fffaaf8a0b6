"""Levels of games in Quake 3's format, rendered with exact depth: places to learn parallax from."""

from __future__ import annotations

from covis.training.data.game_maps.archives import Archives
from covis.training.data.game_maps.level import Level, read_level
from covis.training.data.game_maps.render import Camera, Renderer, View

__all__ = ["Archives", "Camera", "Level", "Renderer", "View", "read_level"]
