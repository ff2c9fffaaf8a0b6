"""Bundles of trained models and the backends that run them."""

from covis.runtime.bundle import Bundle, find_bundle, list_bundles, user_models

__all__ = ["Bundle", "find_bundle", "list_bundles", "user_models"]
