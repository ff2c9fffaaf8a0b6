"""Frames of videos, for maps: sharp ones from places apart, kept as pictures.

MODEL/frames/clip.mp4-1a2b3c4d/
    000000.jpg ...    by the frame's number in the video
    video.json        of which video, and how they were chosen
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import CovisError, ImageError
from covis.files.atomic import PARTIAL
from covis.images.passed_over import VIDEO
from covis.images.video import open_video
from covis.search.ingest import file_content

Pixels = NDArray[np.uint8]
FRAMES = "frames"
"""The folder in that of the map."""

SHIFT, PARALLAX = 0.05, 0.01
"""By what share of the longer side the picture moves as a whole between two frames that are taken,
and its parts against each other, as when a camera circles something: whichever comes first."""
NEAR_STEP = 0.6
"""Of a step, from where on the sharpest frame is looked for."""
_SIDE = 320
_CORNERS, _FEW, _LOST, _FAR = 200, 10, 0.5, 0.75
_QUALITY = 95


def find_videos(given: Path, apart: Iterable[Path]) -> list[Path]:
    """Those in a folder at any depth, by name, but not in others; or the file that is given."""
    if given.is_file():
        return [given]
    found = []
    for folder, below, names in os.walk(given):
        here = Path(folder)
        below[:] = [name for name in below if not name.startswith(".") and here / name not in apart]
        found += [
            here / name
            for name in names
            if os.path.splitext(name)[1].lower() in VIDEO and not name.startswith(".")
        ]
    return sorted(found)


def take_frames(
    video: Path,
    folder: Path,
    most: int,
    rate: float | None,
    report: Callable[[int, int | None], None] = lambda done, total: None,
) -> list[Path]:
    """The frames of a video as pictures in a folder below `folder`, by number.

    most: how many at most. rate: so many a second, the sharpest of each stretch; None for one
        whenever the picture has moved by a SHIFT or PARALLAX. What is there of the same video is
        taken.
    report: called with the frames that were looked at, and how many there are.

    Raises ImageError for what is no video, CovisError where the pictures cannot be written.
    """
    content = file_content(str(video))
    target = folder / f"{video.name}-{content[:8]}"
    wanted = {"content": content, "most": most, "rate": rate}
    known = _record(target)
    if {key: known.get(key) for key in wanted} == wanted:
        if known["video"] != str(video):
            _write_record(target, {**wanted, "video": str(video)})
        return sorted(target.glob("*.jpg"))
    partial = target.with_name(f"{target.name}{PARTIAL}")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        chosen = _Chosen(partial, most)
        for number, frame in (
            _by_rate(video, rate, report) if rate else _by_step(video, chosen, report)
        ):
            chosen.add(number, frame)
        if not chosen.numbers:
            raise ImageError(f"{video}: no frame in it can be decoded.")
        chosen.thin(most)
        _write_record(partial, {**wanted, "video": str(video)})
        shutil.rmtree(target, ignore_errors=True)
        partial.rename(target)
    except OSError as error:
        raise CovisError(f"{target}: cannot write frames ({error.strerror}).") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return sorted(target.glob("*.jpg"))


def drop_frames(folder: Path) -> None:
    """Remove the frames of videos that are no longer there."""
    for target in folder.glob("*/"):
        known = _record(target)
        if known and not os.path.isfile(known["video"]):
            shutil.rmtree(target, ignore_errors=True)


class _Chosen:
    """Frames that are written as they are chosen. step: between them."""

    def __init__(self, folder: Path, most: int) -> None:
        self._folder, self._most = folder, most
        self.numbers: list[int] = []
        self.step = 1.0

    def add(self, number: int, frame: Pixels) -> None:
        """Write it. Of twice as many as are wanted every other goes, and steps are longer."""
        whole = cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        self._path(number).write_bytes(whole.tobytes())
        self.numbers.append(number)
        if len(self.numbers) >= 2 * self._most + 1:
            self.thin(self._most)
            self.step *= 2

    def thin(self, most: int) -> None:
        """Keep so many at most, evenly."""
        if len(self.numbers) <= most:
            return
        places = np.linspace(0, len(self.numbers) - 1, most).round().astype(int)
        kept = {self.numbers[place] for place in places}
        for number in self.numbers:
            if number not in kept:
                self._path(number).unlink()
        self.numbers = sorted(kept)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:06d}.jpg"


def _frames(
    video: Path, report: Callable[[int, int | None], None]
) -> Iterator[tuple[int, Pixels, Pixels]]:
    """Numbers, frames (h, w, 3) BGR, and these small and grey (h, w)."""
    opened = open_video(video)
    total = max(int(opened.get(cv2.CAP_PROP_FRAME_COUNT)), 0) or None
    number = 0
    while (read := opened.read())[0]:
        frame: Any = read[1]
        scale = min(1.0, _SIDE / max(frame.shape[:2]))
        small = cv2.resize(frame, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        yield number, frame, cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        number += 1
        report(number, None if total is None else max(total, number))
    opened.release()


def _by_rate(
    video: Path, rate: float, report: Callable[[int, int | None], None]
) -> Iterator[tuple[int, Pixels]]:
    opened = open_video(video)
    a_second = opened.get(cv2.CAP_PROP_FPS) or 25.0
    opened.release()
    best: tuple[float, int, Pixels] | None = None
    stretch = 0
    for number, frame, small in _frames(video, report):
        if best is not None and int(number * rate / a_second) != stretch:
            yield best[1], best[2]
            best = None
        stretch = int(number * rate / a_second)
        sharp = _sharpness(small)
        if best is None or sharp > best[0]:
            best = sharp, number, frame.copy()
    if best is not None:
        yield best[1], best[2]


def _by_step(
    video: Path, chosen: _Chosen, report: Callable[[int, int | None], None]
) -> Iterator[tuple[int, Pixels]]:
    motion = _Motion()
    best: tuple[float, int, Pixels] | None = None
    for number, frame, small in _frames(video, report):
        moved = motion.to(small)
        sharp = _sharpness(small)
        if moved >= NEAR_STEP * chosen.step and (best is None or sharp > best[0]):
            best = sharp, number, frame.copy()
        if moved >= chosen.step and best is not None:
            yield best[1], best[2]
            motion.restart(small)
            best = None
    if best is not None:
        yield best[1], best[2]


class _Motion:
    """How far corners moved since the last frame that was taken, in steps."""

    def __init__(self) -> None:
        self._before: Pixels | None = None

    def restart(self, small: Pixels) -> None:
        """Count from this frame."""
        found = cv2.goodFeaturesToTrack(small, _CORNERS, 0.01, 7)
        self._before = small
        self._first = np.zeros((0, 2), np.float32) if found is None else found.reshape(-1, 2)
        self._now, self._count = self._first, len(self._first)

    def to(self, small: Pixels) -> float:
        """Infinite for the first frame, where most corners are lost, or after one without."""
        if self._before is None:
            return np.inf
        if self._count < _FEW:
            self.restart(small)
            return 0.0 if self._count < _FEW else np.inf
        if len(self._now):
            tracked, found, _ = cv2.calcOpticalFlowPyrLK(
                self._before, small, self._now[:, None], np.empty(0), winSize=(15, 15)
            )
            kept = found.ravel() == 1
            self._now, self._first = tracked.reshape(-1, 2)[kept], self._first[kept]
        self._before = small
        if len(self._now) < (1 - _LOST) * self._count:
            return np.inf
        moved = (self._now - self._first) / max(small.shape)
        whole = np.median(moved, axis=0)
        apart = np.quantile(np.linalg.norm(moved - whole, axis=1), _FAR)
        return float(max(np.linalg.norm(whole) / SHIFT, apart / PARALLAX))


def _sharpness(small: Pixels) -> float:
    return float(cv2.Laplacian(small, cv2.CV_32F).var())


def _record(target: Path) -> dict[str, Any]:
    try:
        known = json.loads((target / "video.json").read_text(encoding="utf-8"))
        return known if isinstance(known, dict) and "video" in known else {}
    except (OSError, ValueError):
        return {}


def _write_record(target: Path, known: dict[str, Any]) -> None:
    (target / "video.json").write_text(json.dumps(known, indent=2) + "\n", encoding="utf-8")
