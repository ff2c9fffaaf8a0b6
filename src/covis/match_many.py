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
import re
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from covis.api import escalate, match_turned, open_pipeline, verify
from covis.effort.attempts import joint_licence
from covis.effort.pictures import Change, Pictures, Tools
from covis.effort.plan import Plan
from covis.errors import CovisError, ImageError
from covis.files.atomic import PARTIAL, read_arrays, replacing, write_arrays
from covis.files.run_folder import run_folder
from covis.geometry.agreement import View
from covis.geometry.look_alikes import LOOKED_FROM, judge_by_pictures
from covis.images.decode import enlarged, load_image
from covis.images.opened import check_file
from covis.images.orientation import TURNS, Orientation
from covis.options import GeometryKind, MatchOptions, RuntimeOptions
from covis.types import Features, Image, Matches

KEPT_IN_MEMORY = 32
"""Pictures whose features stay in memory, about 1 MB each."""
IMAGES_IN_MEMORY = 4
"""Pictures that stay decoded."""
KEPT_VIEWS = tuple(Change(turn=turn) for turn in (0, *TURNS))
"""In which the features of a picture are written down."""
_FOLLOWS = {"weights": "features", "matcher_weights": "matcher"}


@dataclass(frozen=True)
class PairResult:
    """A line of summary.csv.

    matches, inliers: counts; no inliers are counted without a geometry. turn, mirrored: of
        image1, see `Matches`. file: in `matches`.
    verdict, probability: that both show the same; empty where no geometry was asked for.
    note: what the geometry has to say. skipped: why there is no result; empty where there is one.
    """

    image0: str
    image1: str
    matches: int = 0
    inliers: int | None = 0
    turn: int = 0
    file: str = ""
    verdict: str = ""
    probability: float | None = None
    note: str = ""
    skipped: str = ""
    mirrored: bool = False


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
    options: MatchOptions | None = None,
    *,
    draw: bool = False,
    runtime: RuntimeOptions | None = None,
    report: Callable[[PairResult], None] | None = None,
) -> Summary:
    """Match each pair into the folder `out`; what is there already is not done again.

    A picture that cannot be used is reported, its pairs are skipped, the others go on. Killed
    at any moment and called again, it ends with the same files as an undisturbed run; memory
    does not grow with the number of pictures' features.

    options: what the results depend on. draw: draw each pair as well. runtime: how many threads.
    report: called with each pair's result.

    Raises ArgumentError when `out` holds results of other settings or is in use, CovisError
    when it cannot be written to, BundleError when the model is not there.
    """
    run = _Run(out, options or MatchOptions(), draw, runtime)
    folders = ("features", "matches", "drawings") if draw else ("features", "matches")
    with (
        run_folder(out, run.identity, folders, _FOLLOWS),
        replacing(out / "summary.csv") as file,
    ):
        text = io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="")
        rows = csv.DictWriter(text, [column.name for column in fields(PairResult)])
        rows.writeheader()
        for image0, image1 in pairs:
            result = run.pair(image0, image1)
            rows.writerow(asdict(result))
            if report is not None:
                report(result)
        text.detach()
    return run.summary


class _Run:
    """The models, and what is known of each picture."""

    def __init__(
        self, out: Path, options: MatchOptions, draw: bool, runtime: RuntimeOptions | None
    ) -> None:
        self.out, self.options, self.draw = out, options, draw
        self.summary = Summary()
        self._plan: Plan | None = None
        if options.escalates:
            self._plan = Plan.of(options.effort, options.features)
            self._tools = Tools(options.extractor, runtime, options.full_depth)
            self._extract = self._tools.extractor(self._plan.cheap.features)
            matcher, weights = str(options.effort), self._tools.digest(self._plan)
        else:
            self._extract, self._match = open_pipeline(options, runtime)
            opened = self._match.opened(self._extract.model)
            matcher = opened.name
            weights = "" if opened.bundle is None else opened.bundle.digest()
        said = asdict(options)
        if self._plan is None:  # They have no say then.
            del said["effort"], said["budget"]
        self.identity = {
            **said,
            "features": self._extract.model,
            "max_keypoints": self._extract.max_keypoints,
            "max_size": self._extract.max_size or None,
            "weights": self._extract.weights,
            "matcher": matcher,
            "matcher_weights": weights,
        }
        kept = ("features", "weights", "max_keypoints", "max_size", "matcher")
        self._key = _digest(json.dumps([self.identity[name] for name in kept]).encode())[:8]
        self._images = lru_cache(IMAGES_IN_MEMORY)(self._load)
        self._contents: dict[Path, str] = {}
        self._features = lru_cache(KEPT_IN_MEMORY)(self._find_features)
        self._views = lru_cache(KEPT_IN_MEMORY)(self._find_view)

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
        agreeing = int(found.inliers.sum()) if found.verified else None
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
            mirrored=found.mirrored,
        )

    def _pair_name(self, image0: Path, image1: Path) -> str:
        contents = [self._content(image) for image in (image0, image1)]
        stems = [re.sub(r"\W+", "_", image.stem, flags=re.ASCII)[:40] for image in (image0, image1)]
        return f"{stems[0]}--{stems[1]}--{_digest(' '.join(contents).encode())[:12]}"

    def _content(self, image: Path) -> str:
        if image not in self._contents:
            self._check(image)
            try:
                check_file(image)
                with image.open("rb") as file:
                    self._contents[image] = hashlib.file_digest(file, "sha256").hexdigest()
            except ImageError as error:
                raise self._fails(image, str(error)) from None
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
        loaded = enlarged(self._images(image))
        features = self._extract(Orientation(turn).of_picture(loaded))
        self.summary.extracted += turn == 0
        arrays = features.to_arrays()
        if loaded.focal_length is not None:
            arrays["focal_length"] = np.array(loaded.focal_length)
        write_arrays(path, arrays)
        return features, loaded.focal_length

    def _load(self, image: Path) -> Image:
        try:
            return load_image(image, max_size=self._extract.max_size)
        except ImageError as error:
            raise self._fails(image, str(error)) from None

    def _find_matches(self, image0: Path, image1: Path) -> Matches:
        found = (
            self._match_one_way(image0, image1)
            if self._plan is None
            else self._match_with_effort(image0, image1, self._plan)
        )
        if found.verdict is None or found.verdict.probability < LOOKED_FROM:
            return found
        return judge_by_pictures(found, self._views(image0), self._views(image1))

    def _match_with_effort(self, image0: Path, image1: Path, plan: Plan) -> Matches:
        paths = image0, image1
        focals = [self._features(path)[1] for path in paths]

        def known(number: int, features: str, view: Change) -> Features | None:
            if features != plan.cheap.features or view not in KEPT_VIEWS:
                return None
            return self._features(paths[number], view.turn)[0]

        def check(found: Matches, kind: GeometryKind, one: Features, two: Features) -> Matches:
            seed, (focal0, focal1) = self.options.seed, focals
            return verify(found, one, two, kind, focal0=focal0, focal1=focal1, seed=seed)

        pictures = Pictures(lambda number: self._images(paths[number]), self._tools, known)
        return escalate(pictures, plan, check, self.options)

    def _match_one_way(self, image0: Path, image1: Path) -> Matches:
        features0, focal0 = self._features(image0)
        features1, focal1 = self._features(image1)

        def check(found: Matches, kind: GeometryKind) -> Matches:
            return verify(
                found,
                features0,
                features1,
                kind,
                focal0=focal0,
                focal1=focal1,
                seed=self.options.seed,
            )

        found = match_turned(
            self._match,
            features0,
            features1,
            lambda turn: self._features(image1, turn)[0],
            check,
            self.options.geometry,
            self.options.rotate,
        )
        return replace(found, licence=joint_licence(self._extract, found))

    def _find_view(self, image: Path) -> View:
        """A picture to be laid over another."""
        return View.of(self._images(image))

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


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
