"""Nothing but `covis.images` reads pictures: elsewhere limits, formats and orientation differ."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import covis

READERS = {
    "PIL.Image": {"open"},
    "PIL.ImageFile": {"Parser"},
    "PIL.ImageSequence": {"Iterator", "all_frames"},
    "cv2": {
        "VideoCapture",
        "imread",
        "imreadmulti",
        "imreadanimation",
        "imdecode",
        "imdecodemulti",
    },
}


def readers(source: str) -> list[str]:
    """What code calls to read pictures, by whatever name it imported that."""
    tree, names = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                names[alias.asname or alias.name.split(".")[0]] = (
                    alias.name if alias.asname else alias.name.split(".")[0]
                )
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                names[alias.asname or alias.name] = f"{node.module}.{alias.name}"

    def full(node: ast.expr) -> str:
        if isinstance(node, ast.Attribute):
            return f"{full(node.value)}.{node.attr}"
        return names.get(node.id, "") if isinstance(node, ast.Name) else ""

    forbidden = {f"{module}.{name}" for module, some in READERS.items() for name in some}
    uses = (full(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute | ast.Name))
    return [name for name in uses if name in forbidden]


@pytest.mark.parametrize(
    "source",
    [
        "import PIL.Image\nPIL.Image.open(path)",
        "from PIL import Image as Picture\nwith Picture.open(path) as p: pass",
        "from PIL.Image import open as read\nread(path)",
        "import cv2 as cv\nmap(cv.imread, paths)",
        "from cv2 import imdecode\nimdecode(data, 1)",
    ],
)
def test_readers_are_seen(source: str) -> None:
    assert len(readers(source)) == 1


def test_only_images_reads_pictures() -> None:
    root = Path(covis.__file__).parent
    paths = sorted(path for path in root.rglob("*.py") if path.parent != root / "images")
    assert len(paths) > 100
    found = {
        str(path.relative_to(root)): uses
        for path in paths
        if (uses := readers(path.read_text("utf-8")))
    }
    assert found == {}
    assert readers((root / "images" / "opened.py").read_text("utf-8")) == ["PIL.Image.open"]
