"""A bundle's folder is replaced whole, and nothing else in it is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from covis.errors import BundleError
from covis.export.bundle import replacing_bundle
from covis.runtime import Bundle


def write(folder: Path, content: str = "old") -> None:
    folder.mkdir(exist_ok=True)
    about = {"name": "m", "architecture": "xfeat", "licence": "-", "source": content}
    text = json.dumps({**about, "graphs": {"detect": "detect.onnx"}})
    (folder / "bundle.json").write_text(text)
    (folder / "detect.onnx").write_text(content)


def test_a_bundle_is_replaced(tmp_path: Path) -> None:
    write(tmp_path / "m")
    with replacing_bundle(tmp_path / "m") as new:
        assert Bundle.read(tmp_path / "m").source == "old"
        write(new, "new")
    assert Bundle.read(tmp_path / "m").source == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_exception_for_files_of_the_user_beside_a_bundle(tmp_path: Path) -> None:
    write(tmp_path / "m")
    (tmp_path / "m" / "thesis.txt").write_text("mine")
    told = r"holds thesis\.txt, .* left alone"
    with pytest.raises(BundleError, match=told), replacing_bundle(tmp_path / "m"):
        pass
    assert (tmp_path / "m" / "thesis.txt").read_text() == "mine"
    assert Bundle.read(tmp_path / "m").source == "old"


def test_the_old_bundle_stays_where_the_new_one_cannot_be_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "m")
    rename = Path.rename

    def full(path: Path, target: Path) -> Path:
        if path.name == "bundle":
            raise OSError(28, "No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    told = r"cannot be written \(No space left"
    with pytest.raises(BundleError, match=told), replacing_bundle(tmp_path / "m") as new:
        write(new, "new")
    assert Bundle.read(tmp_path / "m").source == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["m"]


def test_exception_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("tempfile.mkdtemp", refuse)
    told = r"m: cannot be written \(Permission denied\)"
    with pytest.raises(BundleError, match=told), replacing_bundle(tmp_path / "m"):
        pass


def test_what_a_killed_import_left_is_cleaned(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from covis.export.bundle import replacing_bundle\n"
        "with replacing_bundle(Path(sys.argv[1])):\n    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "m"], check=False)
    (left,) = tmp_path.iterdir()
    mine = tmp_path / f".covis-unfinished-{os.getpid()}-x"
    mine.mkdir()
    with replacing_bundle(tmp_path / "m") as new:
        write(new)
        assert not left.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == [mine.name, "m"]
