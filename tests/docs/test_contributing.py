"""CONTRIBUTING.md names files, tables and names that are there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
PROSE = re.sub(r"^```.*?^```", "", TEXT, flags=re.MULTILINE | re.DOTALL)
IMPORTS = re.findall(r"^from (covis[\w.]*) import (.+)$", TEXT, re.MULTILINE)


def test_files_are_there():
    named = {path for path in re.findall(r"`([\w./]+(?:\.py|/))`", PROSE) if "NAME" not in path}
    package, tests = ROOT / "src" / "covis", ROOT / "tests"
    rooms = (package, package / "training", package / "evaluation")
    roots = (ROOT, *rooms, tests / "features", tests / "matching")
    assert len(named) > 30
    assert [
        path for path in sorted(named) if not any((root / path).exists() for root in roots)
    ] == []


@pytest.mark.parametrize(("module", "names"), IMPORTS)
def test_templates_import_what_is_there(module, names):
    found = importlib.import_module(module)
    assert all(hasattr(found, name.strip()) for name in names.split(","))


@pytest.mark.parametrize(
    ("module", "table"),
    [
        ("covis.features.registry", "HANDCRAFTED"),
        ("covis.matching.registry", "MATCHERS"),
        ("covis.runtime.architectures", "ARCHITECTURES"),
        ("covis.evaluation.registry", "MODULES"),
    ],
)
def test_tables_are_there(module, table):
    assert f"`{table}`" in PROSE
    assert hasattr(importlib.import_module(module), table)


def test_the_training_template_uses_what_is_there():
    pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
    loop = importlib.import_module("covis.training.loop")
    kept = importlib.import_module("covis.training.checkpoint")
    workers = importlib.import_module("covis.training.distributed")
    assert all(hasattr(loop, name) for name in ("Run", "fit", "rendered", "Candidate"))
    assert all(hasattr(kept, name) for name in ("to_resume", "began_with", "BEST"))
    assert hasattr(workers, "join")
