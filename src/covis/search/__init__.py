"""A store of photos: add, search, find copies."""

from covis.search.index import Index

__all__ = ["Index"]
