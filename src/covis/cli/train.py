"""`covis train`: the recipes that made the models."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from covis.cli import options
from covis.cli.commands import App
from covis.errors import ArgumentError, needing_train_extra

app = App(help="Train a model on your own photos.", no_args_is_help=True)


@app.callback()
def _main() -> None:
    pass


@contextmanager
def _loading() -> Iterator[None]:
    """Around the imports of PyTorch, which take seconds: says so first, on one process."""
    if os.environ.get("RANK", "0") == "0":
        typer.echo("loading PyTorch")
    with needing_train_extra():
        yield


def _photos(held_out: int) -> Any:
    return typer.Option(
        "--photos",
        "--images",
        metavar="DIR",
        help="A folder of photographs, 3 or more, hundreds to be of use. A third of them, but no "
        f"more than {held_out}, is kept for validation.",
    )


Photos = Annotated[Path, _photos(48)]
Output = Annotated[Path, options.output("DIR", "Where weights and the curve go.")]
Start = Annotated[
    str | None,
    typer.Option(
        metavar="WEIGHTS",
        help="What to begin with: a file of weights, a model's name, or the network's own name "
        "for the one in the package.",
        show_default="random weights",
    ),
]
Steps = Annotated[
    int | None,
    options.number(
        "Updates in all; with --resume more than before trains on to so many.", "the recipe's"
    ),
]
Seed = Annotated[int, options.number("Of the whole run.", least=0)]
Device = Annotated[
    str,
    typer.Option(
        metavar="NAME",
        help="cpu, cuda, cuda:1, ...; under torchrun cuda is a GPU for each process.",
    ),
]
Resume = Annotated[
    bool, options.flag("--resume", "Go on from the checkpoint in --output: Ctrl-C leaves one.")
]
Size = Annotated[
    int | None,
    typer.Option(min=1, metavar="PX", help="Of what is learnt from.", show_default="the recipe's"),
]
Places = Annotated[
    Path | None,
    options.folder("Scenes with depth, in MegaDepth's layout, as 'covis train scenes' makes them."),
]
Batch = Annotated[int | None, options.number("Pictures an update.", "the recipe's")]


@app.command("xfeat")
def train_xfeat(
    photos: Photos,
    output: Output,
    teacher: Annotated[
        Path | None, options.file("Published XFeat weights to imitate first.")
    ] = None,
    start: Start = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
    resume: Resume = False,
) -> None:
    """Train XFeat; 'covis weights import' makes a model of the result.

    'torchrun -m covis train xfeat' uses several GPUs.
    """
    with _loading():
        from covis.training.recipes.xfeat import train
    best = train(
        photos,
        output,
        teacher=teacher,
        start=start,
        steps=steps,
        seed=seed,
        resume=resume,
        device=device,
        report=typer.echo,
    )
    typer.echo(f"The best weights are in {best}.")


@app.command("edgepoint")
def train_edgepoint(
    photos: Photos,
    output: Output,
    teacher: Annotated[
        Path,
        typer.Option(
            metavar="FILE", help="Published EdgePoint2 weights, with descriptors as long as --size."
        ),
    ],
    size: Annotated[
        Literal["T32", "S32", "S64", "M64", "L64", "E64"],
        typer.Option(help="Of the network, as published."),
    ] = "E64",
    start: Start = None,
    scenes: Places = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: options.Threads = None,
    resume: Resume = False,
) -> None:
    """Train EdgePoint2; 'covis weights import' makes a model of the result.

    'torchrun -m covis train edgepoint' uses several GPUs.
    """
    with _loading():
        import torch

        from covis.training.recipes.edgepoint import train
    if threads is not None:
        torch.set_num_threads(threads)
    best = train(
        photos,
        output,
        teacher,
        configuration=size,
        steps=steps,
        seed=seed,
        start=start,
        scenes=scenes,
        resume=resume,
        device=device,
        report=typer.echo,
    )
    typer.echo(f"The best weights are in {best}.")


@app.command("lightglue")
def train_lightglue(
    photos: Photos,
    output: Output,
    features: Annotated[str, options.name("What it is to match: a model, or sift.")] = "xfeat",
    teacher: Annotated[
        Path | None, options.file("Published LightGlue weights of the same sizes to imitate first.")
    ] = None,
    teacher_features: Annotated[
        Path | None,
        options.file(
            "Published ALIKED weights, where --teacher is a LightGlue for these, of more layers "
            "and greater width: it looks at the keypoints of --features."
        ),
    ] = None,
    scenes: Places = None,
    layers: Annotated[int, typer.Option(min=1, metavar="N", help="The paper's network has 9.")] = 6,
    dim: Annotated[int, typer.Option(min=2, metavar="N", help="Width; the paper's is 256.")] = 96,
    heads: Annotated[int, typer.Option(min=1, metavar="N", help="The paper's network has 4.")] = 1,
    start: Start = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
    threads: options.Threads = None,
    save_memory: Annotated[
        bool, options.flag("--save-memory", "Gradient checkpointing: a third slower.")
    ] = False,
    resume: Resume = False,
) -> None:
    """Train LightGlue; 'covis export lightglue' makes a model of the result.

    'torchrun -m covis train lightglue' uses several GPUs.
    """
    if dim % (2 * heads):
        raise ArgumentError(f"--dim {dim} is no multiple of twice --heads {heads}.")
    with _loading():
        import torch

        from covis.training.checkpoint import planned_steps
        from covis.training.recipes.lightglue import Recipe, train
    if threads is not None:
        torch.set_num_threads(threads)
    recipe = Recipe(seed=seed).with_given(
        steps=planned_steps(output, steps, resume),
        dim=dim,
        layers=layers,
        heads=heads,
        recompute=save_memory,
    )
    best = train(
        photos,
        output,
        features=features,
        teacher=teacher,
        teacher_features=teacher_features,
        scenes=scenes,
        start=start,
        recipe=recipe,
        resume=resume,
        device=device,
        report=typer.echo,
    )
    typer.echo(f"The best weights are in {best}.")


@app.command("delg")
def train_delg(
    photos: Annotated[Path, _photos(128)],
    output: Output,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="CSV",
            help="What the pictures show: a CSV file (image and label, or GLDv2's), or 'folders' "
            "where each folder is a class. Without it each picture is its own class.",
        ),
    ] = None,
    backbone: Annotated[str, options.name("xfeat, resnet50 or resnet101.")] = "xfeat",
    start: Annotated[
        str | None,
        typer.Option(
            metavar="WEIGHTS",
            help="What the backbone begins with: an xfeat model; a folder of Hugging Face "
            "transformers or a name it knows; or 'random'.",
            show_default="the xfeat of the package, or ImageNet's",
        ),
    ] = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
    resume: Resume = False,
) -> None:
    """Train descriptors of whole images; 'torchrun -m covis train delg' uses several GPUs."""
    with _loading():
        from covis.training.recipes.delg import train
    bundle = train(
        photos,
        output,
        labels=labels,
        backbone=backbone,
        start=start,
        steps=steps,
        seed=seed,
        device=device,
        resume=resume,
        report=typer.echo,
    )
    typer.echo(f"The best weights are in {bundle}, a model: use it with --features {bundle}.")


@app.command("lift")
def train_lift(
    photos: Photos,
    output: Output,
    backbone: Annotated[
        str,
        options.name(
            "Whose features to lift: xfeat or a model of it; or a ViT: dinov2-small, a file with "
            "weights of a DINOv2, a folder of Hugging Face transformers or a name it knows, such "
            "as facebook/dino-vits16."
        ),
    ] = "xfeat",
    light: Annotated[
        bool,
        options.flag("--light", "Of a ViT: small views and few, for one processor and an hour."),
    ] = False,
    layer: options.Layer = None,
    facet: options.Facet = None,
    loss: Annotated[
        Literal["cosine", "l1", "l2"], typer.Option(help="How descriptors are compared.")
    ] = "cosine",
    blend: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            metavar="SHARE",
            help="The share of the features enlarged bilinearly in what is learnt: 0 for finer "
            "features, more for parts of alike things.",
            show_default="the recipe's",
        ),
    ] = None,
    size: Size = None,
    batch: Batch = None,
    start: Start = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
    resume: Resume = False,
) -> None:
    """Train LiFT, which doubles the resolution of a backbone's features, on photos alone.

    'torchrun -m covis train lift' uses several GPUs.
    """
    with _loading():
        from covis.training.checkpoint import planned_steps
        from covis.training.data.photos import photos_below
        from covis.training.recipes.lift import load_backbone, recipe_for, train
    photos_below(photos)
    net = load_backbone(backbone, layer, facet)
    recipe = recipe_for(net, light).with_given(
        steps=planned_steps(output, steps, resume),
        seed=seed,
        loss=loss,
        blend=blend,
        size=size,
        batch=batch,
    )
    best = train(
        photos,
        output,
        backbone=net,
        start=start,
        recipe=recipe,
        resume=resume,
        device=device,
        report=typer.echo,
    )
    typer.echo(f"The best weights are in {best}.")
    if (output / "bundle").is_dir():
        typer.echo(f"With the backbone they are a model: use it with --model {output / 'bundle'}.")
        return
    given = (("lift", best), ("layer", layer), ("facet", facet))
    words = "".join(f" --{name} {value}" for name, value in given if value is not None)
    typer.echo(f"'covis weights import {backbone}{words} --name NAME' makes a model of both.")


@app.command("upsampler")
def train_upsampler(
    photos: Photos,
    output: Output,
    backbone: Annotated[
        str, options.name("Whose features to learn on: as for 'train lift'.")
    ] = "dinov2-small",
    layer: options.Layer = None,
    facet: options.Facet = None,
    batch: Batch = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
    resume: Resume = False,
) -> None:
    """Train what doubles the resolution of any backbone's features, on photos alone.

    'torchrun -m covis train upsampler' uses several GPUs.
    """
    with _loading():
        from covis.export.lift import export_upsampler
        from covis.nets.upsampler import load_upsampler
        from covis.training.checkpoint import planned_steps
        from covis.training.recipes.lift import load_backbone
        from covis.training.recipes.upsampler import Recipe, train
    best = train(
        photos,
        output,
        backbone=load_backbone(backbone, layer, facet),
        recipe=Recipe(seed=seed).with_given(
            steps=planned_steps(output, steps, resume), batch=batch
        ),
        resume=resume,
        device=device,
        report=typer.echo,
    )
    bundle = export_upsampler(
        load_upsampler(best),
        output / "bundle",
        name=output.resolve().name,
        licence="yours",
        source="covis train upsampler",
    ).folder
    typer.echo(f"The best weights are in {bundle}, a model: use it with --model BACKBONE+{bundle}.")


@app.command("detector")
def train_detector(
    photos: Annotated[Path, _photos(16)],
    labels: Annotated[
        Path,
        options.folder(
            "For each picture a .txt file, a line an object: class, and the box's centre x, "
            "y, width and height as shares of the picture's (YOLO's format)."
        ),
    ],
    output: Output,
    backbone: Annotated[
        str, options.name("Whose features it sees: as for 'train lift'.")
    ] = "xfeat",
    layer: options.Layer = None,
    facet: options.Facet = None,
    lift: Annotated[
        Path | None,
        options.file("Weights of 'covis train lift' for these features.", "features as they are"),
    ] = None,
    size: Size = None,
    batch: Batch = None,
    held_out: Annotated[int | None, options.number("Pictures for AP.", "the recipe's")] = None,
    steps: Steps = None,
    seed: Seed = 0,
    device: Device = "cpu",
    resume: Resume = False,
) -> None:
    """Train a small detector on a frozen backbone's features, plain or lifted.

    'torchrun -m covis train detector' uses several GPUs.
    """
    with _loading():
        from covis.nets.lift import load_lift
        from covis.training.checkpoint import planned_steps
        from covis.training.recipes.detector import Recipe, train
        from covis.training.recipes.lift import load_backbone
    net = load_backbone(backbone, layer, facet)
    best = train(
        photos,
        labels,
        output,
        backbone=net,
        lift=None if lift is None else load_lift(lift, net.kind),
        recipe=Recipe(seed=seed).with_given(
            steps=planned_steps(output, steps, resume), size=size, batch=batch, held_out=held_out
        ),
        resume=resume,
        device=device,
        report=typer.echo,
    )
    typer.echo(f"The best weights are in {best}.")


@app.command("scenes")
def render_scenes(
    maps: Annotated[
        Path,
        options.folder(
            "Where the archives (.pk3) of games in Quake 3's format lie, such as Debian's "
            "openarena-* and nexuiz-* packages, unpacked."
        ),
    ],
    output: Output,
    photos: Annotated[
        Path | None, options.folder("Photographs for the walls.", "the games' own pictures")
    ] = None,
    pairs: Annotated[int, options.number("Two views of a place each.")] = 1000,
    seed: Seed = 0,
) -> None:
    """Render pairs of views with exact depth and pose, to learn from; a run that was stopped goes
    on when it is started again."""
    with needing_train_extra():
        from covis.training.recipes.scenes import render_scenes as render
    made = render(maps, photos, output, pairs=pairs, seed=seed, report=typer.echo)
    typer.echo(f"{made} pairs are in {output}: learn from them with --scenes {output}.")
