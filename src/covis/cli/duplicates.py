"""`covis duplicates`: groups of near-copies in a store."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.outputs import check_drawing
from covis.cli.progress import progress
from covis.messages import counted, turned

if TYPE_CHECKING:
    from covis.search.duplicates import Copy


def command(
    store: options.Store,
    output: Annotated[Path | None, options.drawing("the groups")] = None,
    as_json: options.AsJson = False,
    threads: options.Threads = None,
    device: options.Device = options.DEFAULT_DEVICE,
) -> None:
    """Find near-copies: resized, recompressed, cropped, turned, mirrored or written over.

    Of each group the likely original comes first: the largest picture, then the largest and oldest
    file. Files that are gone or have changed are left out. Exits with 1 where there are none.
    """
    from covis.search import Index

    index = Index(store, threads=threads, device=device)
    stored = index.store.column(index.store.files, "path")
    check_drawing(output, *map(Path, stored if output and output.exists() else []))
    with progress("% compared") as report:
        groups = index.duplicates(report=lambda share: report(round(100 * share), 100))
    left_out = index.stale()
    if output is not None:
        from covis.draw.canvas import save_picture
        from covis.draw.copies import draw_groups

        save_picture(draw_groups(groups), output)
    if as_json:
        told = [[asdict(copy) for copy in group] for group in groups]
        typer.echo(json.dumps({"groups": told, "left_out": left_out}))
    else:
        _print(groups, left_out)
        if output is not None:
            typer.echo(f"Drawn in {output}.")
    if not groups:
        raise typer.Exit(NOT_SO)


def _print(groups: list[tuple[Copy, ...]], left_out: dict[str, str]) -> None:
    for group in groups:
        for place, copy in enumerate(group):
            typer.echo(f"{'    ' if place else ''}{copy.path}  {_words(copy)}")
    copies = sum(len(group) - 1 for group in groups)
    typer.echo(f"{counted(len(groups), 'group')}; files that are copies of others: {copies}.")
    if left_out:
        typer.echo(
            f"{counted(len(left_out), 'file')} left out, gone or changed since "
            f"{'it was' if len(left_out) == 1 else 'they were'} added; "
            "'covis verify' names them, 'covis add' takes changed ones up anew."
        )


def _words(copy: Copy) -> str:
    same = ["the same bytes"] if copy.identical else []
    return ", ".join([f"{copy.width}x{copy.height}", *turned(copy.turn, copy.mirrored), *same])
