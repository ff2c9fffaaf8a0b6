"""`covis weights`: the models at hand, and official weights in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.errors import ArgumentError, BundleError, needing_train_extra

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
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="A .safetensors, .pt or .pth file; or a ViT for dense features: a folder of "
            "Hugging Face transformers, or a name it knows, such as facebook/dino-vits16.",
        ),
    ],
    name: Annotated[str, typer.Option(help="What to call the model.")],
    licence: Annotated[
        str | None,
        typer.Option(
            help="The terms the weights come under.", show_default="those of the published ones"
        ),
    ] = None,
    features: options.MadeFor = "",
    layer: options.Layer = None,
    facet: options.Facet = None,
    lift: Annotated[
        Path | None,
        options.file(
            "The LiFT that doubles the ViT's resolution: of 'covis train lift', or an "
            "official one, which does not say what it was trained on: give its layer and facet.",
            "none",
        ),
    ] = None,
    network: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Of a file that holds several networks, the one to take: xfeat, lightglue, ...",
            show_default="the only one",
        ),
    ] = None,
    force: Annotated[bool, options.flag("--force", "Replace a model of that name.")] = False,
) -> None:
    """Make a model of official weights: XFeat's, EdgePoint2's, ALIKED's, SuperPoint's, DISK's,
    LightGlue's or a ViT's, with its LiFT."""
    from covis.export.import_weights import import_weights as make_bundle
    from covis.runtime.architectures import ARCHITECTURES

    bundle = make_bundle(
        weights,
        name=name,
        licence=licence,
        features=features,
        layer=layer,
        facet=facet,
        lift=lift,
        network=network,
        force=force,
    )
    uses = {"features": "--features", "matcher": "--matcher", "dense": "'covis dense' and --model"}
    role = ARCHITECTURES[bundle.architecture].role
    typer.echo(f"Imported '{bundle.name}' ({bundle.architecture}) into {bundle.folder}.")
    if role == "dense":
        typer.echo(f"Features: {bundle.source}.")
    typer.echo(f"Licence: {bundle.licence}. Use it with {uses[role]} {bundle.name}.")


@app.command("export")
def export_weights(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model: see 'weights list'.")],
    out: Annotated[Path, options.file("The .safetensors file to write.")],
) -> None:
    """Write a model's weights with the official key names."""
    from covis.files.atomic import replacing
    from covis.runtime import find_bundle
    from covis.runtime.architectures import ARCHITECTURES, load

    if out.suffix != ".safetensors":
        raise ArgumentError(f"{out}: the file to write must end in .safetensors.")
    bundle = find_bundle(name)
    official = {each: row.official for each, row in ARCHITECTURES.items() if row.official}
    if bundle.architecture not in official:
        raise ArgumentError(
            f"'{name}' is a bundle for {bundle.architecture}; only these are exported: "
            f"{', '.join(official)}."
        )
    with needing_train_extra():
        from safetensors.torch import save

        state = load(official[bundle.architecture])(bundle)
        content = save(state, {"licence": bundle.licence})
    with replacing(out) as file:
        file.write(content)
    typer.echo(f"Wrote {out}. Licence: {bundle.licence}.")
