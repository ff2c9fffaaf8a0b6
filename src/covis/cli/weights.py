"""`covis weights`: the models at hand, and official weights in and out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Literal

import typer

from covis.cli import options
from covis.errors import ArgumentError, BundleError

RESERVED = ("xfeat", "sift")
"""Names that `--features` gives a meaning of its own."""

UNKNOWN_LICENCE = "unknown: ask whoever gave you the file"

app = typer.Typer(help="List models; import and export official weights.", no_args_is_help=True)


@app.command("list")
def list_models(as_json: options.AsJson = False) -> None:
    """List the models at hand, their licences and folders."""
    from covis.runtime import list_bundles, user_models

    broken: list[BundleError] = []
    bundles = list_bundles(broken)
    for error in broken:
        typer.echo(f"covis: {error}", err=True)
    if as_json:
        typer.echo(json.dumps([b.describe() | {"folder": str(b.folder)} for b in bundles]))
        return
    for bundle in bundles:
        typer.echo(f"{bundle.name}  ({bundle.architecture})")
        typer.echo(f"    licence {bundle.licence}")
        typer.echo(f"    source  {bundle.source}")
        typer.echo(f"    folder  {bundle.folder}")
    if not bundles:
        typer.echo(f"No models. 'covis weights import' puts them into {user_models()}.")


@app.command("import")
def import_weights(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A .safetensors, .pt or .pth file.")],
    name: Annotated[str, typer.Option(help="What to call the model.")],
    licence: Annotated[
        str,
        typer.Option(
            help="The terms the weights come under; Apache-2.0 for XFeat's official ones."
        ),
    ] = UNKNOWN_LICENCE,
    architecture: Annotated[
        Literal["xfeat"], typer.Option(help="The network they belong to.")
    ] = "xfeat",
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
) -> None:
    """Make a model of official weights."""
    from covis.runtime import user_models
    from covis.runtime.bundle import SHIPPED

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ArgumentError(f"'{name}' is no name for a model; use letters, digits, '.', '_', '-'.")
    if name in RESERVED or (SHIPPED / name).exists():
        raise ArgumentError(f"the name '{name}' is taken by covis itself; use another.")
    folder = user_models() / name
    if folder.exists() and not force:
        raise ArgumentError(f"there is a model '{name}' in {folder}; --force replaces it.")
    with options.needing_train_extra():
        from covis.export.xfeat import export_xfeat
        from covis.nets.xfeat import load_official

        net = load_official(file)
        bundle = export_xfeat(net, folder, name=name, licence=licence, source=file.name)
    typer.echo(f"Imported '{bundle.name}' ({architecture}) into {bundle.folder}.")
    typer.echo(f"Licence: {bundle.licence}. Use it with --features {bundle.name}.")


@app.command("export")
def export_weights(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model: see 'weights list'.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The .safetensors file to write.")],
) -> None:
    """Write a model's weights with the official key names."""
    from covis.files import replacing
    from covis.runtime import find_bundle

    if out.suffix != ".safetensors":
        raise ArgumentError(f"{out}: the file to write must end in .safetensors.")
    bundle = find_bundle(name)
    if bundle.architecture != "xfeat":
        raise ArgumentError(f"'{name}' is a bundle for {bundle.architecture}; only xfeat's export.")
    with options.needing_train_extra():
        from safetensors.torch import save

        from covis.export.xfeat import official_state_dict

        content = save(official_state_dict(bundle), {"licence": bundle.licence})
    with replacing(out) as file:
        file.write(content)
    typer.echo(f"Wrote {out}. Licence: {bundle.licence}.")
