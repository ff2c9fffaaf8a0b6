"""pycolmap has a zlib of its own, beside which PNG files must still be written."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("colmap")


def run(script):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_png_files_are_written_beside_pycolmap(tmp_path):
    """Without covis' own import of zlib, Python dies of a corrupted heap."""
    result = run(
        "import covis, pycolmap, numpy as np\n"
        "from covis.draw.canvas import save_picture\n"
        "pixels = np.random.default_rng(0).integers(0, 256, (700, 900, 3)).astype(np.uint8)\n"
        f"save_picture(pixels, {str(tmp_path / 'a.png')!r})\n"
        f"assert (covis.load_image({str(tmp_path / 'a.png')!r}).pixels == pixels).all()\n"
    )
    assert (result.returncode, result.stderr) == (0, "")


def test_a_warning_where_pycolmap_came_first():
    result = run("import pycolmap, covis")
    assert result.returncode == 0
    assert "Import covis, or zlib, first." in result.stderr
    assert run("import zlib, pycolmap, covis").stderr == ""
