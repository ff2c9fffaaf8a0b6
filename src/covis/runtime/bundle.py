"""A bundle: a folder with `bundle.json` and the ONNX graphs it names."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from covis.errors import BundleError

SHIPPED = Path(__file__).parent.parent / "models"
KIND = "features"
"""The setting of a model for dense features that says which features these are, or, of a LiFT
without its backbone, which ones it lifts: the fields of `covis.nets.lift.FeatureKind`."""
INT8 = "-int8"
"""Ends the role of a graph that gives nearly the same as another in 8-bit integers, for processors
that are faster so."""


@dataclass(frozen=True)
class Bundle:
    """What `bundle.json` says of a model.

    name: how users ask for it. architecture: "xfeat", ...; which code drives its graphs.
    graphs: file names by role. licence, source: the terms of the weights, whence they come.
    training, metrics: how they were made and what they measured; free form.
    settings: what the code that drives the graphs has to know of them; free form.
    counts_as: digests of earlier exports of the same weights that give the same, by that of the
        graphs and settings now: what was made with those goes on with these.
    """

    name: str
    architecture: str
    graphs: Mapping[str, str]
    licence: str
    source: str
    folder: Path
    version: str = "1"
    training: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    counts_as: Mapping[str, str] = field(default_factory=dict)

    @staticmethod
    def read(folder: str | Path) -> Bundle:
        """Read a bundle's folder. Raises BundleError when it is none or is not whole."""
        folder = Path(folder)
        path = folder / "bundle.json"
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            bundle = Bundle(**values, folder=folder)
            graphs = [folder / _own_name(graph) for graph in bundle.graphs.values()]
        except FileNotFoundError:
            raise BundleError(f"{folder}: no bundle there (no bundle.json).") from None
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise BundleError(f"{path}: not a bundle's description ({error}).") from error
        for graph in graphs:
            if not graph.is_file():
                raise BundleError(f"{folder}: the bundle is not whole, {graph.name} is missing.")
        return bundle

    def describe(self) -> dict[str, Any]:
        """The content of `bundle.json`."""
        keys = ["name", "architecture", "version", "graphs", "licence", "source"]
        keys += ["training", "metrics"]
        keys += [key for key in ("settings", "counts_as") if getattr(self, key)]
        return {key: getattr(self, key) for key in keys}

    def digest(self) -> str:
        """16 hexadecimal digits that tell apart two models of one name, by graphs and settings;
        those of an earlier export where these count as it."""
        digest = hashlib.sha256()
        for role in sorted(self.graphs):
            digest.update(self.graph(role).read_bytes())
        if self.settings:
            digest.update(json.dumps(self.settings, sort_keys=True).encode())
        found = digest.hexdigest()[:16]
        return self.counts_as.get(found, found)

    def graph(self, role: str) -> Path:
        """The path of the graph for `role`. Raises BundleError when the bundle has none."""
        if role not in self.graphs:
            raise BundleError(f"{self.name}: this bundle has no graph to {role}.")
        return self.folder / self.graphs[role]


def _own_name(graph: str) -> str:
    """The name of a file in the bundle's folder. Raises ValueError for one outside of it."""
    if Path(graph).name != graph or graph in ("", ".", ".."):
        raise ValueError(f"its graph '{graph}' lies outside its folder")
    return graph


def user_models() -> Path:
    """The folder of imported bundles: $COVIS_HOME/models, else ~/.local/share/covis/models."""
    home = os.environ.get("COVIS_HOME")
    if home:
        return Path(home) / "models"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "covis" / "models"


def list_bundles(broken: list[BundleError] | None = None) -> list[Bundle]:
    """Every bundle at hand: those in the package, then the imported ones.

    broken: takes what is wrong with each one that cannot be read; those are left out.
    """
    found = []
    for root in (SHIPPED, user_models()):
        try:
            folders = sorted(root.iterdir()) if root.is_dir() else []
        except OSError as error:
            folders = []
            if broken is not None:
                broken.append(BundleError(f"{root}: cannot be read ({error.strerror})."))
        for folder in folders:
            try:
                if (folder / "bundle.json").is_file():
                    found.append(Bundle.read(folder))
            except (BundleError, OSError) as error:
                if broken is not None:
                    broken.append(_as_bundle_error(folder, error))
    return found


def _as_bundle_error(folder: Path, error: BundleError | OSError) -> BundleError:
    if isinstance(error, BundleError):
        return error
    return BundleError(f"{folder}: cannot be read ({error.strerror}).")


def installed_bundle(name: str) -> Bundle | None:
    """The bundle of that name in the package or among the imported ones, None where none is.

    Raises BundleError when it is damaged.
    """
    for root in (SHIPPED, user_models()):
        if name and (root / name / "bundle.json").is_file():
            return Bundle.read(root / name)
    return None


def find_bundle(
    name: str, architectures: Collection[str] | None = None, others: Sequence[str] = ()
) -> Bundle:
    """The bundle of that name, or the one in that folder.

    Raises BundleError, with the names there are, when none fits: those of bundles of
    `architectures`, all by default, and `others`.
    """
    bundle = installed_bundle(name)
    if bundle is not None:
        return bundle
    if (Path(name) / "bundle.json").is_file():
        return Bundle.read(name)
    known = [
        bundle.folder.name
        for bundle in list_bundles()
        if architectures is None or bundle.architecture in architectures
    ]
    names = ", ".join([*known, *others]) or "none"
    raise BundleError(
        f"no model named '{name}'; there are: {names}. 'covis weights get' lists published ones to "
        "fetch."
    )
