"""`covis weights`: the models at hand, and official weights in and out."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.errors import ArgumentError, BundleError

if TYPE_CHECKING:
    from covis.nets.weights import Architecture
    from covis.runtime import Bundle

RESERVED = ("xfeat", "sift", "nearest", "semi-dense", "lightglue", "auto")
"""Names that `--features` and `--matcher` give a meaning of their own."""

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
    licence: options.Licence = options.UNKNOWN_LICENCE,
    features: options.MadeFor = "",
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
) -> None:
    """Make a model of official weights: XFeat's, ALIKED's, SuperPoint's or LightGlue's."""
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
        from covis.nets.weights import architecture_of

        architecture = architecture_of(file)
        if features and architecture != "lightglue":
            raise ArgumentError(f"--features is for LightGlue weights; these are {architecture}'s.")
        bundle = _make_bundle(architecture, file, folder, name, licence, features)
    option = "--matcher" if architecture == "lightglue" else "--features"
    typer.echo(f"Imported '{bundle.name}' ({architecture}) into {bundle.folder}.")
    typer.echo(f"Licence: {bundle.licence}. Use it with {option} {bundle.name}.")


def _make_bundle(
    architecture: Architecture, file: Path, folder: Path, name: str, licence: str, features: str
) -> Bundle:
    source = file.name
    known = licence != options.UNKNOWN_LICENCE
    if architecture == "aliked":
        from covis.export import aliked
        from covis.nets.aliked import load_official as load_aliked

        licence = licence if known else aliked.LICENCE
        net = load_aliked(file)
        return aliked.export_aliked(net, folder, name=name, licence=licence, source=source)
    if architecture == "superpoint":
        from covis.export import superpoint
        from covis.nets.superpoint import load_official as load_superpoint

        licence = licence if known else superpoint.LICENCE
        points = load_superpoint(file)
        return superpoint.export_superpoint(
            points, folder, name=name, licence=licence, source=source
        )
    if architecture == "lightglue":
        from covis.export.lightglue import export_lightglue
        from covis.nets.lightglue import load_official as load_lightglue

        return export_lightglue(
            load_lightglue(file),
            folder,
            name=name,
            licence=licence,
            source=source,
            features=features,
        )
    from covis.export.xfeat import export_xfeat
    from covis.nets.xfeat import load_official as load_xfeat

    return export_xfeat(load_xfeat(file), folder, name=name, licence=licence, source=source)


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
