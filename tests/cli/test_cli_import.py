"""`covis weights import` tells networks by the names in the file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

Run = Callable[..., Result]


@pytest.mark.slow
def test_superpoint_goes_in_with_its_licence(covis: Run, pair: tuple[Path, Path]) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from covis.nets.superpoint import SuperPoint

    torch.manual_seed(0)
    torch.save(SuperPoint().state_dict(), "superpoint_v1.pth")
    result = covis("weights", "import", "superpoint_v1.pth", "--name", "superpoint")
    assert result.exit_code == 0, result.output
    assert "Imported 'superpoint' (superpoint)" in result.stdout
    assert "Licence: non-commercial research only (Magic Leap's)" in result.stdout
    matched = covis("match", *pair, "--features", "superpoint")
    assert matched.exit_code == 0, matched.output
    assert "licence: non-commercial research only (Magic Leap's)" in matched.stdout


@pytest.mark.slow
def test_aliked_goes_in_with_its_licence(covis: Run) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from covis.nets.aliked import ALIKED

    torch.save(ALIKED((4, 4, 8, 8), 16, positions=2).state_dict(), "w.pth")
    result = covis("weights", "import", "w.pth", "--name", "aliked")
    assert result.exit_code == 0, result.output
    assert "Imported 'aliked' (aliked)" in result.stdout
    assert "Licence: BSD-3-Clause" in result.stdout


def test_exception_for_weights_of_no_known_network(covis: Run) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    torch.save({"a": torch.ones(1)}, "w.pth")
    result = covis("weights", "import", "w.pth", "--name", "new")
    assert result.exit_code == 2
    assert "holds the weights of none of these: xfeat, aliked, superpoint" in result.stderr
    assert result.stderr.count("\n") == 1
