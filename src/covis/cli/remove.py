"""`covis remove`: photos out of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options


def command(
    source: options.From,
    photos: Annotated[
        list[Path] | None, typer.Argument(help="Files and folders to forget; none is deleted.")
    ] = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Forget files that are no longer there, too.")
    ] = False,
) -> None:
    """Forget photos. The files themselves stay."""
    if not photos and not missing:
        raise typer.BadParameter("name files or folders to forget, or give --missing.")
    from covis.search import Index

    index = Index(source)
    count = index.remove(photos or [], missing=missing)
    files = "file" if count == 1 else "files"
    typer.echo(f"{count} {files} forgotten. {source} holds {len(index)} pictures.")
