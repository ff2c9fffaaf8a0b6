"""`covis info`: what a store holds."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from covis.cli import options
from covis.messages import counted


def command(
    store: options.Store,
    images: Annotated[
        int | None,
        typer.Option("--forecast", min=1, metavar="N", help="What N pictures would take."),
    ] = None,
    failures: Annotated[
        bool, options.flag("--failures", "List the files that could not be used, and why.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Show what a store holds, what made it, and what it takes."""
    from covis.search import Index

    index = Index(store)
    info = index.info()
    failed = index.failures() if failures else {}
    if as_json:
        values = {**asdict(info), "bytes_per_image": info.bytes_per_image}
        if images is not None:
            stored, memory = info.forecast(images)
            values["forecast"] = {"images": images, "stored": stored, "memory": memory}
        if failures:
            values["failures"] = failed
        typer.echo(json.dumps(values))
        return
    identity = info.identity
    size = f"at most {identity.max_size} pixels" if identity.max_size else "any size"
    whole = "pooled from them" if identity.pooled else "of the model"
    typer.echo(
        f"{counted(info.images, 'picture')} in {counted(info.files, 'file')}; "
        f"{counted(info.failed, 'file')} failed."
    )
    typer.echo(f"Model: {identity.features} {identity.weights}".rstrip() + f", images of {size},")
    typer.echo(f"    {identity.max_keypoints} local features of {identity.descriptor} numbers,")
    typer.echo(f"    a global vector of {identity.vector} numbers, {whole}.")
    older = info.everything - info.stored
    typer.echo(
        f"On disk: {_bytes(info.stored)}, {_bytes(info.bytes_per_image)} a picture, "
        f"and {_bytes(older)} of older versions."
    )
    typer.echo(f"In memory while searching: {_bytes(info.memory)}.")
    if images is not None:
        stored, memory = info.forecast(images)
        typer.echo(
            f"{counted(images, 'picture')}: {_bytes(stored)} on disk, {_bytes(memory)} in memory."
        )
    for why in failed.values():
        typer.echo(why)


def _bytes(count: float) -> str:
    for unit in ("B", "KB", "MB", "GB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:,.3g} TB" if count < 1000 else f"{count:,.0f} TB"
