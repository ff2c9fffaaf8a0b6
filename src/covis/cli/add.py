"""`covis add`: photos into a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from covis.cli import options
from covis.messages import counted

ENGINES = Literal["local", "ray"]


def command(
    photos: Annotated[list[Path], typer.Argument(help="Folders, at any depth, and single files.")],
    to: options.To,
    features: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="The model of a new store, see 'covis weights list'.",
            show_default="xfeat, or what the store was made with",
        ),
    ] = None,
    max_keypoints: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Features an image at most.", show_default="1000"),
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="PX",
            help="Shrink larger images to this longest side; 0 for full size.",
            show_default="960",
        ),
    ] = None,
    engine: Annotated[
        ENGINES, typer.Option(help="Where to decode and extract: here, or on a Ray cluster.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(metavar="HOST:PORT", help="The Ray cluster.", show_default="this machine"),
    ] = None,
    threads: options.Threads = None,
) -> None:
    """Add photos to a store, to search them.

    What is there already, by content, is not extracted again; what changed is replaced. Stop it
    at any moment and run it again to go on. Exits with 1 if some files could not be used: 'covis
    info --failures' lists them.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    from covis.search import Index
    from covis.search.ingest import pictures

    index = Index(
        to, features=features, max_keypoints=max_keypoints, max_size=max_size, threads=threads
    )
    console = Console(stderr=True)
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        total = sum(1 for _ in pictures(photos)) if console.is_terminal else None
        task = progress.add_task("", total=total, rate="")

        def report(path: str, why: str) -> None:
            progress.advance(task)
            speed = progress.tasks[0].speed
            progress.update(task, rate=f"{speed:.1f}/s" if speed else "")
            if why:
                console.out(f"covis: {why}", highlight=False)

        added = index.add(photos, report=report, engine=engine, address=address)
    rate = f" ({added.added / added.seconds:.1f} a second)" if added.added else ""
    typer.echo(
        f"{added.added:,} added{rate}, {added.unchanged:,} unchanged, "
        f"{counted(added.copies, 'copy', 'copies')}, {added.replaced:,} replaced, "
        f"{len(added.failed):,} failed. {to} holds {counted(len(index), 'picture')}."
    )
    if added.failed:
        raise typer.Exit(1)
