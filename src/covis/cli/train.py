"""`covis train`: the recipes that made the models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from covis.cli import options
from covis.errors import ArgumentError

app = typer.Typer(help="Train a model on your own photos.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    pass


@app.command("xfeat")
def train_xfeat(
    photos: Annotated[Path, typer.Option(metavar="DIR", help="A folder of photographs.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where weights and the curve go.")],
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Published XFeat weights to imitate first."),
    ] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Updates.", show_default="the recipe's")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="N", help="Of the whole run.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, ...")] = "cpu",
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")
    ] = False,
) -> None:
    """Train XFeat; 'covis weights import' makes a model of the result."""
    with options.needing_train_extra():
        import torch

        from covis.training.xfeat import train
    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ArgumentError(f"the device '{device}' cannot be used: {reason}") from None
    best = train(
        photos,
        out,
        teacher=teacher,
        steps=steps,
        seed=seed,
        resume=resume,
        device=device,
        report=typer.echo,
    )
    typer.echo(f"The best weights are in {best}.")
