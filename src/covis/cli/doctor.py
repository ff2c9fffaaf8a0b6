"""`covis doctor`: what is here, what is missing and how to get it."""

from __future__ import annotations

import json
import platform
from typing import Any

import typer

from covis import __version__
from covis.cli import options
from covis.cli.commands import NOT_SO
from covis.cli.demo import RIGHT_WITHIN, right_matches
from covis.errors import BundleError, CovisError
from covis.messages import extra as how_to_install

_NEEDED = ("numpy", "onnxruntime", "poselib", "pillow", "typer", "pylance", "pyarrow")
_EXTRAS = {
    "train": (
        ("torch", "onnx", "onnxscript", "safetensors", "h5py"),
        "to train and to import or export weights",
    ),
    "ray": (("ray",), "to add photos on a cluster: covis add --engine ray"),
    "map": (("pycolmap",), "to build maps from photos"),
    "convert": (("h5py",), "to read and write hloc's files: covis.convert.hloc"),
    "web": (("starlette", "uvicorn"), "for the page: covis web"),
    "heic": (("pillow-heif",), "to read HEIC pictures, as phones take them"),
}
"""Packages that not everyone needs, by the extra that brings them, and what they are for."""
_PACKAGES = {"transformers": "to import ViTs for dense features, and to train on them"}
"""Those that no extra brings."""


def command(as_json: options.AsJson = False) -> None:
    """Check the installation.

    Says what is here, what is missing and how to get it, and tries the default model.
    Exits with 1 where something needed does not work.
    """
    found = examine()
    if as_json:
        typer.echo(json.dumps(found))
    else:
        _print(found)
    if found["problems"]:
        raise typer.Exit(NOT_SO)


def examine() -> dict[str, Any]:
    """Everything `covis doctor` tells, ready for JSON."""
    problems: list[str] = []
    hints: list[str] = []
    versions: dict[str, str | None] = {"covis": __version__, "python": platform.python_version()}
    optional = [name for names, _ in _EXTRAS.values() for name in names] + list(_PACKAGES)
    versions |= {name: _version(name) for name in (*_NEEDED, *optional)}
    versions |= _builds(hints)
    problems += [f"{n} is missing: pip install --force-reinstall covis" for n in _NEEDED
                 if versions[n] is None]  # fmt: skip
    told: set[str] = set()
    for extra, (names, purpose) in _EXTRAS.items():
        missing = [name for name in names if versions[name] is None and name not in told]
        told.update(missing)
        if missing:
            hints.append(
                f"{', '.join(missing)} missing: needed only {purpose}; {how_to_install(extra)}"
            )
    for name, purpose in _PACKAGES.items():
        if versions[name] is None:
            hints.append(f"{name} missing: needed only {purpose}; python -m pip install {name}")
    found: dict[str, Any] = {"versions": versions, "platform": platform.platform()}
    try:
        found |= _runtime(versions, hints) | {"models": _models(hints)}
        found["self_check"] = _self_check()
    except (CovisError, ImportError) as error:
        problems.append(str(error))
    return found | {"problems": problems, "hints": hints}


def _runtime(versions: dict[str, str | None], hints: list[str]) -> dict[str, Any]:
    import cv2
    import PIL.Image

    from covis.options import DEFAULT_DEVICE, cpu_threads
    from covis.runtime import user_models
    from covis.runtime.devices import DEVICES, chosen, trouble

    versions["opencv"] = cv2.__version__
    PIL.Image.init()
    readable = {
        suffix for suffix, kind in PIL.Image.registered_extensions().items()
        if kind in PIL.Image.OPEN
    }  # fmt: skip
    formats = {
        name: suffix in readable
        for name, suffix in {
            "JPEG": ".jpg", "PNG": ".png", "WebP": ".webp", "TIFF": ".tif", "GIF": ".gif",
            "BMP": ".bmp", "AVIF": ".avif", "HEIC": ".heic",
        }.items()
    }  # fmt: skip
    if not formats["AVIF"]:
        hints.append("AVIF pictures cannot be read: pip install --upgrade 'pillow>=11.3'")
    formats["HEIC"] = versions["pillow-heif"] is not None
    return {
        "backend": "onnxruntime",
        "device": chosen(DEFAULT_DEVICE),
        "devices": {"cpu": None} | {name: trouble(name) for name in DEVICES},
        "threads": cpu_threads(),
        "formats": formats,
        "user_models": str(user_models()),
    }


def _builds(hints: list[str]) -> dict[str, str]:
    """The versions of what is imported as onnxruntime, under that name and its own."""
    from covis.runtime.builds import installed_builds

    found = installed_builds()
    if len(found) > 1:
        names = " ".join(found)
        hints.append(
            f"{names}: these lie on top of each other; keep one: python -m pip uninstall {names}, "
            "then install that"
        )
    return {"onnxruntime": next(iter(found.values()))} | found if found else {}


def _models(hints: list[str]) -> list[dict[str, str]]:
    from covis.runtime import list_bundles

    broken: list[BundleError] = []
    bundles = list_bundles(broken)
    hints += [str(error) for error in broken]
    return [{"name": b.name, "licence": b.licence, "folder": str(b.folder)} for b in bundles]


def _self_check() -> dict[str, Any]:
    """Match the demo pair with the default model."""
    from covis.api import match
    from covis.demo import render_demo

    pair = render_demo((480, 360))
    found = match(pair.image0, pair.image1)
    right = int(right_matches(found, pair).sum())
    if right < max(20, len(found) // 10):
        raise CovisError(
            f"the default model '{found.model}' runs, but only {right} of its {len(found)} "
            "matches on the demo pair are right; install covis again."
        )
    return {
        "model": found.model,
        "matches": len(found),
        "right": right,
        "seconds": round(sum(found.seconds.values()), 3),
    }


def _version(package: str) -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _print(found: dict[str, Any]) -> None:
    for name, number in found["versions"].items():
        typer.echo(f"{name:12} {number or '-'}")
    for extra, (_, purpose) in _EXTRAS.items():
        typer.echo(f"{'extra':12} {extra}: {purpose}")
    if "formats" in found:
        names = [name for name, readable in found["formats"].items() if readable]
        typer.echo(
            f"{'backend':12} {found['backend']} on {found['device']}, {found['threads']} threads"
        )
        for name, why in found["devices"].items():
            typer.echo(f"{'device':12} {name}{' ' + why if why else ''}")
        typer.echo(f"{'store':12} Lance {found['versions']['pylance']}")
        typer.echo(f"{'pictures':12} {', '.join(names)}")
    for model in found.get("models", []):
        typer.echo(f"{'model':12} {model['name']} ({model['licence']}) in {model['folder']}")
    if "self_check" in found:
        check = found["self_check"]
        typer.echo(
            f"{'self-check':12} {check['model']}: {check['right']} of {check['matches']} matches "
            f"right within {RIGHT_WITHIN} pixels, {check['seconds']} s"
        )
    for hint in found["hints"]:
        typer.echo(f"{'hint':12} {hint}")
    for problem in found["problems"]:
        typer.echo(f"{'problem':12} {problem}")
    typer.echo("Something needed does not work." if found["problems"] else "All is well.")
