"""`covis verify`: whether a store is whole."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.messages import counted

SHOWN = 20


def command(
    store: options.Store,
    repair: Annotated[
        bool, options.flag("--repair", "Remove pictures that no file has any more.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Read all of a store, and look whether its files are as they were.

    Exits with 1 if something is wrong with the store itself.
    """
    from covis.search import Index

    found = Index(store).verify(repair=repair)
    if as_json:
        typer.echo(json.dumps(asdict(found)))
    else:
        typer.echo(f"{counted(found.images, 'picture')} and {counted(found.files, 'file')} read.")
        lists = (
            ("Problems", found.problems, "covis add PHOTOS --to STORE mends most."),
            ("Gone", found.gone, "covis remove --missing --from STORE forgets them."),
            ("Changed", found.changed, "covis add PHOTOS --to STORE takes them up."),
            ("Failed", list(found.failed.values()), "covis add tries them again."),
        )
        for what, entries, remedy in lists:
            if entries:
                typer.echo(f"{what}: {len(entries)}. {remedy}")
                for entry in entries[:SHOWN]:
                    typer.echo(f"    {entry}")
                if len(entries) > SHOWN:
                    typer.echo(f"    and {len(entries) - SHOWN} more; --json lists all.")
        if not found.problems:
            typer.echo("The store is whole.")
    if found.problems:
        raise typer.Exit(NOT_SO)
