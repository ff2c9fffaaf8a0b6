"""What people hear of a run while it works."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Report = Callable[[str], Any]
"""What takes a line of text for people."""

SECONDS = 5.0
"""Between two lines of one piece of work."""


def paced(report: Report, seconds: float = SECONDS) -> Report:
    """`report`, but of the lines only one every so many seconds, the first after as many."""
    last = time.monotonic()

    def tell(line: str) -> None:
        nonlocal last
        if time.monotonic() - last >= seconds:
            report(line)
            last = time.monotonic()

    return tell
