"""`covis train delg`: what it says when there is nothing to learn from."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")


def test_exception_no_pictures(covis, tmp_path):
    (tmp_path / "empty").mkdir()
    result = covis("train", "delg", "--images", tmp_path / "empty", "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert "no pictures to learn from" in result.output.replace("\n", " ")
    assert not (tmp_path / "run").exists()
