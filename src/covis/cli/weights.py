"""`covis weights`: the models at hand, and official weights in and out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.cli.commands import App
from covis.cli.progress import StageBars
from covis.errors import ArgumentError, BundleError, needing_train_extra
from covis.options import UNKNOWN_LICENCE
from covis.runtime.architectures import ARCHITECTURES, Role, load
from covis.runtime.bundle import KIND

if TYPE_CHECKING:
    from covis.runtime import Bundle

USES: dict[Role, str] = {
    "features": "--features",
    "matcher": "--matcher",
    "dense": "'covis dense' and --model",
}
"""How a model is named on the command line."""
app = App(help="List models; import and export official weights.", no_args_is_help=True)


@app.command("list")
def list_models(
    as_json: Annotated[
        bool, options.flag("--json", "Print one JSON array, an object a model, and nothing else.")
    ] = False,
) -> None:
    """List the models at hand, their licences and folders."""
    from covis.features.registry import HANDCRAFTED
    from covis.runtime import list_bundles, user_models

    broken: list[BundleError] = []
    bundles = list_bundles(broken)
    for error in broken:
        typer.echo(f"covis: {error}", err=True)
    if as_json:
        typer.echo(json.dumps([b.describe() | {"folder": str(b.folder)} for b in bundles]))
        return
    for bundle in bundles:
        typer.echo(f"{bundle.name}  ({_kind(bundle)})")
        typer.echo(f"    licence {bundle.licence}")
        typer.echo(f"    source  {bundle.source}")
        typer.echo(f"    folder  {bundle.folder}")
    for name, row in HANDCRAFTED.items():
        typer.echo(f"{name}  (features without weights)")
        typer.echo(f"    licence {row.licence}")
    if not bundles:
        typer.echo(f"No models. 'covis weights import' puts them into {user_models()}.")


def _kind(bundle: Bundle) -> str:
    if bundle.architecture != "lift":
        return bundle.architecture
    if "backbone" not in bundle.graphs:
        return f"LiFT for {bundle.settings.get(KIND, {}).get('backbone')}"
    return "dense features, lifted" if "lift" in bundle.graphs else "dense features"


@app.command("get")
def get_weights(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Of the list that it prints without one.")
    ] = None,
    force: Annotated[bool, options.flag("--force", "Fetch it again.")] = False,
    accept: Annotated[
        bool, options.flag("--accept-licence", "Take the terms that such weights ask for.")
    ] = False,
) -> None:
    """Fetch published weights and make a model of them; without a name, list what there is."""
    from covis.export.published_weights import PUBLISHED
    from covis.export.published_weights import get_weights as get
    from covis.runtime.bundle import installed_bundle

    if name is None:
        for each, row in PUBLISHED.items():
            said = [row.use, row.origin, "here already" if installed_bundle(each) else ""]
            use = ", ".join(filter(None, said))
            typer.echo(f"{each:20} {row.megabytes:5.1f} MB  {row.licence:13} {use}")
        return
    with StageBars() as bars:
        bundle = get(
            name,
            lambda done, total: bars("kB", done // 1000, total // 1000),
            force=force,
            accept_licence=accept,
        )
    role = ARCHITECTURES[bundle.architecture].role
    typer.echo(f"'{name}' is in {bundle.folder}.")
    typer.echo(f"Licence: {bundle.licence}. Use it with {USES[role]} {name}.")


@app.command("import")
def import_weights(
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="A .safetensors, .pt or .pth file, of DINOv2 an .onnx file, too; or another ViT "
            "for dense features: a folder of Hugging Face transformers, or a name it knows, such "
            "as facebook/dino-vits16.",
        ),
    ],
    name: Annotated[str, options.name("What to call the model.")],
    licence: Annotated[
        str | None,
        typer.Option(
            metavar="TERMS",
            help="The terms the weights come under; 'mine' for those you trained.",
            show_default="what the file says, or those of the published ones",
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
    role = ARCHITECTURES[bundle.architecture].role
    typer.echo(f"Imported '{bundle.name}' ({_kind(bundle)}) into {bundle.folder}.")
    if role == "dense":
        typer.echo(f"Features: {bundle.source}.")
    typer.echo(f"Licence: {bundle.licence}. Use it with {USES[role]} {bundle.name}.")
    if UNKNOWN_LICENCE in bundle.licence:
        typer.echo("Once you know the terms: import it again with --licence TERMS --force.")


@app.command("export")
def export_weights(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A model: see 'weights list'.")],
    out: Annotated[Path, options.output("FILE", "The .safetensors file to write.")],
) -> None:
    """Write a model's weights with the official key names."""
    from covis.files.atomic import replacing
    from covis.runtime import find_bundle

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
        from covis.nets.weights import LICENCE

        content = save(state, {LICENCE: bundle.licence})
    with replacing(out) as file:
        file.write(content)
    typer.echo(f"Wrote {out}. Licence: {bundle.licence}.")
