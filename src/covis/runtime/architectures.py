"""The networks that covis knows, a row each: the one place to enter a new one.

Code is named as "module:name" and imported when it is needed: reading and exporting weights needs
PyTorch, running a bundle does not.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["features", "matcher", "dense"]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A network.

    role: what its bundles are for.
    runs: the class that runs a bundle: a `LocalFeatures`, made of (bundle, runtime), or a
        `PairMatcher`, made of (bundle, options, runtime).
    telling: a name that only this network's published state dicts have, perhaps behind a prefix;
        empty where there are none to import.
    loads: the function that reads such a file into the network. exports: the one that writes the
        network to a folder, as a bundle.
    official: the function that gives a bundle's weights by the official names, to be written to a
        file; empty where there is none.
    licence: the terms of the published weights; empty where they are not known.
    """

    role: Role
    runs: str
    telling: str = ""
    loads: str = ""
    exports: str = ""
    official: str = ""
    licence: str = ""


ARCHITECTURES: dict[str, Architecture] = {
    "xfeat": Architecture(
        role="features",
        runs="covis.features.xfeat:XFeat",
        telling="block_fusion.0.layer.0.weight",
        loads="covis.nets.xfeat:load_official",
        exports="covis.export.xfeat:export_xfeat",
        official="covis.export.xfeat:official_state_dict",
    ),
    "edgepoint": Architecture(
        role="features",
        runs="covis.features.edgepoint:EdgePoint",
        telling="desc_head.1.layer.0.weight",
        loads="covis.nets.edgepoint:load_official",
        exports="covis.export.edgepoint:export_edgepoint",
        official="covis.export.edgepoint:official_state_dict",
        licence="MIT, if these are the published weights",
    ),
    "aliked": Architecture(
        role="features",
        runs="covis.features.aliked:Aliked",
        telling="desc_head.agg_weights",
        loads="covis.nets.aliked:load_official",
        exports="covis.export.aliked:export_aliked",
        licence="BSD-3-Clause, if these are the published weights",
    ),
    "superpoint": Architecture(
        role="features",
        runs="covis.features.superpoint:SuperPoint",
        telling="convPa.weight",
        loads="covis.nets.superpoint:load_official",
        exports="covis.export.superpoint:export_superpoint",
        licence="non-commercial research only (Magic Leap's), if these are the published weights",
    ),
    "disk": Architecture(
        role="features",
        runs="covis.features.disk:Disk",
        telling="unet.path_down.0.1.3.weight",
        loads="covis.nets.disk:load_official",
        exports="covis.export.disk:export_disk",
        licence="Apache-2.0, if these are the published weights",
    ),
    "delg": Architecture(role="features", runs="covis.features.delg:Delg"),
    "lightglue": Architecture(
        role="matcher",
        runs="covis.matching.lightglue:LightGlueMatcher",
        telling="posenc.Wr.weight",
        loads="covis.nets.lightglue:load_official",
        exports="covis.export.lightglue:export_lightglue",
        official="covis.export.lightglue:official_state_dict",
    ),
    "dinov2": Architecture(
        role="dense",
        runs="covis.dense.features:DenseExtractor",
        telling="encoder.layer.0.layer_scale1.lambda1",
        loads="covis.nets.dinov2:load_official",
        exports="covis.export.lift:export_lift",
        licence="Apache-2.0, if these are the published weights",
    ),
    "lift": Architecture(
        role="dense",
        runs="covis.dense.features:DenseExtractor",
        telling="image_convs_1.0.weight",
        official="covis.export.lift:official_state_dict",
    ),
}
"""By the name in `Bundle.architecture`."""


def names(role: Role) -> list[str]:
    """The networks of a role."""
    return [name for name, row in ARCHITECTURES.items() if row.role == role]


def load(target: str) -> Any:
    """What "module:name" stands for."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
