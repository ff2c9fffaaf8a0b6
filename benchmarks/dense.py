"""Dense features: backbone, bilinear and LiFT side by side, on ../shared/data/dense.

    python benchmarks/dense.py
    python benchmarks/dense.py willow reconstruction --model runs/lift/bundle --json dense.json

Parts:

- willow: keypoint transfer on PF-WILLOW, at the images' own size, a half and a quarter. Target:
  LiFT above bilinear with as many cells.
- reconstruction: features of photos made smaller, brought back; on coco128. Target: LiFT's error
  below bilinear's.
- davis: the first mask of the clip bmx-trees carried through it: J and F.
- discovery: objects found without labels, CorLoc on coco128.
- cost: the time of one lift beside the backbone's, at 448 pixels: of a ViT-S/16 (random weights,
  under PyTorch and as a bundle) and of XFeat (the bundle). Target: under 30 % of the ViT's.
- speed: masks carried a second at 480p. Target: 5 or more. Beside other work on the machine the
  processor's seconds tell more than the clock's.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from covis.dense import DenseExtractor, propagate
from covis.dense.features import DEFAULT_DENSE, FINE_DENSE
from covis.errors import ArgumentError, CovisError
from covis.evaluation.benchmarks import davis, feature_upsampling, object_discovery, pf_willow
from covis.evaluation.benchmarks.dense import VARIANTS, Row, Table
from covis.evaluation.datasets.boxes import localised, read_yolo_folder
from covis.images.decode import load_image
from covis.runtime.bundle import Bundle, find_bundle
from covis.runtime.onnx import OnnxGraph, cpu_threads

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "dense"
AGAINST = (("+ LiFT once", "+ bilinear x 2"), ("+ LiFT twice", "+ bilinear x 4"))
"""With as many cells."""
COST_SIZE = 448
MIDDLE = 0.7
MOST_COST = 0.3
GRAPHS = ("backbone", "lift")
LEAST_SPEED = 5.0
VIDEO = (854, 480)
FRAMES = 20


def say(done: int, total: int) -> None:
    """Every twentieth of the work."""
    if done * 20 // total > (done - 1) * 20 // total:
        print(f"{100 * done // total} %", file=sys.stderr, end=" ", flush=True)
    if done == total:
        print(file=sys.stderr)


def met(good: bool) -> str:
    return "target met" if good else "target MISSED"


def against_bilinear(table: Table, wanted: Sequence[str], better: int = 0) -> str:
    """For each size, by how much LiFT's scores differ. better: where it is a target that they do,
    1, or -1 where lower ones are better."""
    lines = []
    for size in dict.fromkeys(row.size for row in table.rows):
        rows = {row.variant: row for row in table.rows if row.size == size}
        for lifted, bilinear in (pair for pair in AGAINST if pair[0] in rows):
            gains = {name: gain(rows[lifted], rows[bilinear], name) for name in wanted}
            said = ", ".join(f"{name} {each:+.2f}" for name, each in gains.items())
            line = f"{size or 'own'} px, {lifted} against {bilinear}: {said}"
            if better:
                line += f"; {met(all(better * each > 0 for each in gains.values()))}"
            lines.append(line)
    return "\n".join(lines)


def gain(row: Row, other: Row, name: str) -> float:
    return 100 * (row.scores[name] - other.scores[name])


def run_willow(arguments: argparse.Namespace) -> list[Table]:
    sizes: Sequence[int | None] = arguments.sizes or (300, 150, 75)
    folder, model = DATA / "PF-WILLOW", arguments.model
    options = {"threads": arguments.threads, "report": say}
    table = pf_willow.evaluate(folder, model, sizes=sizes, **options)
    print(
        f"{table.markdown()}\n\n{against_bilinear(table, list(table.rows[0].scores), better=1)}\n"
    )
    doubled = [2 * size for size in sizes if size and 2 * size not in sizes]
    if not doubled:
        return [table]
    imitated = pf_willow.evaluate(folder, model, sizes=doubled, variants=VARIANTS[:1], **options)
    print(f"The backbone alone on larger images:\n\n{imitated.markdown()}\n")
    return [table, imitated]


def run_reconstruction(arguments: argparse.Namespace) -> list[Table]:
    photos = sorted((DATA / "coco128" / "images").glob("*.jpg"))
    table = feature_upsampling.evaluate(
        photos, arguments.model, threads=arguments.threads, report=say
    )
    print(f"{table.markdown()}\n\n{against_bilinear(table, ['error'], better=-1)}\n")
    return [table]


def run_davis(arguments: argparse.Namespace) -> list[Table]:
    table = davis.evaluate(
        DATA / "bmx-trees", arguments.model, threads=arguments.threads, report=say
    )
    print(f"{table.markdown()}\n\n{against_bilinear(table, ['J&F'])}\n")
    return [table]


def run_discovery(arguments: argparse.Namespace) -> list[Table]:
    table = object_discovery.evaluate(
        DATA / "coco128",
        arguments.model,
        read=read_yolo_folder,
        sizes=arguments.sizes or (240,),
        threads=arguments.threads,
        report=say,
    )
    images = [image for image in read_yolo_folder(DATA / "coco128") if len(image.boxes)]
    floor = np.mean([localised(middle(image.path), image.boxes) for image in images])
    print(f"{table.markdown()}\n\n{against_bilinear(table, ['CorLoc'])}")
    print(f"The middle {MIDDLE:.0%} of each side, whatever the image: {100 * floor:.2f}\n")
    return [table]


def middle(path: Path) -> tuple[float, float, float, float]:
    image = load_image(path)
    x, y = ((1 - MIDDLE) / 2 * side for side in (image.width, image.height))
    return x, y, image.width - x, image.height - y


def medians(rounds: int, *tasks: Callable[[], object]) -> list[float]:
    """Seconds of each, in turns, so that whatever else the machine does hits all alike."""
    times: list[list[float]] = [[] for _ in tasks]
    for number in range(rounds + 1):
        for task, found in zip(tasks, times, strict=True):
            began = time.perf_counter()
            task()
            if number:
                found.append(time.perf_counter() - began)
    return [statistics.median(found) for found in times]


def run_cost(arguments: argparse.Namespace) -> list[Table]:
    lines = ["| backbone | its s | a lift's s | share |", "| --- | --- | --- | --- |"]
    xfeat = cost_of_xfeat(arguments)
    vit = cost_of_vit(arguments)
    named = zip(("ViT-S/16, PyTorch", "ViT-S/16, bundle"), (vit[:2], vit[2:]), strict=True)
    for name, (backbone, lift) in (*named, ("XFeat, bundle", xfeat)):
        lines.append(f"| {name} | {backbone:.4f} | {lift:.4f} | {100 * lift / backbone:.1f} % |")
    share = max(vit[1] / vit[0], vit[3] / vit[2])
    print("\n".join(lines))
    print(f"\n{COST_SIZE} x {COST_SIZE} pixels, medians. Of the ViT, at most 30 %: "
          f"{met(share < MOST_COST)}\n")  # fmt: skip
    return []


def cost_of_xfeat(arguments: argparse.Namespace) -> list[float]:
    """Seconds of the backbone and of a lift."""
    return medians(arguments.rounds, *graphs_of(find_bundle(arguments.model), arguments))


def graphs_of(bundle: Bundle, arguments: argparse.Namespace) -> list[Callable[[], object]]:
    """What runs the backbone, and what lifts its features."""
    backbone, lift = (OnnxGraph(bundle.graph(role), arguments.threads) for role in GRAPHS)
    pixels = np.random.default_rng(0).integers(0, 256, (COST_SIZE, COST_SIZE, 3), np.uint8)
    image, features = backbone(["image", "features"], pixels=pixels)
    return [
        lambda: backbone(["image", "features"], pixels=pixels),
        lambda: lift(["lifted"], image=image, features=features),
    ]


def cost_of_vit(arguments: argparse.Namespace) -> list[float]:
    """Seconds of the backbone and of a lift under PyTorch, then of the bundle's."""
    try:
        import torch
        from transformers import ViTConfig, ViTModel
    except ImportError as error:
        raise ArgumentError(
            f"cost needs {error.name}: python -m pip install {error.name}"
        ) from None

    from covis.export.lift import export_lift
    from covis.nets.dense import VisionTransformer
    from covis.nets.lift import LiFT

    torch.set_num_threads(arguments.threads or cpu_threads())
    torch.manual_seed(0)
    config = ViTConfig(hidden_size=384, num_attention_heads=6, intermediate_size=1536)
    backbone = VisionTransformer(ViTModel(config), "ViT-S/16")
    lift = LiFT(backbone.kind).eval()
    with TemporaryDirectory() as folder:
        bundle = export_lift(
            lift, backbone, Path(folder) / "vit", name="vit", licence="-", source="-"
        )
        exported = graphs_of(bundle, arguments)
    with torch.inference_mode():
        image = torch.rand(1, 3, COST_SIZE, COST_SIZE)
        features = backbone(image)
        return medians(
            arguments.rounds, lambda: backbone(image), lambda: lift.lift(image, features), *exported
        )


def run_speed(arguments: argparse.Namespace) -> list[Table]:
    """Decoded frames in, masks out."""
    (clip,) = davis.read_davis(DATA / "bmx-trees")
    frames = [
        cv2.resize(load_image(path).pixels, VIDEO, interpolation=cv2.INTER_LINEAR)
        for path in clip.frames[:FRAMES]
    ]
    mask = cv2.resize(davis.read_labels(clip.masks[0]), VIDEO, interpolation=cv2.INTER_NEAREST)
    print("| features | frames a second, 854 x 480 | processor s a frame |")
    print("| --- | --- | --- |")
    for lifts in range(2):
        describe = DenseExtractor(
            arguments.model, lifts=lifts, max_size=None, threads=arguments.threads
        )
        describe(frames[0])
        began, busy = time.perf_counter(), time.process_time()
        count = len(list(propagate(map(describe, frames), mask, threads=arguments.threads)))
        speed = count / (time.perf_counter() - began)
        busy = (time.process_time() - busy) / count
        name = "+ LiFT once" if lifts else "backbone"
        print(f"| {name} | {speed:.2f} ({met(speed >= LEAST_SPEED)}) | {busy:.3f} |")
    print()
    return []


MODELS = {
    "reconstruction": (DEFAULT_DENSE, FINE_DENSE),
    "davis": (DEFAULT_DENSE, FINE_DENSE),
    "speed": (FINE_DENSE,),
}
"""Of a part, where `--model` names none; of the others, (DEFAULT_DENSE,)."""
PARTS = {
    "willow": run_willow,
    "reconstruction": run_reconstruction,
    "davis": run_davis,
    "discovery": run_discovery,
    "cost": run_cost,
    "speed": run_speed,
}


def run(arguments: argparse.Namespace) -> None:
    for part in arguments.parts:
        if part not in PARTS:
            raise ArgumentError(f"no part '{part}'; there are: {', '.join(PARTS)}.")
    tables, asked = [], arguments.model
    for part in arguments.parts or PARTS:
        for model in (asked,) if asked else MODELS.get(part, (DEFAULT_DENSE,)):
            arguments.model = model
            tables += PARTS[part](arguments)
    if arguments.json:
        text = ",\n".join(table.json() for table in tables)
        arguments.json.write_text(f"[{text}]\n", "utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", help="all when left out")
    parser.add_argument(
        "--model", help="name or folder of a bundle; those of the package when left out"
    )
    parser.add_argument(
        "--sizes", type=int, nargs="*", help="longest sides in pixels, for willow and discovery"
    )
    parser.add_argument("--rounds", type=int, default=11, help="of the cost")
    parser.add_argument("--threads", type=int, help="all processors when left out")
    parser.add_argument("--json", type=Path, help="write the tables there")
    try:
        run(parser.parse_args())
    except CovisError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
