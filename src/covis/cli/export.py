"""`covis export`: models and maps as files for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.cli.commands import App
from covis.errors import needing_train_extra

app = App(
    help="Write models as ONNX files, and maps, for other programs ('weights import' is for use "
    "in covis).",
    no_args_is_help=True,
)


@app.callback()
def _main() -> None:
    pass


@app.command("lightglue")
def export_lightglue(
    weights: Annotated[Path, options.file("LightGlue weights: .safetensors, .pt or .pth.")],
    out: Annotated[Path, options.output("DIR", "The folder to write.")],
    features: options.MadeFor = "",
    name: Annotated[
        str | None, options.name("What to call the model.", "the folder's name")
    ] = None,
    licence: options.Licence = options.UNKNOWN_LICENCE,
    half: Annotated[
        bool, options.flag("--half", "Store float16, half the size; compute in float32.")
    ] = False,
    full_depth: Annotated[
        bool, options.flag("--full-depth", "Never stop early nor drop points, in the bundle too.")
    ] = False,
) -> None:
    """Write LightGlue weights as ONNX files.

    DIR takes a bundle, the steps of the adaptive matcher for covis (--matcher DIR);
    one_file.onnx, the whole matcher at fixed depth in standard operators, for any other runtime;
    and parity.md, both compared with PyTorch.
    """
    with needing_train_extra():
        from covis.export.lightglue import agreement, export_for_other_runtimes
        from covis.nets.lightglue import load_official

        bundle, rows = export_for_other_runtimes(
            load_official(weights),
            out,
            name=name or out.resolve().name,
            licence=licence,
            source=weights.name,
            features=features,
            half=half,
            full_depth=full_depth,
        )
    size = sum(path.stat().st_size for path in bundle.folder.iterdir()) / 2**20
    typer.echo(f"Wrote '{bundle.name}', one_file.onnx and parity.md to {out} ({size:.1f} MiB).")
    typer.echo(agreement(rows))
    typer.echo(f"Licence: {bundle.licence}. Use it with --matcher {out}.")


@app.command("map")
def export_map(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="The folder of a map, see covis map.")
    ],
    kinds: Annotated[
        list[str],
        typer.Argument(
            metavar="KIND",
            help="ply; text or binary, COLMAP's files; nerfstudio, transforms.json.",
        ),
    ],
) -> None:
    """Write the largest model of a map to MODEL/export/KIND. Its photos need not be there."""
    from covis.cli.map import export_kinds
    from covis.sfm import exports
    from covis.sfm.map import Map

    wanted = export_kinds(kinds)
    made = Map.open(model)
    for kind in wanted:
        typer.echo(str(exports.export_map(made, kind)))
