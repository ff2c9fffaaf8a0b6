"""`covis train detector`: a run from folders to weights, and what it says without labels."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest

pytest.importorskip("torch", reason="training needs PyTorch: covis[train]")
pytest.importorskip("onnx", reason="the export needs ONNX: covis[train]")


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in range(3):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[10:30, 20:40] = 255
        PIL.Image.fromarray(picture).save(tmp_path / "images" / f"{number}.png")
        (tmp_path / "labels" / f"{number}.txt").write_text("0 0.46875 0.41667 0.3125 0.41667\n")
    return tmp_path


def arguments(folder):
    options = ("--steps", 1, "--size", 64, "--batch", 1, "--held-out", 1, "--out", folder / "run")
    return "train", "detector", "--images", folder / "images", *options


def test_a_run(covis, folder):
    result = covis(*arguments(folder), "--labels", folder / "labels")
    assert result.exit_code == 0, result.output
    assert "2 pictures with 2 objects; classes: 1" in result.output
    assert (folder / "run" / "best.safetensors").is_file()
    assert (folder / "run" / "curve.csv").read_text().startswith("step,ap50")


def test_exception_no_labels(covis, folder):
    result = covis(*arguments(folder), "--labels", folder / "none")
    assert result.exit_code == 2
    assert "none: no such folder. Give a folder with images/ and labels/" in (
        " ".join(result.output.split())
    )
    assert not (folder / "run").exists()
