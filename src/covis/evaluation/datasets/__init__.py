"""Readers of public data sets, one module a layout."""
