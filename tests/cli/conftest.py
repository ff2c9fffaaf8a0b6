from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from helpers.textures import soft_noise
from typer.testing import CliRunner, Result

from covis.cli import app


@pytest.fixture
def covis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs a command line in an empty folder, with a home of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COVIS_HOME", str(tmp_path / "home"))
    return lambda *arguments: CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two views of a texture, the second moved by (10, 6)."""
    texture = soft_noise(60, 80)
    paths = tmp_path / "a.png", tmp_path / "b.png"
    cv2.imwrite(str(paths[0]), texture[:160, :200])
    cv2.imwrite(str(paths[1]), texture[6:166, 10:210])
    return paths
