"""How commands look: their help, and how they exit."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import typer
from typer.core import TyperCommand

NOT_SO = 1
"""The exit code of a command that ran, where the answer is no or unsure, or holds for some of what
was given only. 0: yes, for all of it. 2: it could not run. 130: stopped by Ctrl-C."""

_OTHER_SPELLINGS = re.compile(r"(--[a-z][\w-]*)(?:, --[a-z][\w-]*)+")


class Command(TyperCommand):
    """A command whose help names things as people do, without types of Python, and of the spellings
    of an option the first."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """What follows the command's name in its usage."""
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments and the options."""
        rows: dict[str, list[tuple[str, str]]] = {"Arguments": [], "Options": []}
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is None:
                continue
            if param.param_type_name == "argument":
                rows["Arguments"].append((row[0].split(" <")[0], row[1]))
            else:
                name = _OTHER_SPELLINGS.sub(r"\1", row[0])
                rows["Options"].append((re.sub(r"<([^>]*)>", r"\1", name), row[1]))
        for title, listed in rows.items():
            if listed:
                with formatter.section(title):
                    formatter.write_dl(listed)


class App(typer.Typer):
    """Commands of covis."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        """See `typer.Typer.command`."""
        return super().command(name, cls=Command, **settings)
