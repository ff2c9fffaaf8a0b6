"""Making a model of official weights, by its row in `covis.runtime.architectures`."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from covis.errors import ArgumentError, needing_train_extra
from covis.features.registry import HANDCRAFTED
from covis.matching.registry import MATCHERS
from covis.options import DEFAULT_FEATURES, UNKNOWN_LICENCE
from covis.runtime.architectures import ARCHITECTURES, load
from covis.runtime.bundle import SHIPPED, Bundle, user_models

if TYPE_CHECKING:
    from covis.nets.dense import Facet, VisionTransformer

WEIGHTS = (".safetensors", ".pt", ".pth", ".onnx")
"""How files with weights end."""


@needing_train_extra()
def import_weights(
    weights: str | os.PathLike[str],
    *,
    name: str,
    licence: str | None = None,
    features: str = "",
    layer: int | None = None,
    facet: Facet | None = None,
    lift: str | os.PathLike[str] | None = None,
    network: str | None = None,
    force: bool = False,
) -> Bundle:
    """Make a model of official weights: XFeat's, EdgePoint2's, ALIKED's, SuperPoint's, DISK's,
    LightGlue's or a ViT's.

    It lies in the user's folder of models, and is found by its name. Needs the extra "train".

    weights: a .safetensors, .pt or .pth file, of DINOv2 an .onnx file, too; or another ViT for
        dense features: a folder of Hugging Face transformers, or a name it knows, such as
        "facebook/dino-vits16".
    name: what to call the model.
    licence: the terms of the weights; None for those that the file states, or those of the
        published ones, where they are known.
    features: of LightGlue, the features that it matches: "xfeat" for any weights of it,
        "xfeat-covis", "sift", ...; without it only the size of descriptors is checked.
    layer, facet: of a ViT, from 0 or from its end below it, and "key" and others; by default the
        last one's keys.
    lift: the LiFT that doubles the ViT's resolution, a file.
    network: which one to take of a file that holds several, as XFeat's with its LightGlue does.
    force: replace a model of that name.

    Raises ArgumentError on a name that is taken or none, and on what is for another network;
    BundleError on a file that is missing, damaged or of no known network; CovisError without the
    extra.
    """
    folder = _folder_for(name, force)
    path = Path(weights)
    lift = None if lift is None else Path(lift)
    if path.is_file() or path.suffix in WEIGHTS:
        architecture = _architecture_of(path, network)
        if architecture == "lift":
            raise ArgumentError(
                f"{path} is a LiFT, which goes in with the network whose features it lifts: "
                f"'covis weights import facebook/dino-vits16 --lift {path} --name {name}', or "
                "another."
            )
        role = ARCHITECTURES[architecture].role
        if features and role != "matcher":
            raise ArgumentError(f"features are for LightGlue weights; these are {architecture}'s.")
        if role == "dense":
            return _import_vit_file(path, folder, name, licence, layer, facet, lift, architecture)
        if layer is not None or facet is not None or lift is not None:
            raise ArgumentError(
                f"layer, facet and lift are for ViTs; these weights are {architecture}'s."
            )
        return _import_file(path, folder, name, licence, features, architecture)
    if features:
        raise ArgumentError(f"features are for LightGlue weights, not for {weights}.")
    return _import_vit(os.fspath(weights), folder, name, licence, layer, facet, lift)


def _folder_for(name: str, force: bool) -> Path:
    """Where the model goes. Raises ArgumentError on a name that it cannot have."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise ArgumentError(f"'{name}' is no name for a model; use letters, digits, '.', '_', '-'.")
    if name in (DEFAULT_FEATURES, *HANDCRAFTED, *MATCHERS) or (SHIPPED / name).exists():
        raise ArgumentError(f"the name '{name}' is taken by covis itself; use another.")
    folder = user_models() / name
    if folder.exists() and not force:
        raise ArgumentError(f"there is a model '{name}' in {folder}; --force replaces it.")
    return folder


def _architecture_of(path: Path, network: str | None) -> str:
    """The network in a file, or that one of several."""
    from covis.nets.weights import architectures_in

    found = architectures_in(path)
    if network is None and len(found) > 1:
        raise ArgumentError(
            f"{path} holds several networks: {', '.join(found)}; say which one to import "
            f"(network, as in '--network {found[0]}')."
        )
    if network is not None and network not in found:
        raise ArgumentError(f"{path} holds no weights of '{network}', but of {', '.join(found)}.")
    return network or found[0]


def _import_file(
    path: Path, folder: Path, name: str, licence: str | None, features: str, architecture: str
) -> Bundle:
    row = ARCHITECTURES[architecture]
    from covis.nets.weights import licence_in

    for_matcher = {"features": features} if row.role == "matcher" else {}
    bundle: Bundle = load(row.exports)(
        load(row.loads)(path),
        folder,
        name=name,
        licence=licence or licence_in(path) or row.licence or UNKNOWN_LICENCE,
        source=path.name,
        **for_matcher,
    )
    return bundle


def _import_vit_file(
    path: Path,
    folder: Path,
    name: str,
    licence: str | None,
    layer: int | None,
    facet: Facet | None,
    lift: Path | None,
    architecture: str,
) -> Bundle:
    """Of a file with weights of a ViT that covis has itself."""
    from covis.nets.dense import VisionTransformer
    from covis.nets.weights import licence_in

    row = ARCHITECTURES[architecture]
    backbone = VisionTransformer(load(row.loads)(path), path.stem, layer, facet or "key")
    terms = licence_in(path) or row.licence or UNKNOWN_LICENCE
    return _export_vit(backbone, terms, folder, name, licence, lift)


def _import_vit(
    weights: str,
    folder: Path,
    name: str,
    licence: str | None,
    layer: int | None,
    facet: Facet | None,
    lift: Path | None,
) -> Bundle:
    """Of Hugging Face transformers."""
    from covis.nets.dense import licence_of, load_vit

    backbone = load_vit(weights, layer, facet or "key")
    terms = licence or licence_of(weights) or UNKNOWN_LICENCE
    return _export_vit(backbone, terms, folder, name, licence, lift)


def _export_vit(
    backbone: VisionTransformer,
    terms: str,
    folder: Path,
    name: str,
    licence: str | None,
    lift: Path | None,
) -> Bundle:
    """terms: of the ViT. licence: what the user says of all, None to put the terms together."""
    from covis.export.lift import export_lift
    from covis.nets.lift import load_lift
    from covis.nets.weights import licence_in

    if licence is None:
        licence = terms
        if lift is not None:
            licence += f" (ViT); {licence_in(lift) or UNKNOWN_LICENCE} (LiFT)"
    return export_lift(
        None if lift is None else load_lift(lift, backbone.kind),
        backbone,
        folder,
        name=name,
        licence=licence,
        source=f"{backbone.kind}, {'no LiFT' if lift is None else f'LiFT of {lift.name}'}",
    )
