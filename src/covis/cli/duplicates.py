"""`covis duplicates`: groups of near-copies in a store."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.progress import progress
from covis.messages import counted, turned

if TYPE_CHECKING:
    from covis.search.duplicates import Copy


def command(
    store: options.Store, as_json: options.AsJson = False, threads: options.Threads = None
) -> None:
    """Find near-copies: resized, recompressed, lightly cropped, turned or mirrored photos.

    Of each group the one with the most pixels comes first. Exits with 1 where there are none.
    """
    from covis.search import Index

    with progress("% compared") as report:
        groups = Index(store, threads=threads).duplicates(
            report=lambda share: report(round(100 * share), 100)
        )
    if as_json:
        typer.echo(json.dumps({"groups": [[asdict(copy) for copy in group] for group in groups]}))
    else:
        _print(groups)
    if not groups:
        raise typer.Exit(NOT_SO)


def _print(groups: list[tuple[Copy, ...]]) -> None:
    for group in groups:
        for place, copy in enumerate(group):
            typer.echo(f"{'    ' if place else ''}{copy.path}  {_words(copy)}")
    copies = sum(len(group) - 1 for group in groups)
    typer.echo(f"{counted(len(groups), 'group')}; files that are copies of others: {copies}.")


def _words(copy: Copy) -> str:
    return ", ".join([f"{copy.width}x{copy.height}", *turned(copy.turn, copy.mirrored)])
