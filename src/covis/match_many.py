"""Match many pairs of pictures into a folder, and go on where a run was cut off.

The folder holds
    settings.json            what the results depend on
    features/*.npz           the features of each picture, found once: `Features.load`;
                             *-90.npz etc.: those of the picture turned clockwise, as turned
    matches/*.npz            the matches of each pair: `Matches.load`
    drawings/*.jpg           each pair drawn, where asked for
    summary.csv              one line a pair: counts, file, or why it was skipped
Pictures are known by their content: a changed one is matched again, a copy is not.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from covis.api import Rotate, joint_licence, match_turned, verify
from covis.errors import ArgumentError, CovisError, ImageError
from covis.features.extractor import DEFAULT_MAX_SIZE, Extractor
from covis.files.atomic import PARTIAL, read_arrays, replacing, write_arrays
from covis.images.decode import load_image
from covis.images.orientation import turn_image
from covis.matching import Matcher
from covis.matching.matcher import DEFAULT_MATCHER
from covis.messages import counted, differences, not_there
from covis.types import Features, GeometryKind, Matches

PICTURE_SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif", ".heic", ".heif")
)
KEPT_IN_MEMORY = 32
"""Pictures whose features stay in memory, about 1 MB each."""


@dataclass(frozen=True)
class Settings:
    """What the results depend on; see `covis.match`."""

    features: str = "xfeat"
    matcher: str = DEFAULT_MATCHER
    geometry: GeometryKind = "fundamental"
    max_keypoints: int = 4096
    max_size: int | None = DEFAULT_MAX_SIZE
    seed: int = 0
    rotate: Rotate = "none"
    full_depth: bool = False


@dataclass(frozen=True)
class PairResult:
    """A line of summary.csv.

    matches, inliers: counts. turn: of image1, see `Matches`. file: in `matches`.
    verdict, probability: that both show the same; empty where no geometry was asked for.
    note: what the geometry has to say. skipped: why there is no result; empty where there is one.
    """

    image0: str
    image1: str
    matches: int = 0
    inliers: int = 0
    turn: int = 0
    file: str = ""
    verdict: str = ""
    probability: float | None = None
    note: str = ""
    skipped: str = ""


@dataclass
class Summary:
    """How a run went.

    done: pairs with a result, `reused` of them from earlier. skipped: pairs without.
    extracted: pictures whose features were found in this run. failed: pictures that cannot be
    used, and why.
    """

    done: int = 0
    reused: int = 0
    skipped: int = 0
    extracted: int = 0
    failed: dict[str, str] = field(default_factory=dict)


def match_many(
    pairs: Iterable[tuple[Path, Path]],
    out: Path,
    settings: Settings | None = None,
    *,
    draw: bool = False,
    threads: int | None = None,
    report: Callable[[PairResult], None] | None = None,
) -> Summary:
    """Match each pair into the folder `out`; what is there already is not done again.

    A picture that cannot be used is reported, its pairs are skipped, the others go on. Killed
    at any moment and called again, it ends with the same files as an undisturbed run; memory
    does not grow with the number of pictures' features.

    draw: draw each pair as well. threads: processor threads, all by default.
    report: called with each pair's result.

    Raises ArgumentError when `out` holds results of other settings or is in use, CovisError
    when it cannot be written to, BundleError when the model is not there.
    """
    run = _Run(out, settings or Settings(), draw, threads)
    folders = ("features", "matches", "drawings") if draw else ("features", "matches")
    with _made_for(out, run.identity, folders), replacing(out / "summary.csv") as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        rows = csv.DictWriter(text, [column.name for column in fields(PairResult)])
        rows.writeheader()
        for image0, image1 in pairs:
            result = run.pair(image0, image1)
            rows.writerow(asdict(result))
            if report is not None:
                report(result)
        text.detach()
    return run.summary


def read_pairs(path: Path) -> list[tuple[Path, Path]]:
    """The pairs in a text file, two pictures a line.

    Names are separated by a tab if the line has one, else by spaces; then names with spaces go
    in double quotes. They are relative to the file's folder. Empty lines and lines that begin
    with # are left out. Raises ArgumentError on a file or a line that does not fit.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError:
        raise ArgumentError(not_there(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ArgumentError(f"{path}: cannot read the pairs ({error}).") from None
    pairs = []
    for number, line in enumerate(lines, 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        names = line.split("\t") if "\t" in line else re.findall(r'"[^"]*"|\S+', line)
        names = [name.strip().strip('"') for name in names]
        if len(names) != 2 or not all(names):
            raise ArgumentError(
                f"{path}, line {number}: two pictures are needed, not {len(names)}; put names "
                "with spaces in double quotes or a tab between the two."
            )
        pairs.append((path.parent / names[0], path.parent / names[1]))
    return pairs


def pictures_in(folder: Path) -> list[Path]:
    """The pictures that lie in `folder`, by name. Raises ArgumentError for fewer than two."""
    if not folder.is_dir():
        raise ArgumentError(not_there(folder, "folder"))
    found = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in PICTURE_SUFFIXES and not path.name.startswith(".")
    )
    if len(found) < 2:
        there = counted(len(found), "picture")
        raise ArgumentError(f"{folder}: {there} in it; two or more make pairs.")
    return found


class _Run:
    """The models, and what is known of each picture."""

    def __init__(self, out: Path, settings: Settings, draw: bool, threads: int | None) -> None:
        self.out, self.settings, self.draw = out, settings, draw
        self.summary = Summary()
        self._extract = Extractor(
            settings.features,
            max_keypoints=settings.max_keypoints,
            max_size=settings.max_size,
            semi_dense=settings.matcher == "semi-dense",
            threads=threads,
        )
        self._match = Matcher(
            settings.matcher,
            features=self._extract.source,
            full_depth=settings.full_depth,
            threads=threads,
        )
        lightglue = self._match.bundle(self._extract.model)
        named = settings.matcher if settings.matcher != "auto" else "nearest"
        self.identity = {
            **asdict(settings),
            "features": self._extract.model,
            "weights": self._extract.weights,
            "matcher": named if lightglue is None else lightglue.name,
            "matcher_weights": "" if lightglue is None else lightglue.digest(),
        }
        kept = ("features", "weights", "max_keypoints", "max_size", "matcher")
        self._key = _digest(json.dumps([self.identity[name] for name in kept]).encode())[:8]
        self._contents: dict[Path, str] = {}
        self._features = lru_cache(KEPT_IN_MEMORY)(self._find_features)

    def pair(self, image0: Path, image1: Path) -> PairResult:
        """Match one pair, or read its result if it is there."""
        names = str(image0), str(image1)
        try:
            name = self._pair_name(image0, image1)
            file = self.out / "matches" / f"{name}.npz"
            found = _stored_matches(file)
            self.summary.reused += found is not None
            if found is None:
                found = self._find_matches(image0, image1)
                found.save(file)
            if self.draw:
                self._draw(found, image0, image1, self.out / "drawings" / f"{name}.jpg")
        except ImageError as error:
            self.summary.skipped += 1
            return PairResult(*names, skipped=str(error))
        self.summary.done += 1
        note = found.geometry.note if found.geometry else ""
        agreeing = int(found.inliers.sum())
        verdict = found.verdict
        return PairResult(
            *names,
            len(found),
            agreeing,
            found.turn,
            file.name,
            verdict.label if verdict else "",
            verdict.probability if verdict else None,
            note,
        )

    def _pair_name(self, image0: Path, image1: Path) -> str:
        contents = [self._content(image) for image in (image0, image1)]
        stems = [re.sub(r"\W+", "_", image.stem, flags=re.ASCII)[:40] for image in (image0, image1)]
        return f"{stems[0]}--{stems[1]}--{_digest(' '.join(contents).encode())[:12]}"

    def _content(self, image: Path) -> str:
        if image not in self._contents:
            self._check(image)
            try:
                with image.open("rb") as file:
                    self._contents[image] = hashlib.file_digest(file, "sha256").hexdigest()
            except FileNotFoundError:
                raise self._fails(image, not_there(image)) from None
            except OSError as error:
                raise self._fails(image, f"{image} cannot be read: {error.strerror}.") from None
        return self._contents[image]

    def _check(self, image: Path) -> None:
        if str(image) in self.summary.failed:
            raise ImageError(self.summary.failed[str(image)])

    def _fails(self, image: Path, why: str) -> ImageError:
        self.summary.failed[str(image)] = why
        return ImageError(why)

    def _find_features(self, image: Path, turn: int = 0) -> tuple[Features, float | None]:
        """The features of a picture, turned, and its focal length.

        They come from the folder, or else from the picture.
        """
        self._check(image)
        name = f"{self._content(image)[:32]}-{self._key}" + (f"-{turn}" if turn else "")
        path = self.out / "features" / f"{name}.npz"
        try:
            arrays = read_arrays(path)
            focal = arrays.get("focal_length")
            return Features.from_arrays(arrays, path), None if focal is None else float(focal)
        except CovisError:
            pass
        try:
            loaded = load_image(image, max_size=self.settings.max_size)
        except ImageError as error:
            raise self._fails(image, str(error)) from None
        features = self._extract(turn_image(loaded, turn))
        self.summary.extracted += turn == 0
        arrays = features.to_arrays()
        if loaded.focal_length is not None:
            arrays["focal_length"] = np.array(loaded.focal_length)
        write_arrays(path, arrays)
        return features, loaded.focal_length

    def _find_matches(self, image0: Path, image1: Path) -> Matches:
        features0, focal0 = self._features(image0)
        features1, focal1 = self._features(image1)

        def check(found: Matches, kind: GeometryKind) -> Matches:
            return verify(
                found,
                features0,
                features1,
                kind,
                focal_a=focal0,
                focal_b=focal1,
                seed=self.settings.seed,
            )

        found = match_turned(
            self._match,
            features0,
            features1,
            lambda turn: self._features(image1, turn)[0],
            check,
            self.settings.geometry,
            self.settings.rotate,
        )
        return replace(found, licence=joint_licence(self._extract, found))

    def _draw(self, found: Matches, image0: Path, image1: Path, path: Path) -> None:
        if path.exists():
            return
        partial = path.with_name(f"{path.stem}{PARTIAL}{path.suffix}")
        found.draw(image0, image1, partial)
        partial.replace(path)


def _stored_matches(path: Path) -> Matches | None:
    try:
        return Matches.load(path)
    except CovisError:
        return None


@contextmanager
def _made_for(out: Path, identity: dict[str, Any], folders: Sequence[str]) -> Iterator[None]:
    """Make the folder, or take one made with the same settings, for this process alone."""
    try:
        for name in folders:
            (out / name).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CovisError(f"{out}: cannot make this folder ({error.strerror}).") from None
    with locked(out):
        settings = out / "settings.json"
        if settings.exists():
            _check_same(settings, identity)
        else:
            with replacing(settings) as file:
                file.write((json.dumps(identity, indent=2) + "\n").encode())
        for partial in [*out.glob(f"*{PARTIAL}*"), *out.glob(f"*/*{PARTIAL}*")]:
            partial.unlink()
        yield


def _check_same(settings: Path, identity: dict[str, Any]) -> None:
    try:
        before = dict(json.loads(settings.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise CovisError(f"{settings} is damaged ({error}); use another folder.") from None
    different = differences(before, identity, {"weights": "features", "matcher_weights": "matcher"})
    if different:
        raise ArgumentError(
            f"{settings.parent} holds matches made with other settings "
            f"({'; '.join(different)}). Use another folder, or the same settings."
        )


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep a second process out; the lock goes with the process. Windows has no such lock."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ArgumentError(f"{folder}: another process is matching into it.") from None
        yield
    finally:
        os.close(handle)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
