"""`covis weights`: the models at hand, and official weights in and out."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from covis.cli import options
from covis.errors import ArgumentError, BundleError

if TYPE_CHECKING:
    from covis.nets.weights import Architecture
    from covis.runtime import Bundle

WEIGHTS = (".safetensors", ".pt", ".pth")
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
    weights: Annotated[
        str,
        typer.Argument(
            metavar="WEIGHTS",
            help="A .safetensors, .pt or .pth file; or a ViT for dense features: a folder of "
            "Hugging Face transformers, or a name it knows, such as facebook/dino-vits16.",
        ),
    ],
    name: Annotated[str, typer.Option(help="What to call the model.")],
    licence: options.Licence = options.UNKNOWN_LICENCE,
    features: options.MadeFor = "",
    layer: options.Layer = None,
    facet: options.Facet = None,
    lift: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The LiFT that doubles the ViT's resolution: of 'covis train lift', or an "
            "official one, which does not say what it was trained on: give its layer and facet.",
            show_default="none",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a model of that name.")] = False,
) -> None:
    """Make a model of official weights: XFeat's, EdgePoint2's, ALIKED's, SuperPoint's, LightGlue's
    or a ViT's, with its LiFT."""
    from covis.runtime import user_models
    from covis.runtime.bundle import SHIPPED

    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ArgumentError(f"'{name}' is no name for a model; use letters, digits, '.', '_', '-'.")
    if name in RESERVED or (SHIPPED / name).exists():
        raise ArgumentError(f"the name '{name}' is taken by covis itself; use another.")
    folder = user_models() / name
    if folder.exists() and not force:
        raise ArgumentError(f"there is a model '{name}' in {folder}; --force replaces it.")
    file = Path(weights)
    with options.needing_train_extra():
        if file.is_file() or file.suffix in WEIGHTS:
            bundle = _of_file(file, folder, name, licence, features, (layer, facet, lift))
        elif features:
            raise ArgumentError(f"--features is for LightGlue weights, not for {weights}.")
        else:
            bundle = _dense(weights, folder, name, licence, layer, facet, lift)
    uses = {"lightglue": "--matcher", "lift": "'covis dense' and --model"}
    option = uses.get(bundle.architecture, "--features")
    typer.echo(f"Imported '{bundle.name}' ({bundle.architecture}) into {bundle.folder}.")
    if bundle.architecture == "lift":
        typer.echo(f"Features: {bundle.source}.")
    typer.echo(f"Licence: {bundle.licence}. Use it with {option} {bundle.name}.")


def _of_file(
    file: Path, folder: Path, name: str, licence: str, features: str, for_vits: Sequence[object]
) -> Bundle:
    from covis.nets.weights import architecture_of

    architecture = architecture_of(file)
    if architecture == "lift":
        raise ArgumentError(
            f"{file} is a LiFT, which goes in with the network whose features it lifts: "
            f"'covis weights import facebook/dino-vits16 --lift {file} --name {name}', or another."
        )
    if features and architecture != "lightglue":
        raise ArgumentError(f"--features is for LightGlue weights; these are {architecture}'s.")
    if any(given is not None for given in for_vits):
        raise ArgumentError(
            f"--layer, --facet and --lift are for ViTs; these weights are {architecture}'s."
        )
    return _make_bundle(architecture, file, folder, name, licence, features)


def _dense(
    weights: str,
    folder: Path,
    name: str,
    licence: str,
    layer: int | None,
    facet: options.FacetChoice | None,
    lift: Path | None,
) -> Bundle:
    from covis.export.lift import export_lift
    from covis.nets.dense import licence_of, load_vit
    from covis.nets.lift import load_lift

    backbone = load_vit(weights, layer, facet or "key")
    if licence == options.UNKNOWN_LICENCE:
        licence = licence_of(weights) or licence
        licence += "" if lift is None else f" (ViT); {options.UNKNOWN_LICENCE} (LiFT)"
    return export_lift(
        None if lift is None else load_lift(lift, backbone.kind),
        backbone,
        folder,
        name=name,
        licence=licence,
        source=f"{backbone.kind}, {'no LiFT' if lift is None else f'LiFT of {lift.name}'}",
    )


def _make_bundle(
    architecture: Architecture, file: Path, folder: Path, name: str, licence: str, features: str
) -> Bundle:
    source = file.name
    known = licence != options.UNKNOWN_LICENCE
    if architecture == "edgepoint":
        from covis.export import edgepoint
        from covis.nets.edgepoint import load_official as load_edgepoint

        licence = licence if known else edgepoint.LICENCE
        compact = load_edgepoint(file)
        return edgepoint.export_edgepoint(
            compact, folder, name=name, licence=licence, source=source
        )
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
    from covis.files.atomic import replacing
    from covis.runtime import find_bundle

    if out.suffix != ".safetensors":
        raise ArgumentError(f"{out}: the file to write must end in .safetensors.")
    bundle = find_bundle(name)
    if bundle.architecture not in ("xfeat", "edgepoint"):
        raise ArgumentError(
            f"'{name}' is a bundle for {bundle.architecture}; only xfeat's and edgepoint's export."
        )
    with options.needing_train_extra():
        from safetensors.torch import save

        from covis.export import edgepoint, xfeat

        room = xfeat if bundle.architecture == "xfeat" else edgepoint
        content = save(room.official_state_dict(bundle), {"licence": bundle.licence})
    with replacing(out) as file:
        file.write(content)
    typer.echo(f"Wrote {out}. Licence: {bundle.licence}.")
