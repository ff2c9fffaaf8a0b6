from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def torchrun(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs the text of a script in so many processes; gives the lines that they print."""

    def run(count: int, text: str, *arguments: object) -> list[str]:
        script = tmp_path / "script.py"
        script.write_text(text)
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        command += [f"--nproc-per-node={count}", *map(str, (script, *arguments))]
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=600,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run
