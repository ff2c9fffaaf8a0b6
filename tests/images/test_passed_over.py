"""Raw files and videos are named as passed over."""

from __future__ import annotations

from pathlib import Path

from covis.images.passed_over import passed_over


def test_raw_files_and_videos_are_counted(tmp_path: Path) -> None:
    assert passed_over([tmp_path]) == ""
    (tmp_path / "deep").mkdir()
    for name in ("a.jpg", "a.CR2", "deep/b.nef", "notes.txt", ".hidden.mp4"):
        (tmp_path / name).write_bytes(b"x")
    assert passed_over([tmp_path]) == "2 raw files passed over; convert raw files to JPEG first."
    (tmp_path / "deep" / "c.MOV").write_bytes(b"x")
    assert passed_over([tmp_path, tmp_path / "a.jpg"]) == (
        "2 raw files and 1 video passed over; "
        "convert raw files to JPEG and videos to pictures first."
    )
