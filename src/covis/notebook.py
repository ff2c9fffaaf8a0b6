"""What notebooks show of results: a small table."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape


def table(rows: Iterable[Iterable[object]], heading: Iterable[object] = ()) -> str:
    """Rows of cells as HTML; what they hold is text, no markup."""
    head = "".join(f"<th>{escape(str(cell))}</th>" for cell in heading)
    body = "".join(
        f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows
    )
    return f"<table>{head and f'<tr>{head}</tr>'}{body}</table>"
