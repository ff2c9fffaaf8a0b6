"""What docs/formats.md says, to be compared with what the code writes."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"


def documented(section: str) -> dict[str, str]:
    """The first table under a heading of docs/formats.md: first column -> second, code unquoted."""
    text = PAGE.read_text("utf-8")
    found = re.search(rf"^#+ {re.escape(section)}$(.*?)(?=^#|\Z)", text, re.MULTILINE | re.DOTALL)
    assert found, f"docs/formats.md has no section '{section}'"
    table = re.search(r"(?:^\|.*\n)+", found[1], re.MULTILINE)
    assert table, f"docs/formats.md, {section}: no table"
    rows = re.findall(r"^\| `([^`]+)` \| *(.*?) *\|", table[0], re.MULTILINE)
    return {name: re.sub(r"^`([^`]*)`$", r"\1", value) for name, value in rows}
