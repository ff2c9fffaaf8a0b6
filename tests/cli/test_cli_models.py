"""Doctor, weights and train: what they say with and without PyTorch and models."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from covis import CovisError, import_weights
from covis.cli import doctor

Run = Callable[..., Result]


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, module in list(sys.modules.items()):
        # Not the packages themselves: their parent would keep the ones made in between.
        ours = name.startswith(("covis.nets.", "covis.export.", "covis.training."))
        if ours and not hasattr(module, "__path__"):
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
    gone = ("torch", "ray", "h5py", "transformers", "pillow-heif")
    monkeypatch.setattr(doctor, "_version", lambda name: None if name in gone else version(name))
    monkeypatch.setattr(doctor, "_self_check", lambda: {
        "model": "m", "matches": 9, "right": 8, "seconds": 0.1})  # fmt: skip
    found = json.loads(covis("doctor", "--json").stdout)
    assert found["versions"]["torch"] is None
    assert all(found["versions"][name] for name in ("covis", "numpy", "opencv", "pylance"))
    assert found["formats"]["JPEG"]
    assert found["problems"] == []
    assert any("torch" in hint and ".[train]" in hint for hint in found["hints"])
    assert any("cluster" in hint and ".[ray]" in hint for hint in found["hints"])
    assert sum("h5py" in hint for hint in found["hints"]) == 1
    assert any("import ViTs" in hint and "install transformers" in hint for hint in found["hints"])
    assert any("HEIC" in hint and ".[heic]" in hint for hint in found["hints"])
    assert not found["formats"]["HEIC"]
    text = covis("doctor")
    assert text.exit_code == 0
    assert "8 of 9 matches right" in text.stdout
    assert f"Lance {version('pylance')}" in text.stdout
    assert "train: to train and to import or export weights" in text.stdout
    assert text.stdout.endswith("All is well.\n")


def test_doctor_exits_with_1_and_says_what_is_wrong(
    covis: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("covis.runtime.bundle.SHIPPED", tmp_path / "none")
    result = covis("doctor")
    assert result.exit_code == 1
    assert "no model named 'edgepoint-covis'" in result.stdout


def test_doctor_checks_that_matches_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    from covis.api import match

    monkeypatch.setattr("covis.api.match", lambda a, b: match(a, b, features="sift"))
    check = doctor._self_check()
    assert check["model"] == "sift"
    assert 20 <= check["right"] <= check["matches"]


def test_weights_list(covis: Run, tmp_path: Path) -> None:
    write_bundle(tmp_path / "home" / "models" / "mine")
    text = covis("weights", "list").stdout
    assert "mine  (xfeat)" in text
    assert "lift-xfeat-covis  (dense features, lifted)" in text
    assert "sift  (features without weights)" in text
    assert "(lift)" not in text
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
    # Random weights find nothing that is the same.
    found = covis("match", *pair, "--features", "mine", "--matcher", "nearest")
    assert found.exit_code == 1
    again = covis("weights", "import", "w.pt", "--name", "mine")
    assert again.exit_code == 2
    assert "--force replaces it" in again.stderr
    out = covis("weights", "export", "mine", "--out", "w.safetensors")
    assert out.exit_code == 0, out.output
    assert safetensors.load_file("w.safetensors").keys() == XFeat().state_dict().keys()


@pytest.mark.parametrize("name", ["upsampler-covis", "lift-dinov2-small"])
def test_exception_for_weights_that_official_names_do_not_fit(covis: Run, name: str) -> None:
    pytest.importorskip("torch")
    result = covis("weights", "export", name, "--out", "w.safetensors")
    assert result.exit_code == 2
    assert result.stderr.startswith(f"covis: {name}: its network is not LiFT's as published")
    assert not Path("w.safetensors").exists()


@pytest.fixture
def lightglue_weights(tmp_path: Path) -> Path:
    """One layer for descriptors of 128 numbers."""
    torch = pytest.importorskip("torch")
    pytest.importorskip("onnxscript")
    from covis.nets.lightglue import LightGlue

    torch.manual_seed(0)
    net = LightGlue(128, dim=16, heads=2, layers=1, scale_orientation=True)
    torch.save(net.state_dict(), tmp_path / "lg.pt")
    return tmp_path / "lg.pt"


@pytest.mark.slow
def test_lightglue_weights_go_in(
    covis: Run, pair: tuple[Path, Path], lightglue_weights: Path
) -> None:
    name = "lightglue-sift"
    arguments = ["weights", "import", lightglue_weights, "--name", name, "--licence", "MIT"]
    result = covis(*arguments, "--features", "sift")
    assert result.exit_code == 0, result.output
    assert f"Licence: MIT. Use it with --matcher {name}." in result.stdout
    for matcher in ("lightglue", name):
        told = covis("match", *pair, "--features", "sift", "--matcher", matcher).stdout
        assert (
            "Model: sift + lightglue-sift; licence: Apache-2.0 (OpenCV's SIFT) (features), MIT"
            in told
        )
    many = ["match-many", pair[0].parent, "-o", "out", "--features", "sift", "--matcher"]
    assert covis(*many, name).exit_code == 0
    settings = json.loads(Path("out/settings.json").read_text())
    assert settings["matcher"] == name
    assert len(settings["matcher_weights"]) == 16
    assert "1 of them before" in covis(*many, "lightglue", "--draw").stdout
    other = covis(*many, "nearest")
    assert other.exit_code == 2
    assert "matcher lightglue-sift then, nearest now" in other.stderr
    wrong = covis("match", *pair, "--matcher", name)
    assert wrong.exit_code == 2
    assert "'lightglue-sift' is for features of 'sift', not of 'xfeat-covis'" in wrong.stderr


@pytest.mark.slow
def test_export_lightglue(covis: Run, pair: tuple[Path, Path], lightglue_weights: Path) -> None:
    result = covis("export", "lightglue", "--weights", lightglue_weights, "--out", "glue")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Wrote 'glue', one_file.onnx and parity.md to glue")
    assert "matches the same" in result.stdout
    assert "Licence: unknown" in result.stdout
    assert {"bundle.json", "one_file.onnx", "parity.md"} < {p.name for p in Path("glue").iterdir()}
    found = covis("match", *pair, "--features", "sift", "--matcher", "glue", "--json")
    assert json.loads(found.stdout)["model"] == "sift + glue"
    again = covis("export", "lightglue", "--weights", "none.pt", "--out", "glue")
    assert (again.exit_code, again.stderr) == (2, "covis: none.pt: no such weights file.\n")
    assert Path("glue/one_file.onnx").is_file()


def test_exception_features_of_other_networks(covis: Run) -> None:
    torch = pytest.importorskip("torch")
    torch.save({"convPa.weight": torch.ones(1)}, "w.pt")
    result = covis("weights", "import", "w.pt", "--name", "new", "--features", "sift")
    assert result.exit_code == 2
    assert "features are for LightGlue weights; these are superpoint's" in result.stderr


@pytest.mark.parametrize(
    "name", ["../x", "a/b", "", ".hidden", "sift", "xfeat", "a b", "nearest", "lightglue", "auto"]
)
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
        ["train", "edgepoint", "--photos", ".", "--out", "out", "--teacher", "E64.pth"],
        ["export", "lightglue", "--weights", "w.pt", "--out", "out"],
    ],
    ids=["import", "export", "train", "train edgepoint", "export lightglue"],
)
def test_exception_without_torch_says_how_to_get_it(
    covis: Run, arguments: list[str], tmp_path: Path
) -> None:
    write_bundle(tmp_path / "home" / "models" / "mine")
    result = covis(*arguments)
    assert result.exit_code == 2
    assert "pip install '.[train]'" in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.usefixtures("no_torch", "covis")
def test_exception_without_torch_is_the_same_from_python() -> None:
    Path("w.pt").write_bytes(b"weights")
    with pytest.raises(CovisError, match=r"needs torch, which is missing: .*'\.\[train\]'"):
        import_weights("w.pt", name="new")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--photos", ".", "--out", "out"],
            "0 photos with sides of 128 pixels or more",
        ),
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
