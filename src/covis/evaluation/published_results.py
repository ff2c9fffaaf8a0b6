"""What papers print, to stand beside what is measured. Nothing here was measured with covis.

To add a paper's row, add it to PRINTED under the protocol that the benchmark's rows have.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Printed:
    """A row of a paper's table.

    benchmark: its name in the registry. protocol: that of the `Row`s it stands beside.
    figures: as printed, by the names that the measured ones have. source: paper and table.
    """

    benchmark: str
    protocol: str
    method: str
    part: str
    figures: Mapping[str, float]
    source: str


XFEAT = "XFeat (Potje et al., CVPR 2024)"
XFEAT_README = "XFeat's README (verlab/accelerated_features)"
LIGHTGLUE = "LightGlue (Lindenberger et al., ICCV 2023)"
DELG = "DELG (Cao et al., ECCV 2020)"
LIFT = "LiFT (Suri et al., ECCV 2024)"

AUC = ("AUC@5°", "AUC@10°", "AUC@20°")


def _row(
    benchmark: str,
    protocol: str,
    method: str,
    names: Sequence[str],
    values: Sequence[float],
    source: str,
    part: str = "all",
) -> Printed:
    figures = dict(zip(names, values, strict=True))
    return Printed(benchmark, protocol, method, part, figures, source)


def _revisited() -> Iterator[Printed]:
    names = "mAP medium", "mAP hard"
    for model, values in {
        "DELG R50 GLDv1, global": (69.7, 81.6, 45.1, 63.4),
        "DELG R50 GLDv1, global + local": (75.1, 82.3, 54.2, 64.9),
        "DELG R50 GLDv2-clean, global": (73.6, 85.7, 51.0, 71.5),
        "DELG R50 GLDv2-clean, global + local": (78.3, 85.7, 57.9, 71.0),
        "DELG R101 GLDv1, global": (73.2, 82.4, 51.2, 64.7),
        "DELG R101 GLDv1, global + local": (78.5, 82.9, 59.3, 65.5),
        "DELG R101 GLDv2-clean, global": (76.3, 86.6, 55.6, 72.4),
        "DELG R101 GLDv2-clean, global + local": (81.2, 87.2, 64.0, 72.8),
    }.items():
        for i, benchmark in enumerate(("roxford5k", "rparis6k")):
            yield _row(benchmark, "retrieval", model, names, values[i::2], f"{DELG}, retrieval")


def _lift() -> Iterator[Printed]:
    """Features of DINO's ViT-S/16, and the same lifted once. In keypoint transfer both were
    enlarged to a cell a pixel, on 100 pairs a category."""
    methods = "DINO ViT-S/16", "DINO ViT-S/16, + LiFT once"
    spair = "PCK@0.05 category", "PCK@0.1 category"
    for benchmark, protocol, names, sizes in (
        (
            "spair",
            "keypoint transfer",
            spair,
            {
                56: ((0.51, 2.04), (1.19, 5.05)),
                112: ((3.61, 12.67), (6.29, 17.72)),
                224: ((9.54, 24.76), (14.72, 28.68)),
                448: ((15.33, 28.60), (18.90, 31.38)),
            },
        ),
        (
            "davis",
            "label propagation",
            ("J&F",),
            {56: ((7.4,), (13.0,)), 224: ((33.0,), (44.3,))},
        ),
        ("coco20k", "object discovery", ("CorLoc",), {224: ((53.98,), (58.03,))}),
    ):
        for size, values in sizes.items():
            for method, figures in zip(methods, values, strict=True):
                part = f"{size} px"
                yield _row(benchmark, protocol, method, names, figures, LIFT, part)


PRINTED: tuple[Printed, ...] = (
    *(
        _row("hpatches", "XFeat, MAGSAC++", "XFeat", names, values, f"{XFEAT}, HPatches", part)
        for names in [("MHA@3", "MHA@5", "MHA@7")]
        for part, values in {
            "illumination": (95.0, 98.1, 98.8),
            "viewpoint": (68.6, 81.1, 86.1),
        }.items()
    ),
    *(
        _row(
            "hpatches",
            f"LightGlue, {protocol}",
            "SuperPoint + LightGlue",
            names,
            values,
            f"{LIGHTGLUE}, table 1",
        )
        for protocol, names, values in (
            ("RANSAC", ("AUC@1px", "AUC@5px"), (38.3, 79.6)),
            ("weighted DLT", ("AUC@1px", "AUC@5px"), (35.9, 78.6)),
            ("matches", ("precision@3px", "recall@3px"), (88.9, 94.3)),
        )
    ),
    *(
        _row("megadepth1500", "XFeat, LO-RANSAC", method, names, values, f"{XFEAT}, MegaDepth-1500")
        for names in [(*AUC, "Acc@10°")]
        for method, values in {
            "XFeat": (42.6, 56.4, 67.7, 74.9),
            "XFeat* (semi-dense)": (50.2, 65.4, 77.1, 85.1),
        }.items()
    ),
    *(
        _row("megadepth1500", "XFeat, LO-RANSAC", method, AUC, values, XFEAT_README)
        for method, values in {
            "XFeat + LighterGlue, 640 px, 1300 keypoints": (44.4, 61.0, 74.6),
            "XFeat + LighterGlue, 1024 px, 4096 keypoints": (56.4, 71.0, 81.9),
        }.items()
    ),
    *(
        _row(
            "megadepth1500",
            f"LightGlue, {protocol}",
            method,
            AUC,
            values,
            f"{LIGHTGLUE}, table 2",
        )
        for protocol, method, values in (
            ("RANSAC", "SuperPoint + LightGlue, full depth", (49.9, 67.0, 80.1)),
            ("RANSAC", "SuperPoint + LightGlue, adaptive", (49.4, 67.2, 80.1)),
            ("LO-RANSAC", "SuperPoint + LightGlue, full depth", (66.7, 79.3, 87.9)),
            ("LO-RANSAC", "SuperPoint + LightGlue, adaptive", (66.3, 79.0, 87.9)),
        )
    ),
    *(
        _row("scannet1500", "XFeat, LO-RANSAC", method, AUC, values, f"{XFEAT}, ScanNet-1500")
        for method, values in {
            "XFeat": (16.7, 32.6, 47.8),
            "XFeat* (semi-dense)": (18.4, 34.7, 50.3),
        }.items()
    ),
    *_revisited(),
    *_lift(),
)
