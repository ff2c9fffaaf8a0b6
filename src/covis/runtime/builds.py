"""Which builds of ONNX Runtime are installed; nothing heavy is imported here."""

from __future__ import annotations

from importlib.metadata import packages_distributions, version


def installed_builds() -> dict[str, str]:
    """Their versions by name: one, as it should be; several lie on top of each other."""
    names = packages_distributions().get("onnxruntime", [])
    return {name: version(name) for name in sorted(set(names))}
