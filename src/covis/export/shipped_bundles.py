"""Make the bundles of the package from training runs and their measurements.

    python -m covis.export.shipped_bundles xfeat-covis run/best.safetensors --notes notes.json
    python benchmarks/accuracy.py --json table.json
    python -m covis.export.shipped_bundles xfeat-covis run/best.safetensors --notes notes.json \\
        --accuracy table.json

The same for edgepoint-covis and edgepoint-covis-fast, with `accuracy.py --methods NAME`, and for
lightglue-xfeat-covis and lightglue-edgepoint-covis, with `accuracy.py --matcher lightglue`.
notes.json: how the weights were made; it goes into `bundle.json` as it is. table.json: what the
bundle, as it is stored, measures; its rows over all sets go into `bundle.json` too. With `--search
best.safetensors`, from `covis train delg`, xfeat-covis gives global descriptors as well.
lift-xfeat-covis, lift-xfeat-covis-fine and upsampler-covis take weights and notes only.

    python -m covis.export.shipped_bundles lift-dinov2-small best.safetensors --notes notes.json \\
        --share 0.25 --upsampler up/best.safetensors --width 64 --photos FOLDER ...

By the photos the channels are chosen that its transposed convolution keeps.

    python -m covis.export.shipped_bundles xfeat-covis --photos FOLDER ...

writes it anew from its own weights, where the export has changed and they have not. By 32 of the
photos the graph in 8-bit integers is made.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from covis.dense.features import UPSAMPLER, pad, resized
from covis.export.edgepoint import export_edgepoint
from covis.export.lift import (
    export_lift,
    export_lift_alone,
    export_upsampler,
    narrowed,
    with_share,
)
from covis.export.lightglue import default_settings, export_lightglue
from covis.export.onnx_graph import read_weights
from covis.export.xfeat import export_xfeat, search_of, xfeat_of
from covis.features.xfeat import fit
from covis.images.decode import load_image, to_grey
from covis.nets import edgepoint, lightglue, xfeat
from covis.nets.delg import light_delg
from covis.nets.dense import XFeatMap
from covis.nets.lift import LiFT, load_lift
from covis.nets.upsampler import load_upsampler
from covis.options import RuntimeOptions
from covis.runtime.bundle import INT8, SHIPPED, Bundle, find_bundle
from covis.runtime.onnx import open_graphs
from covis.training.data.photos import photos_below
from covis.types import FloatArray

XFEAT = "xfeat-covis"
EDGEPOINT = "edgepoint-covis"
EDGEPOINTS = EDGEPOINT, "edgepoint-covis-fast"
LIGHTGLUES = {
    "lightglue-xfeat-covis": (XFEAT, "xfeat", "the published LighterGlue"),
    "lightglue-edgepoint-covis": (
        EDGEPOINT,
        EDGEPOINT,
        "the published ALIKED-N16 (BSD-3-Clause) and its LightGlue",
    ),
}
"""Whose features each one matches, what `accuracy.py` calls these, and who taught it."""
XFEAT_SOURCE = "trained by covis; teacher: the published XFeat (Apache-2.0)"
LIFTS = "lift-xfeat-covis", "lift-xfeat-covis-fine"
LIFTS_ALONE = ("lift-dinov2-small",)
"""Of backbones that are not in the package."""
CONFIDENCES: dict[str, Any] = {"depth_confidence": 0.8, "width_confidence": 0.9}
"""When it stops and what it prunes: on easy pairs rendered from photos twice as fast as at full
depth, with 98 % of the right matches; the published 0.95 and 0.99 are 1.7 times as fast."""

PICTURES, PICTURE_SIZE = 32, 640
"""By how many photos the ranges of 8-bit integers are found, and their longest side."""
VIEWS, VIEW_SIZE = 64, 224
"""How many photos say which channels of a LiFT matter, and their longest side."""
INT8_NOTES = {
    "command": "python -m covis.export.shipped_bundles xfeat-covis --photos ...",
    "ranges": f"of {PICTURES} photographs of shared/photos, without the drone's, at "
    f"{PICTURE_SIZE} pixels; no training",
}


def measured(table: Path, method: str) -> dict[str, Any]:
    """What a method reaches over all sets of a protocol, from an accuracy table."""
    rows = json.loads(table.read_text(encoding="utf-8"))
    return {
        row["protocol"]: row["figures"]
        for row in rows
        if row["method"] == method and row["part"].startswith("all ")
    }


def grey_pictures(folders: Sequence[Path]) -> list[FloatArray]:
    """`PICTURES` of the photos below folders, grey (h, w), as XFeat's network takes them."""
    paths = chosen(folders, PICTURES)
    return [fit(to_grey(load_image(path, max_size=PICTURE_SIZE))) for path in paths]


def chosen(folders: Sequence[Path], count: int) -> list[Path]:
    """So many of the photos below folders, evenly from all."""
    paths = [path for folder in folders for path in photos_below(folder)]
    return paths[:: max(len(paths) // count, 1)][:count]


def seen(lift: LiFT, folders: Sequence[Path]) -> Iterator[tuple[Tensor, Tensor]]:
    """Photos below folders and their features, as `LiFT.forward` takes them."""
    bundle = find_bundle(lift.kind.backbone)
    backbone = open_graphs(bundle, ("backbone",), RuntimeOptions())["backbone"]
    for path in chosen(folders, VIEWS):
        pixels = pad(load_image(path, max_size=VIEW_SIZE).pixels, bundle.settings["multiple"])
        image, features = backbone(["image", "features"], pixels=pixels)
        fitting = resized(image, *(lift.cell * side for side in features.shape[2:]))
        yield torch.from_numpy(fitting), torch.from_numpy(features)


def xfeat_anew(bundle: Bundle, folder: Path, pictures: Sequence[FloatArray]) -> Bundle:
    """Export XFeat's bundle again, in half precision, to `folder`: the same weights to the bit,
    and a digest that stays, for the features do. pictures: see `export_xfeat`."""
    net = xfeat_of(bundle)
    about: dict[str, Any] = {
        key: getattr(bundle, key) for key in ("name", "licence", "source", "metrics")
    }
    about["training"] = {**bundle.training, "int8": INT8_NOTES}
    before = {
        role: read_weights(bundle.graph(role)) for role in bundle.graphs if not role.endswith(INT8)
    }
    then = bundle.digest()
    new = export_xfeat(net, folder, search=search_of(bundle), half=True, pictures=pictures, **about)
    for role, weights in before.items():
        now = read_weights(new.graph(role))
        changed = [key for key in weights if weights[key].tobytes() != now[key].tobytes()]
        if changed or weights.keys() != now.keys():
            raise RuntimeError(f"{folder}: {role} has other weights ({changed}).")
    if new.digest() != then:
        new = replace(new, counts_as={new.digest(): then})
        text = json.dumps(new.describe(), indent=2) + "\n"
        (folder / "bundle.json").write_text(text, encoding="utf-8")
    return new


def main() -> None:
    parser = argparse.ArgumentParser(description="Make a bundle that ships.")
    names = [XFEAT, *EDGEPOINTS, *LIGHTGLUES, *LIFTS, *LIFTS_ALONE, UPSAMPLER]
    parser.add_argument("name", choices=names)
    parser.add_argument("weights", type=Path, nargs="?")
    parser.add_argument("--notes", type=Path)
    parser.add_argument("--accuracy", type=Path)
    parser.add_argument("--search", type=Path)
    parser.add_argument("--photos", type=Path, nargs="+", default=[])
    parser.add_argument("--share", type=float, default=1.0, help="of a LiFT alone, see with_share")
    parser.add_argument("--upsampler", type=Path, help="under a LiFT alone, see OnUpsampled")
    parser.add_argument("--width", type=int, help="of a LiFT alone, see narrowed")
    options = parser.parse_args()
    if (options.name == XFEAT or options.width) and not options.photos:
        parser.error("--photos are needed")
    pictures = grey_pictures(options.photos) if options.name == XFEAT else []
    if options.name == XFEAT and options.weights is None:
        xfeat_anew(find_bundle(XFEAT), SHIPPED / XFEAT, pictures)
        return
    if options.weights is None or options.notes is None:
        parser.error("the weights and --notes are needed")
    features, method, teacher = LIGHTGLUES.get(options.name, ("", "xfeat", ""))
    method = options.name if options.name in EDGEPOINTS else method
    about: dict[str, Any] = {
        "name": options.name,
        "licence": "Apache-2.0",
        "training": json.loads(options.notes.read_text(encoding="utf-8")),
        "metrics": measured(options.accuracy, method) if options.accuracy else {},
        "half": True,
    }
    folder = SHIPPED / options.name
    if options.name in LIGHTGLUES:
        matcher = lightglue.load_official(options.weights)
        bundle = export_lightglue(
            matcher,
            folder,
            source=f"trained by covis; teacher: {teacher} (Apache-2.0)",
            features=features,
            settings=replace(default_settings(matcher), **CONFIDENCES),
            **about,
        )
    elif options.name in EDGEPOINTS:
        bundle = export_edgepoint(
            edgepoint.load_official(options.weights),
            folder,
            source="trained by covis; teacher: the published EdgePoint2 E64 (MIT)",
            **about,
        )
    elif options.name in LIFTS:
        backbone = XFeatMap(xfeat_of(find_bundle(XFEAT)), XFEAT)
        lift = load_lift(options.weights, backbone.kind)
        bundle = export_lift(lift, backbone, folder, source="trained by covis", **about)
    elif options.name == UPSAMPLER:
        upsampler = load_upsampler(options.weights)
        bundle = export_upsampler(upsampler, folder, source="trained by covis", **about)
    elif options.name in LIFTS_ALONE:
        lift = with_share(load_lift(options.weights), options.share)
        if options.width:
            lift = narrowed(lift, options.width, seen(lift, options.photos))
        under = load_upsampler(options.upsampler) if options.upsampler else None
        about["upsampler"] = under
        bundle = export_lift_alone(lift, folder, source="trained by covis", **about)
    else:
        net, search = xfeat.load_official(options.weights), None
        if options.search:
            search = light_delg(net)
            search.load_learnt(options.search)
        bundle = export_xfeat(
            net, folder, source=XFEAT_SOURCE, search=search, pictures=pictures, **about
        )
    print(f"{bundle.folder}: {sum(p.stat().st_size for p in bundle.folder.iterdir()) >> 10} KiB")


if __name__ == "__main__":
    main()
