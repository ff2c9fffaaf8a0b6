"""`covis remove`: photos out of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.messages import counted


def command(
    source: options.From,
    photos: Annotated[
        list[Path] | None,
        typer.Argument(metavar="PHOTOS", help="Files and folders to forget; none is deleted."),
    ] = None,
    missing: Annotated[
        bool, options.flag("--missing", "Forget files that are no longer there, too.")
    ] = False,
) -> None:
    """Forget photos. The files themselves stay.

    Exits with 1 if none of the named ones is in the store.
    """
    if not photos and not missing:
        raise typer.BadParameter("name files or folders to forget, or give --missing.")
    from covis.search import Index

    index = Index(source)
    removed = index.remove(photos or [], missing=missing)
    for path in removed.unknown:
        typer.echo(f"covis: {path} is not in {source}.", err=True)
    typer.echo(
        f"{counted(len(removed.files), 'file')} forgotten; "
        f"{source} holds {counted(len(index), 'picture')}."
    )
    if photos and not removed.files:
        raise typer.Exit(NOT_SO)
