"""An extension of Griffe: covis' docstrings as Markdown.

They describe arguments and fields in running text, "name, other: what they are. third: ...", which
becomes a list; an example of >>> lines becomes a block of code.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_NAMED = re.compile(r"(?:^|(?<=[.;] ))((?:\w+)(?:, \w+)*): ", re.MULTILINE)


class Docstrings(griffe.Extension):
    """Listed in mkdocs.yml."""

    def on_function(self, *, func: griffe.Function, **kwargs: Any) -> None:
        _rewrite(func, {parameter.name for parameter in func.parameters})

    def on_class(self, *, cls: griffe.Class, **kwargs: Any) -> None:
        _rewrite(cls, set(cls.members))


def _rewrite(described: griffe.Object, names: set[str]) -> None:
    if described.docstring is None:
        return
    paragraphs = described.docstring.value.split("\n\n")
    described.docstring.value = "\n\n".join(_markdown(each, names) for each in paragraphs)


def _markdown(paragraph: str, names: set[str]) -> str:
    if paragraph.lstrip().startswith(">>> "):
        example = re.sub(r" *# doctest:.*$", "", paragraph, flags=re.MULTILINE)
        return f"```pycon\n{example}\n```"

    def item(found: re.Match[str]) -> str:
        listed = found[1].split(", ")
        if not names.issuperset(listed):
            return found[0]
        return "\n- " + ", ".join(f"`{name}`" for name in listed) + ": "

    text = _NAMED.sub(item, paragraph)
    if text == paragraph:
        return paragraph
    # One line an item, so that no line's own indent is taken for a block; a blank one before.
    head, *items = re.split(r"^- ", text, flags=re.MULTILINE)
    listed = "\n".join("- " + " ".join(each.split()) for each in items)
    return f"{head.strip()}\n\n{listed}".strip()
