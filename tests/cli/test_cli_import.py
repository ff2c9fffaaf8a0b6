"""`covis weights import` tells networks by the names in the file."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
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
    assert (
        "holds the weights of none of these: xfeat, edgepoint, aliked, superpoint" in result.stderr
    )
    assert result.stderr.count("\n") == 1


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    """A folder as Hugging Face's hub has them."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    transformers = pytest.importorskip("transformers", reason="ViTs need transformers")
    torch.manual_seed(0)
    config = transformers.ViTConfig(
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=8,
        image_size=32,
        patch_size=8,
    )
    transformers.ViTModel(config, add_pooling_layer=False).save_pretrained(tmp_path / "tiny")
    (tmp_path / "tiny" / "README.md").write_text("---\nlicense: mit\ntags:\n- a\n---\nlicense: -\n")
    return tmp_path / "tiny"


@pytest.mark.slow
def test_a_vit_and_its_lift_go_in(covis: Run, pair: tuple[Path, Path], vit: Path) -> None:
    import torch

    from covis.nets.lift import FeatureKind, LiFT, metadata
    from covis.training.checkpoint import save_weights

    result = covis("weights", "import", vit, "--name", "plain", "--facet", "value")
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    assert "Features: tiny (layer 1, value, patch 8), no LiFT.\n" in result.stdout
    assert "Licence: mit. Use it with 'covis dense' and --model plain." in result.stdout
    found = covis("dense", "match", *pair, "--model", "plain", "--max-size", 64)
    assert "Model: plain; licence: mit." in found.stdout

    lift = LiFT(FeatureKind("tiny", "", 1, "key", 16, 8))
    torch.save({f"module.{name}": w for name, w in lift.state_dict().items()}, "lift.pth")
    given = ("weights", "import", vit, "--lift", "lift.pth", "--name", "lifted")
    assert covis(*given).exit_code == 0
    bundle = json.loads(covis("weights", "list", "--json").stdout)[-2]
    assert bundle["source"] == "tiny (layer 1, key, patch 8), LiFT of lift.pth"
    assert bundle["licence"] == "mit (ViT); unknown: ask whoever gave you the file (LiFT)"
    assert covis(*given, "--force", "--licence", "MIT").exit_code == 0
    found = covis("dense", "match", *pair, "--model", "lifted", "--max-size", 64, "--lifts", 2)
    assert "Model: lifted; licence: MIT." in found.stdout

    save_weights(lift, Path("ours.safetensors"), metadata(lift))
    wrong = covis(
        "weights", "import", vit, "--lift", "ours.safetensors", "--layer", 0, "--name", "b"
    )
    assert wrong.exit_code == 2
    assert wrong.stderr.startswith("covis: this LiFT was trained on tiny (layer 1, key, patch 8)")
    small = LiFT(FeatureKind("tiny", "", 1, "key", 8, 8))
    torch.save(small.state_dict(), "small.pth")
    wrong = covis("weights", "import", vit, "--lift", "small.pth", "--name", "b")
    assert (wrong.exit_code, wrong.stderr.count("\n")) == (2, 1)
    assert "small.pth: not the weights of LiFT; other shape" in wrong.stderr


@pytest.mark.slow
def test_what_train_lift_gives_goes_in(covis: Run, pair: tuple[Path, Path], vit: Path) -> None:
    """By the command that it prints, to all commands for dense features."""
    photos, frames = Path("photos"), Path("frames")
    for folder in (photos, frames):
        folder.mkdir()
    rng = np.random.default_rng(0)
    for n in range(50):
        pixels = rng.integers(0, 256, (64, 64, 3), np.uint8)
        PIL.Image.fromarray(pixels).save(photos / f"{n}.png")
        if n < 3:
            PIL.Image.fromarray(pixels).save(frames / f"{n}.png")
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 255
    PIL.Image.fromarray(mask).save("mask.png")

    size = ("--size", 64, "--batch", 2, "--steps", 2)
    given = ("--backbone", vit, "--facet", "query", "--photos", photos, "--out", "run", *size)
    trained = covis("train", "lift", *given)
    assert trained.exit_code == 0, trained.output
    said = re.search("'covis (.*)' makes a model of both", trained.stdout)
    assert said is not None
    imported = covis(*said[1].replace("NAME", "trained").split())
    assert imported.exit_code == 0, imported.output
    assert "Features: tiny (layer 1, query, patch 8), LiFT of best.safetensors." in imported.stdout

    picture, model = photos / "0.png", ("--model", "trained")
    for arguments in (
        ("match", picture, photos / "1.png"),
        ("propagate", frames, "--mask", "mask.png", "-o", "out"),
        ("discover", picture),
        ("show", picture, "-o", "shown.png", "--compare", "--lifts", 2),
    ):
        result = covis("dense", *arguments, *model)
        assert result.exit_code == 0, result.output
    other = covis(*said[1].replace("query", "key").replace("NAME", "other").split())
    assert other.exit_code == 2
    assert "trained on tiny (layer 1, query, patch 8) and serves nothing else" in other.stderr


def test_exception_for_a_vit_that_is_not_whole(covis: Run, vit: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(vit / "model.safetensors")
    name = next(name for name in weights if "layernorm_before" in name)
    save_file(
        {key: value for key, value in weights.items() if key != name},
        vit / "model.safetensors",
        {"format": "pt"},
    )
    result = covis("weights", "import", vit, "--name", "new")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "tiny: its weights are not whole: " in result.stderr
    assert "layernorm_before" in result.stderr


def test_exception_without_transformers(covis: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    monkeypatch.setitem(sys.modules, "transformers", None)
    result = covis("weights", "import", "facebook/dino-vits16", "--name", "new")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "needs the package transformers: python -m pip install transformers" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["lift.pth"], "lift.pth is a LiFT, which goes in with the network"),
        (["points.pth", "--layer", "3"], "lift are for ViTs; these weights are superpoint's"),
        (["points.pth", "--lift", "lift.pth"], "are for ViTs; these weights are superpoint's"),
        (["some/vit", "--features", "xfeat"], "for LightGlue weights, not for some/vit"),
        (["none.pth"], "none.pth: no such weights file"),
    ],
)
def test_exception_for_options_of_other_networks(
    covis: Run, arguments: list[str], words: str
) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    torch.save({"image_convs_1.0.weight": torch.ones(1)}, "lift.pth")
    torch.save({"convPa.weight": torch.ones(1)}, "points.pth")
    result = covis("weights", "import", *arguments, "--name", "new")
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert words in result.stderr


def test_exception_for_a_file_of_several_networks_says_which(covis: Run) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    telling = {"extractor.block_fusion.0.layer.0.weight", "matcher.posenc.Wr.weight"}
    torch.save(dict.fromkeys(sorted(telling), torch.ones(1)), "both.pt")
    result = covis("weights", "import", "both.pt", "--name", "new")
    assert result.exit_code == 2
    assert "both.pt holds several networks: xfeat, lightglue; say which" in result.stderr
    result = covis("weights", "import", "both.pt", "--name", "new", "--network", "aliked")
    assert result.exit_code == 2
    assert "holds no weights of 'aliked', but of xfeat, lightglue" in result.stderr
