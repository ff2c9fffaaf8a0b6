"""Features x Features -> Matches."""

from covis.matching.matcher import Matcher
from covis.matching.registry import MATCHERS, needs_semi_dense

__all__ = ["MATCHERS", "Matcher", "needs_semi_dense"]
