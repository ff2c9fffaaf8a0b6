"""Dense features: backbone, bilinear and LiFT side by side, on ../shared/data/dense.

    python benchmarks/dense.py
    python benchmarks/dense.py willow reconstruction --model runs/lift/bundle --json dense.json

Parts:

- willow: keypoint transfer on PF-WILLOW, at the images' own size, a half and a quarter. Target:
  LiFT above bilinear with as many cells.
- reconstruction: features of photos made smaller, brought back; on coco128. Target: LiFT's error
  below bilinear's.
- enlargements: LiFT beside what else doubles a ViT's resolution, on the same features of
  PF-WILLOW, at 300, 150 and 75 pixels; wants 'covis weights get dinov2-small'.
- davis: the first mask of the clip bmx-trees carried through it: J and F.
- discovery: objects found without labels, CorLoc on coco128.
- cost: the processor's time of one lift beside the backbone's, at 448 pixels, one thread: of
  dinov2-small by lift-dinov2-small and by upsampler-covis (target: under 15 % of the ViT's), of
  XFeat, and of a ViT-S/16 (random weights, under PyTorch and as a bundle; under 30 %).
- speed: masks carried a second at 480p. Target: 5 or more. Beside other work on the machine the
  processor's seconds tell more than the clock's.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import common
import cv2
import enlargements
import numpy as np

from covis.dense import DenseExtractor, propagate
from covis.dense.features import UPSAMPLER, VIT, VIT_LIFT, resized, with_backbone
from covis.errors import ArgumentError
from covis.evaluation.benchmarks import davis, feature_upsampling
from covis.evaluation.benchmarks.davis import DAVIS
from covis.evaluation.benchmarks.dense import VARIANTS
from covis.evaluation.benchmarks.object_discovery import YOLO
from covis.evaluation.benchmarks.pf_willow import PF_WILLOW
from covis.evaluation.datasets.boxes import localised, read_yolo_folder
from covis.evaluation.tables import Row, figures_table, markdown, rows_json
from covis.images.decode import load_image
from covis.options import DEFAULT_DENSE, FINE_DENSE, RuntimeOptions, cpu_threads
from covis.runtime.bundle import Bundle, find_bundle, installed_bundle
from covis.runtime.onnx import open_graphs

DATA = common.DATA / "dense"
AGAINST = (("+ LiFT once", "+ bilinear x 2"), ("+ LiFT twice", "+ bilinear x 4"))
"""With as many cells."""
COST_SIZE = 448
MIDDLE = 0.7
MOST_COST, MOST_RANDOM = 0.15, 0.3
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


def show(rows: Sequence[Row], wanted: Sequence[str] = (), better: int = 0) -> None:
    """Print rows, and for each size by how much LiFT's scores differ from bilinear's.

    wanted: the scores that are compared. better: where it is a target that they differ, 1, or -1
    where lower ones are better.
    """
    shown = [
        replace(row, figures={**row.figures, "ms with the task": row.detail["ms with the task"]})
        for row in rows
    ]
    print(f"{figures_table([(row.protocol, row) for row in shown], digits=2)}\n\n{rows[0].note}\n")
    for part in dict.fromkeys(row.part for row in rows):
        found = {row.detail["variant"]: row.figures for row in rows if row.part == part}
        for lifted, bilinear in (pair for pair in AGAINST if wanted and pair[0] in found):
            gains = {name: found[lifted][name] - found[bilinear][name] for name in wanted}
            said = ", ".join(f"{name} {each:+.2f}" for name, each in gains.items())
            line = f"{part}, {lifted} against {bilinear}: {said}"
            if better:
                line += f"; {met(all(better * each > 0 for each in gains.values()))}"
            print(line)
    print()


def run_willow(arguments: argparse.Namespace) -> list[Row]:
    sizes: Sequence[int | None] = arguments.sizes or (300, 150, 75)
    folder, model = DATA / "PF-WILLOW", arguments.model
    options = {"threads": arguments.threads, "report": say}
    rows = PF_WILLOW.evaluate(folder, model, sizes=sizes, **options)
    show(rows, [name for name in rows[0].figures if name.startswith("PCK")], better=1)
    doubled = [2 * size for size in sizes if size and 2 * size not in sizes]
    if not doubled:
        return rows
    print("The backbone alone on larger images:\n")
    imitated = PF_WILLOW.evaluate(folder, model, sizes=doubled, variants=VARIANTS[:1], **options)
    show(imitated)
    return [*rows, *imitated]


def run_reconstruction(arguments: argparse.Namespace) -> list[Row]:
    photos = sorted((DATA / "coco128" / "images").glob("*.jpg"))
    rows = feature_upsampling.evaluate(
        photos, arguments.model, threads=arguments.threads, report=say
    )
    show(rows, ["error"], better=-1)
    return rows


def run_enlargements(arguments: argparse.Namespace) -> list[Row]:
    sizes = arguments.sizes or (300, 150, 75)
    enlargements.run(DATA / "PF-WILLOW", sizes, arguments.every, arguments.threads)
    return []


def run_davis(arguments: argparse.Namespace) -> list[Row]:
    rows = DAVIS.evaluate(
        DATA / "bmx-trees", arguments.model, threads=arguments.threads, report=say
    )
    show(rows, ["J&F"])
    return rows


def run_discovery(arguments: argparse.Namespace) -> list[Row]:
    rows = YOLO.evaluate(
        DATA / "coco128",
        arguments.model,
        sizes=arguments.sizes or (240,),
        threads=arguments.threads,
        report=say,
    )
    images = [image for image in read_yolo_folder(DATA / "coco128") if len(image.boxes)]
    floor = np.mean([localised(middle(image.path), image.boxes) for image in images])
    show(rows, ["CorLoc"])
    print(f"The middle {MIDDLE:.0%} of each side, whatever the image: {100 * floor:.2f}\n")
    return rows


def middle(path: Path) -> tuple[float, float, float, float]:
    image = load_image(path)
    x, y = ((1 - MIDDLE) / 2 * side for side in (image.width, image.height))
    return x, y, image.width - x, image.height - y


def run_cost(arguments: argparse.Namespace) -> list[Row]:
    """The processor's time, on one thread."""
    arguments.threads = arguments.threads or 1
    found = [("XFeat, bundle", *cost_of(find_bundle(arguments.model), arguments), None)]
    if installed_bundle(VIT) is None:
        print(f"'covis weights get {VIT}' brings the ViT whose lifts are measured here, too.\n")
    else:
        found += [
            (f"{VIT}, {name}", *cost_of(find_bundle(name), arguments), MOST_COST)
            for name in (VIT_LIFT, UPSAMPLER)
        ]
    try:
        vit = cost_of_vit(arguments)
    except ArgumentError as error:
        print(f"Without the random ViT: {error}\n")
    else:
        found += [
            ("ViT-S/16, PyTorch", *vit[:2], MOST_RANDOM),
            ("ViT-S/16, bundle", *vit[2:], MOST_RANDOM),
        ]
    lines = [
        [
            name,
            f"{1000 * backbone:.0f}",
            f"{1000 * lift:.0f}",
            f"{100 * lift / backbone:.1f} %"
            + (f" (at most {100 * most:.0f} %: {met(lift < most * backbone)})" if most else ""),
        ]
        for name, backbone, lift, most in found
    ]
    print(markdown(["backbone", "its processor ms", "a lift's", "share"], lines))
    print(f"\n{COST_SIZE} x {COST_SIZE} pixels, medians, {arguments.threads} threads.\n")
    return []


def cost_of(bundle: Bundle, arguments: argparse.Namespace) -> tuple[float, float]:
    """The processor's seconds of the backbone and of a lift."""
    backbone, lift = common.taken(arguments.rounds, *graphs_of(bundle, arguments))
    return backbone[1], lift[1]


def graphs_of(bundle: Bundle, arguments: argparse.Namespace) -> list[Callable[[], object]]:
    """What runs the backbone, and what lifts its features."""
    runtime = RuntimeOptions(threads=arguments.threads)
    backbone = open_graphs(with_backbone(bundle), ("backbone",), runtime)["backbone"]
    lift = open_graphs(bundle, ("lift",), runtime)["lift"]
    pixels = np.random.default_rng(0).integers(0, 256, (COST_SIZE, COST_SIZE, 3), np.uint8)
    image, features = backbone(["image", "features"], pixels=pixels)
    fitting = resized(image, *(bundle.settings["cell"] * side for side in features.shape[2:]))
    return [
        lambda: backbone(["image", "features"], pixels=pixels),
        lambda: lift(["lifted"], image=fitting, features=features),
    ]


def cost_of_vit(arguments: argparse.Namespace) -> list[float]:
    """The processor's seconds of the backbone and of a lift under PyTorch, then of the bundle's."""
    try:
        import torch
        from transformers import ViTConfig, ViTModel
    except ImportError as error:
        raise ArgumentError(f"it needs {error.name}: python -m pip install {error.name}") from None

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
        taken = common.taken(
            arguments.rounds, lambda: backbone(image), lambda: lift.lift(image, features), *exported
        )
    return [processor for _, processor in taken]


def run_speed(arguments: argparse.Namespace) -> list[Row]:
    """Decoded frames in, masks out."""
    (clip,) = davis.read_davis(DATA / "bmx-trees")
    frames = [
        cv2.resize(load_image(path).pixels, VIDEO, interpolation=cv2.INTER_LINEAR)
        for path in clip.frames[:FRAMES]
    ]
    mask = cv2.resize(davis.read_labels(clip.masks[0]), VIDEO, interpolation=cv2.INTER_NEAREST)
    rows = []
    for lifts in range(2):
        describe = DenseExtractor(
            arguments.model, lifts=lifts, max_size=0, threads=arguments.threads
        )
        describe(frames[0])
        began, busy = time.perf_counter(), time.process_time()
        count = len(list(propagate(map(describe, frames), mask, threads=arguments.threads)))
        speed = count / (time.perf_counter() - began)
        busy = (time.process_time() - busy) / count
        name = "+ LiFT once" if lifts else "backbone"
        rows.append([name, f"{speed:.2f} ({met(speed >= LEAST_SPEED)})", f"{busy:.3f}"])
    header = ["features", "frames a second, 854 x 480", "processor s a frame"]
    print(markdown(header, rows) + "\n")
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
    "enlargements": run_enlargements,
    "davis": run_davis,
    "discovery": run_discovery,
    "cost": run_cost,
    "speed": run_speed,
}


def run(arguments: argparse.Namespace) -> None:
    common.check_known("part", arguments.parts, PARTS)
    rows: list[Row] = []
    asked = arguments.model
    for part in arguments.parts or PARTS:
        for model in (asked,) if asked else MODELS.get(part, (DEFAULT_DENSE,)):
            arguments.model = model
            rows += PARTS[part](arguments)
    if arguments.json:
        arguments.json.write_text(rows_json(rows), "utf-8")


def main() -> int:
    options = common.parser(__doc__, "--threads", "--json")
    options.add_argument("parts", nargs="*", help="all when left out")
    options.add_argument(
        "--model", help="name or folder of a bundle; those of the package when left out"
    )
    options.add_argument(
        "--sizes", type=int, nargs="*", help="longest sides in pixels, for willow and discovery"
    )
    options.add_argument("--every", type=int, default=1, help="takes every n-th pair, enlargements")
    options.add_argument("--rounds", type=int, default=11, help="of the cost")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
