"""`covis add`: photos into a store."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.progress import StageBars
from covis.messages import counted
from covis.options import INDEX_MAX_KEYPOINTS


def command(
    photos: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTOS", help="Folders, at any depth, and single files."),
    ],
    to: options.To,
    features: Annotated[
        str | None,
        options.name(
            "The model of a new store, see 'covis weights list'.",
            "xfeat, or what the store was made with",
        ),
    ] = None,
    max_keypoints: Annotated[int | None, options.max_keypoints(str(INDEX_MAX_KEYPOINTS))] = None,
    max_size: Annotated[int | None, options.max_size(str(options.DEFAULT_MAX_SIZE))] = None,
    engine: options.Engine = "local",
    address: options.Address = None,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Add photos to a store, to search them.

    What is there already, by content, is not extracted again; what changed is replaced. Stop it
    at any moment and run it again to go on. Exits with 1 if some files could not be used: 'covis
    info --failures' lists them.
    """
    from covis.images.passed_over import passed_over
    from covis.images.picture_files import walk_pictures
    from covis.search import Index

    index = Index(
        to,
        features=features,
        max_keypoints=max_keypoints,
        max_size=max_size,
        threads=threads,
        device=device,
    )
    with StageBars() as bars:
        total = sum(1 for _ in walk_pictures(photos)) if bars.shown else None
        seen = count(1)

        def report(_: str, why: str) -> None:
            bars("photos", next(seen), total)
            if why:
                bars.tell(f"covis: {why}")

        added = index.add(photos, report=report, engine=engine, address=address)
        for line in added.left_out:
            bars.tell(f"covis: {line}")
    rate = f" ({added.added / added.seconds:.1f} a second)" if added.added else ""
    typer.echo(
        f"{added.added:,} added{rate}, {added.unchanged:,} unchanged, "
        f"{counted(added.copies, 'copy', 'copies')}, {added.replaced:,} replaced, "
        f"{len(added.failed):,} failed. {to} holds {counted(len(index), 'picture')}."
    )
    if unread := passed_over(photos):
        typer.echo(f"covis: {unread}", err=True)
    if added.failed:
        raise typer.Exit(NOT_SO)
