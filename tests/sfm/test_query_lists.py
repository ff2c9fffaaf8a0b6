"""Folders and lists of photos to be placed."""

from __future__ import annotations

import shutil

import pytest
from typer.testing import CliRunner

from covis.cli import app
from covis.errors import ArgumentError
from covis.geometry.camera import CalibratedCamera
from covis.sfm.query_lists import Query, read_queries


def test_files_folders_and_lists(tmp_path):
    photos, more = tmp_path / "photos", tmp_path / "more"
    for path in (photos / "db" / "a.jpg", more / "b.jpg", more / "deep" / "c d.png"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "queries.txt").write_text(
        "# as hloc has them\n"
        "db/a.jpg SIMPLE_RADIAL 640 480 500 320 240 -0.01\n"
        "\n"
        "more/b.jpg pinhole 640 480 500 501 320 240\n"
        "more/deep/c d.png\n"
        "gone.jpg\n"
    )
    radial = CalibratedCamera("SIMPLE_RADIAL", 640, 480, (500.0, 320.0, 240.0, -0.01))
    assert read_queries([tmp_path / "queries.txt"], photos) == [
        Query(photos / "db" / "a.jpg", radial),
        Query(more / "b.jpg", CalibratedCamera("PINHOLE", 640, 480, (500.0, 501.0, 320.0, 240.0))),
        Query(more / "deep" / "c d.png"),
        Query(tmp_path / "gone.jpg"),
    ]
    assert [query.path for query in read_queries([more, "x.jpg"], photos)] == [
        more / "b.jpg", more / "deep" / "c d.png", tmp_path.__class__("x.jpg"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("a.jpg b.jpg", r"queries\.txt, line 2: 'a\.jpg b\.jpg' is neither a photo nor NAME MODEL"),
        ("a.jpg PINHOLE 640 480 5x 5 1 1", "line 2: .* is neither"),
        ("a.jpg PINHOL 640 480 500 500 320 240", "line 2: .*PINHOL"),
        ("a.jpg PINHOLE 640 480 500", "line 2: .*PINHOLE"),
        ("a.jpg PINHOLE 640 480 nan 500 320 240", "line 2: "),
        ("# nothing", r"queries\.txt: no photo in it"),
    ],
)
def test_exceptions_of_lists(tmp_path, line, words):
    (tmp_path / "queries.txt").write_text(f"# a list\n{line}\n")
    with pytest.raises(ArgumentError, match=words):
        read_queries([tmp_path / "queries.txt"], tmp_path)
    with pytest.raises(ArgumentError, match="no list of photos to read"):
        read_queries([tmp_path / "none.txt"], tmp_path)


def test_a_list_is_located(mapped, another, tmp_path):
    shutil.copy2(another[0], tmp_path / "another.png")
    (tmp_path / "queries.txt").write_text(
        "another.png PINHOLE 480 360 420 420 240 180\n"
        "3.png PINHOLE 480 360 420 420 240 180\n"
        "2.png PINHOLE 640 480 420 420 240 180\n"
        "gone.png\n"
    )
    run = CliRunner().invoke(app, ["locate", str(tmp_path / "queries.txt"), "--in", str(mapped[0])])
    assert run.exit_code == 2
    assert "another.png:" in run.output
    assert f"{tmp_path / 'gone.png'}: no such file" in run.output.replace("\n", "")
    assert "2 of 4 photos placed." in run.output
    assert "Focal length 420.0 px, given." in run.output
