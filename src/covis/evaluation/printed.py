"""What papers print, to stand beside what is measured. Never measured here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A row of a paper's table.

    benchmark: its name in the registry. protocol: that of the `Row`s it stands beside.
    figures: as printed, by the names that the measured ones have. source: paper and table.
    """

    benchmark: str
    protocol: str
    method: str
    part: str
    figures: Mapping[str, float]
    source: str


PRINTED: tuple[Printed, ...] = ()
