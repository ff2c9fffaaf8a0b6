"""Nothing is written outside of what a user names, and nothing is sent."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import covis

CODE = """
import numpy as np
import covis
picture = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
found = covis.match(picture, picture, features="sift", matcher="nearest", geometry="none")
assert len(found)
import sys
assert "onnxruntime" in sys.modules
"""


def test_the_home_folder_stays_as_it_is(tmp_path: Path) -> None:
    """ONNX Runtime writes events into the user's cache unless it is told not to."""
    home, other = tmp_path / "home", tmp_path / "other"
    home.mkdir()
    other.mkdir()
    kept = {"ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"}
    environment = {name: value for name, value in os.environ.items() if name not in kept}
    environment |= {
        "HOME": str(home),
        "USERPROFILE": str(home),
        "TMPDIR": str(other),
        "PYTHONPATH": str(Path(covis.__file__).parents[1]),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    subprocess.run([sys.executable, "-c", CODE], check=True, env=environment)
    assert [str(path.relative_to(home)) for path in home.rglob("*")] == []
