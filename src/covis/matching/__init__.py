"""Features x Features -> Matches."""

from covis.matching.matcher import MATCHERS, Matcher

__all__ = ["MATCHERS", "Matcher"]
