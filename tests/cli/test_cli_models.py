"""Doctor, weights and train: what they say with and without PyTorch and models."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from covis.cli import doctor

Run = Callable[..., Result]


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(sys.modules):
        if name.startswith(("covis.nets", "covis.export", "covis.training")):
            monkeypatch.delitem(sys.modules, name)
    for name in ("torch", "onnx", "safetensors"):
        monkeypatch.setitem(sys.modules, name, None)


def write_bundle(folder: Path, **changes: object) -> None:
    folder.mkdir(parents=True)
    description = {
        "name": folder.name,
        "architecture": "xfeat",
        "graphs": {},
        "licence": "a licence",
        "source": "a test",
    }
    (folder / "bundle.json").write_text(json.dumps(description | changes))


def test_doctor_tells_versions_formats_and_what_is_missing(
    covis: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else version(name))
    monkeypatch.setattr(doctor, "_self_check", lambda: {
        "model": "m", "matches": 9, "right": 8, "seconds": 0.1})  # fmt: skip
    found = json.loads(covis("doctor", "--json").stdout)
    assert found["versions"]["torch"] is None
    assert all(found["versions"][name] for name in ("covis", "numpy", "opencv", "poselib"))
    assert found["formats"]["JPEG"]
    assert found["problems"] == []
    assert any("torch" in hint and ".[train]" in hint for hint in found["hints"])
    text = covis("doctor")
    assert text.exit_code == 0
    assert "8 of 9 matches right" in text.stdout
    assert text.stdout.endswith("All is well.\n")


def test_doctor_exits_with_1_and_says_what_is_wrong(
    covis: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("covis.runtime.bundle.SHIPPED", tmp_path / "none")
    result = covis("doctor")
    assert result.exit_code == 1
    assert "no model named 'xfeat-covis'" in result.stdout


def test_doctor_checks_that_matches_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    from covis.api import match

    monkeypatch.setattr("covis.api.match", lambda a, b: match(a, b, "sift"))
    check = doctor._self_check()
    assert check["model"] == "sift"
    assert 20 <= check["right"] <= check["matches"]


def test_weights_list(covis: Run, tmp_path: Path) -> None:
    write_bundle(tmp_path / "home" / "models" / "mine")
    text = covis("weights", "list").stdout
    assert "mine  (xfeat)" in text
    assert "a licence" in text
    bundles = json.loads(covis("weights", "list", "--json").stdout)
    assert bundles[-1]["name"] == "mine"
    assert bundles[-1]["folder"] == str(tmp_path / "home" / "models" / "mine")


@pytest.mark.slow
def test_weights_go_in_and_out(covis: Run, pair: tuple[Path, Path]) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    safetensors = pytest.importorskip("safetensors.torch")
    from covis.nets.xfeat import XFeat

    torch.manual_seed(0)
    torch.save(XFeat().state_dict(), "w.pt")
    result = covis("weights", "import", "w.pt", "--name", "mine", "--licence", "MIT")
    assert result.exit_code == 0, result.output
    assert "Licence: MIT." in result.stdout
    assert covis("match", *pair, "--features", "mine").exit_code == 0
    again = covis("weights", "import", "w.pt", "--name", "mine")
    assert again.exit_code == 2
    assert "--force replaces it" in again.stderr
    out = covis("weights", "export", "mine", "--out", "w.safetensors")
    assert out.exit_code == 0, out.output
    assert safetensors.load_file("w.safetensors").keys() == XFeat().state_dict().keys()


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".hidden", "sift", "xfeat", "a b"])
def test_exception_for_a_name_that_is_none(covis: Run, name: str) -> None:
    result = covis("weights", "import", "w.pt", "--name", name)
    assert result.exit_code == 2
    assert result.stderr.startswith("covis: ")


@pytest.mark.usefixtures("no_torch")
@pytest.mark.parametrize(
    "arguments",
    [
        ["weights", "import", "w.pt", "--name", "new"],
        ["weights", "export", "mine", "--out", "w.safetensors"],
        ["train", "xfeat", "--photos", ".", "--out", "out"],
    ],
    ids=["import", "export", "train"],
)
def test_exception_without_torch_says_how_to_get_it(
    covis: Run, arguments: list[str], tmp_path: Path
) -> None:
    write_bundle(tmp_path / "home" / "models" / "mine")
    result = covis(*arguments)
    assert result.exit_code == 2
    assert "pip install '.[train]'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--photos", ".", "--out", "out"], "no picture"),
        (["--photos", ".", "--out", "out", "--resume"], "nothing to resume"),
        (["--photos", ".", "--out", "out", "--device", "toaster"], "toaster"),
    ],
    ids=["photos", "resume", "device"],
)
def test_exception_for_a_training_that_cannot_start(
    covis: Run, arguments: list[str], words: str
) -> None:
    pytest.importorskip("torch")
    result = covis("train", "xfeat", *arguments)
    assert result.exit_code == 2
    assert result.stderr.startswith("covis: ")
    assert words in result.stderr
