"""What flows between the rooms: images, features, matches, geometry.

Coordinates everywhere: (x, y) in the pixels of the image as a person sees it (EXIF
orientation applied, full size), the centre of the top-left pixel at (0.5, 0.5), as in COLMAP.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray

from covis.errors import ArgumentError, CovisError
from covis.files.atomic import read_arrays, write_arrays
from covis.messages import counted
from covis.notebook import table
from covis.options import GeometryKind as GeometryKind

if TYPE_CHECKING:
    import PIL.Image

FloatArray = NDArray[np.float32]
BoolArray = NDArray[np.bool_]
Matrix = NDArray[np.float64]
Source: TypeAlias = "str | os.PathLike[str] | PIL.Image.Image | NDArray[Any] | Image"
"""What `load_image` takes."""
MaskSource: TypeAlias = "str | os.PathLike[str] | NDArray[Any]"
"""What says where an image is to be ignored, see `load_image`."""

VerdictLabel = Literal["same", "different", "unsure"]

DRAWN_SIZE = 1600
"""Images are shrunk to this longest side, in pixels, before they are drawn."""


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded picture, perhaps smaller than its file says.

    pixels: (h, w, 3) uint8, RGB, upright.
    width, height: the full size of the upright picture in pixels; coordinates refer to it.
        `pixels` may be smaller when a maximal size was asked for.
    mask: (h, w) bool, True where the picture is to be ignored; None for nowhere.
    name: the path, or a word for an array, for messages.
    focal_length: in pixels of the full size, from EXIF; None where the file does not say.
    orientation: EXIF's word for how the file's pixels were turned to get here, 1 for not at all.
    focal_ignored: why a focal length in EXIF was not used, in words; empty where there is none.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    mask: BoolArray | None = None
    name: str = "array"
    focal_length: float | None = None
    orientation: int = 1
    focal_ignored: str = ""

    def __repr__(self) -> str:
        rows, columns = self.pixels.shape[:2]
        shrunk = "" if (columns, rows) == (self.width, self.height) else f" at {columns}x{rows}"
        return f"Image({self.name}, {self.width}x{self.height}{shrunk})"

    def _repr_png_(self) -> bytes:
        import io

        import PIL.Image

        encoded = io.BytesIO()
        PIL.Image.fromarray(self.pixels).save(encoded, "PNG")
        return encoded.getvalue()


@dataclass(frozen=True, eq=False)
class Features:
    """Local features of one image, best first.

    Float arrays of another precision are converted to float32. Raises ArgumentError for arrays
    that are of another kind, of unequal lengths, or with keypoints or descriptors that are NaN or
    infinite.

    keypoints: (N, 2) float32, (x, y) in full-size pixels, top-left pixel's centre (0.5, 0.5).
    scores: (N,) float32, larger is better.
    descriptors: (N, D) float32.
    width, height: full size of the image in pixels.
    model: name of the bundle or method that made them.
    scales: (N,) float32, the feature's size in pixels; None where the method has none.
    orientations: (N,) float32, radians clockwise as seen; None where the method has none.
    pixel_sizes: (N, 2) float32, how many full-size pixels (x, y) a pixel of the network's
        input covers at each feature; only semi-dense features have them, to be refined.
    global_descriptor: (G,) float32, unit length, of the whole image, to search with; None where
        the model has none.
    """

    keypoints: FloatArray
    scores: FloatArray
    descriptors: FloatArray
    width: int
    height: int
    model: str
    scales: FloatArray | None = None
    orientations: FloatArray | None = None
    pixel_sizes: FloatArray | None = None
    global_descriptor: FloatArray | None = None

    def __post_init__(self) -> None:
        for name, row in _PER_KEYPOINT.items():
            if getattr(self, name) is not None or name in _REQUIRED:
                count = None if name == "keypoints" else len(self)
                self._check(name, (count, *row))
        if self.global_descriptor is not None:
            self._check("global_descriptor", (None,))

    def _check(self, name: str, shape: tuple[int | None, ...]) -> None:
        """Raise ArgumentError for a field that does not fit; None in a shape is for any length."""
        values = getattr(self, name)
        if not isinstance(values, np.ndarray) or values.dtype.kind != "f":
            kind = values.dtype if isinstance(values, np.ndarray) else type(values).__name__
            raise ArgumentError(
                f"{name} must be a NumPy array of floats, not {kind}; covis.convert takes what "
                "other libraries have."
            )
        fits = len(shape) == values.ndim and all(
            wanted in (None, side) for wanted, side in zip(shape, values.shape, strict=True)
        )
        if not fits:
            letters = {0: "N", 1: "D"}
            wanted = [letters[at] if side is None else str(side) for at, side in enumerate(shape)]
            raise ArgumentError(
                f"{name} must have the shape ({', '.join(wanted)}), not {values.shape}; "
                f"there are {counted(len(self.keypoints), 'keypoint')}."
            )
        with np.errstate(all="ignore"):
            if values.dtype != np.float32:
                values = values.astype(np.float32)
                object.__setattr__(self, name, values)
            # One sum is far cheaper than to look at every number.
            suspicious = name in _FINITE and not np.isfinite(values.sum())
        if suspicious and (bad := ~np.isfinite(values).all(axis=1)).any():
            raise ArgumentError(
                f"{name} are NaN or infinite in {bad.sum():,} of {len(bad):,} rows, first in row "
                f"{bad.argmax()}; leave these keypoints out."
            )

    def __len__(self) -> int:
        return len(self.keypoints)

    def _repr_html_(self) -> str:
        size = f"{self.width}x{self.height}"
        rows = [["keypoints", f"{len(self):,}"], ["image", size], ["model", self.model]]
        return table([*rows, ["descriptors", f"{self.descriptors.shape[1]} numbers each"]])

    def __repr__(self) -> str:
        return (
            f"Features({counted(len(self), 'keypoint')} of {self.model}, "
            f"{self.descriptors.shape[1]} numbers each, image {self.width}x{self.height})"
        )

    def take(self, indices: NDArray[np.integer[Any]] | BoolArray | slice) -> Self:
        """Some of the features, with all that belongs to them.

        indices: (K,) integers, in the order wanted; (N,) bool, True for those to keep; or a slice,
            `slice(500)` for the best 500, which copies nothing.

        Raises ArgumentError where there are not as many features.
        """
        fields = {name: getattr(self, name) for name in _PER_KEYPOINT}
        try:
            some = {k: values[indices] for k, values in fields.items() if values is not None}
        except IndexError as error:
            raise ArgumentError(f"no such features among {len(self):,}: {error}.") from None
        return replace(self, **some)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to an .npz file, whole or not at all. Raises CovisError when it cannot."""
        write_arrays(path, self.to_arrays())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises CovisError for any other file."""
        return cls.from_arrays(read_arrays(path), path)

    def to_arrays(self) -> dict[str, NDArray[Any]]:
        """Everything by name, as `save` stores it."""
        return _present(vars(self))

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], name: str | os.PathLike[str] = "features"
    ) -> Self:
        """The opposite of `to_arrays`; other arrays are left alone.

        Raises CovisError, which begins with `name`, when something is missing or does not fit.
        """
        complaint = f"{name}: not the features of an image"
        check = _Stored(arrays, complaint)
        try:
            return cls(
                keypoints=check.array("keypoints", np.float32),
                scores=check.array("scores", np.float32),
                descriptors=check.array("descriptors", np.float32),
                width=int(check.array("width", np.int64, ())),
                height=int(check.array("height", np.int64, ())),
                model=check.text("model"),
                scales=check.optional("scales", np.float32),
                orientations=check.optional("orientations", np.float32),
                pixel_sizes=check.optional("pixel_sizes", np.float32),
                global_descriptor=check.optional("global_descriptor", np.float32),
            )
        except ArgumentError as error:
            raise CovisError(f"{complaint} ({str(error).removesuffix('.')}).") from None


_REQUIRED = ("keypoints", "scores", "descriptors")
_FINITE = ("keypoints", "descriptors")
_PER_KEYPOINT: Mapping[str, tuple[int | None, ...]] = {
    "keypoints": (2,),
    "scores": (),
    "descriptors": (None,),
    "scales": (),
    "orientations": (),
    "pixel_sizes": (2,),
}
"""The fields that have a row a keypoint, and the shape of a row; None for any length."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """A two-view model fitted to matches.

    kind: what was asked for.
    matrix: (3, 3) float64 that maps homogeneous points of image 0: a homography H_1from0,
        or a fundamental or essential matrix with x1^T M x0 = 0. None where none was found.
        H and F take full-size pixels, E camera coordinates.
    inliers: (N,) bool, one a match; all True for the kind "none", where nothing speaks against
        any.
    note: a sentence for people: why there is no model, or which focal length was assumed.
    rotation_1from0: (3, 3), essential only. translation_1from0: (3,), unit length.
    """

    kind: GeometryKind
    matrix: Matrix | None
    inliers: BoolArray
    note: str = ""
    rotation_1from0: Matrix | None = None
    translation_1from0: Matrix | None = None

    def __repr__(self) -> str:
        if self.kind == "none":
            return "Geometry(none)"
        return f"Geometry({self.kind}, {counted(int(self.inliers.sum()), 'inlier')})"


@dataclass(frozen=True)
class Verdict:
    """Whether two images show the same thing.

    probability: that they do, 0..1, where both answers were as likely beforehand.
    label: what to make of it. "same" is wrong about once in a thousand pairs of different
        photographs, and more often where both have alike frames, logos or texts; "unsure" means
        that more keypoints, other pictures or a person must tell.
    """

    label: VerdictLabel
    probability: float


@dataclass(frozen=True)
class Attempt:
    """One way in which a pair was tried.

    method: features and matcher. view: how the pictures were seen, in words.
    matches, inliers: counts. probability: that both show the same, by this attempt alone.
    seconds: that it took; 0 in what was read from a file.
    """

    method: str
    view: str
    matches: int
    inliers: int
    probability: float
    seconds: float = 0.0


@dataclass(frozen=True, eq=False)
class Matches:
    """Which points of two images show the same, best first.

    They are one to one: a feature is in one match at most, and of several attempts matches are put
    together only where, to a pixel, neither end is another's. SIFT has two features at a point
    with two orientations.

    points0, points1: (N, 2) float32, full-size pixels of image 0 and image 1.
    scores: (N,) float32, 0..1, the matcher's confidence.
    indices: (N, 2) int64 into the two sets of features; None where points were refined away
        from them, or found in images that were turned, zoomed or drawn anew, by several methods,
        or with other features than the effort begins with.
    geometry: the model fitted to the matches; None before one was asked for.
    verdict: whether the images show the same thing; None without a geometry.
    turn: by how many degrees clockwise image 1 was turned to be matched, mirrored left to right
        before where `mirrored` says so; points1 and geometry are those of the image as it is.
    seconds: wall time by stage. model, licence: what made them and under which terms.
    attempts: what was tried, in order; empty where there was one way only. stopped: why no more
        was tried, in words.
    """

    points0: FloatArray
    points1: FloatArray
    scores: FloatArray
    indices: NDArray[np.int64] | None = None
    geometry: Geometry | None = None
    verdict: Verdict | None = None
    turn: int = 0
    mirrored: bool = False
    seconds: Mapping[str, float] = field(default_factory=dict)
    model: str = ""
    licence: str = ""
    attempts: tuple[Attempt, ...] = ()
    stopped: str = ""

    def __len__(self) -> int:
        return len(self.points0)

    def __repr__(self) -> str:
        words = [counted(len(self), "match", "matches")]
        if self.verified:
            words.append(counted(int(self.inliers.sum()), "inlier"))
        if self.verdict is not None:
            words.append(f"{self.verdict.label} {self.verdict.probability:.3f}")
        return f"Matches({', '.join(words)})"

    def _repr_html_(self) -> str:
        rows = [["matches", f"{len(self):,}"]]
        if self.verified:
            rows.append(["inliers", f"{int(self.inliers.sum()):,}"])
        if self.verdict is not None:
            rows.append(["verdict", f"{self.verdict.label}, {self.verdict.probability:.3f}"])
        return table([*rows, ["model", self.model], ["licence", self.licence]])

    @property
    def verified(self) -> bool:
        """Whether a geometry was fitted, so that `inliers` tells anything."""
        return self.geometry is not None and self.geometry.kind != "none"

    @property
    def inliers(self) -> BoolArray:
        """(N,) bool: the matches the geometry agrees with.

        All of them where none was asked for, `geometry="none"` included: `points0[inliers]` is
        then every match. `verified` tells which it is.
        """
        if self.geometry is None:
            return np.ones(len(self), bool)
        return self.geometry.inliers

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write them to an .npz file, whole or not at all, without any seconds.

        The arrays have the names of the fields; those of the geometry and of the verdict, which
        are left out where there is none, begin with "geometry_" and "verdict_"; "attempts" is a
        list in JSON. Raises CovisError when it cannot be written.
        """
        parts = {"geometry": self.geometry, "verdict": self.verdict}
        plain = {k: v for k, v in vars(self).items() if k not in (*parts, "seconds")}
        if self.attempts:
            tried = [asdict(each) for each in self.attempts]
            plain["attempts"] = json.dumps(
                [{k: v for k, v in each.items() if k != "seconds"} for each in tried]
            )
        else:
            del plain["attempts"], plain["stopped"]
        arrays = _present(plain)
        for name, part in parts.items():
            if part is not None:
                arrays |= {f"{name}_{k}": v for k, v in _present(vars(part)).items()}
        write_arrays(path, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read what `save` wrote. Raises CovisError for any other file."""
        arrays = read_arrays(path)
        n, f32, f64 = (
            arrays["points0"].shape[:1] if "points0" in arrays else (),
            np.float32,
            np.float64,
        )
        check = _Stored(arrays, f"{path}: not the matches of two images")
        geometry = None
        if "geometry_kind" in arrays:
            geometry = Geometry(
                kind=check.choice("geometry_kind", get_args(GeometryKind)),
                matrix=check.optional("geometry_matrix", f64, (3, 3)),
                inliers=check.array("geometry_inliers", np.bool_, n),
                note=check.text("geometry_note"),
                rotation_1from0=check.optional("geometry_rotation_1from0", f64, (3, 3)),
                translation_1from0=check.optional("geometry_translation_1from0", f64, (3,)),
            )
        verdict = None
        if "verdict_label" in arrays:
            verdict = Verdict(
                label=check.choice("verdict_label", get_args(VerdictLabel)),
                probability=float(check.array("verdict_probability", f64, ())),
            )
        return cls(
            points0=check.array("points0", f32, (*n, 2)),
            points1=check.array("points1", f32, (*n, 2)),
            scores=check.array("scores", f32, n),
            indices=check.optional("indices", np.int64, (*n, 2)),
            geometry=geometry,
            verdict=verdict,
            turn=int(check.array("turn", np.int64, ())),
            mirrored=bool(check.optional("mirrored", np.bool_, ())),
            model=check.text("model"),
            licence=check.text("licence"),
            attempts=check.attempts(),
            stopped=check.text("stopped") if "stopped" in arrays else "",
        )

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain numbers, lists and words, ready for JSON.

        `matches` and `inliers` are counts; `inlier_mask` says which matches those are. Both are
        None where no geometry was asked for.
        """
        geometry = self.geometry
        return {
            "matches": len(self),
            "inliers": int(self.inliers.sum()) if self.verified else None,
            "points0": self.points0.tolist(),
            "points1": self.points1.tolist(),
            "scores": self.scores.tolist(),
            "inlier_mask": self.inliers.tolist() if self.verified else None,
            "geometry": None
            if geometry is None
            else {
                "kind": geometry.kind,
                "matrix": _listed(geometry.matrix),
                "note": geometry.note,
                "rotation_1from0": _listed(geometry.rotation_1from0),
                "translation_1from0": _listed(geometry.translation_1from0),
            },
            "verdict": None if self.verdict is None else asdict(self.verdict),
            "turn": self.turn,
            "mirrored": self.mirrored,
            "seconds": dict(self.seconds),
            "model": self.model,
            "licence": self.licence,
            "attempts": [asdict(each) for each in self.attempts],
            "stopped": self.stopped,
        }

    def draw(
        self, image0: Source, image1: Source, path: str | os.PathLike[str] | None = None
    ) -> NDArray[np.uint8]:
        """Both images side by side and lines between them, (h, w, 3) RGB; see `draw_matches`.

        image0, image1: what `load_image` takes. path: where to write the picture as well.
        """
        from covis.draw.canvas import save_picture
        from covis.draw.matches import draw_matches
        from covis.images.decode import load_image

        loaded0, loaded1 = (load_image(image, max_size=DRAWN_SIZE) for image in (image0, image1))
        picture = draw_matches(loaded0, loaded1, self)
        if path is not None:
            save_picture(picture, path)
        return picture


@dataclass(frozen=True)
class _Stored:
    """Arrays read from a file, checked as they are taken out."""

    arrays: Mapping[str, NDArray[Any]]
    complaint: str

    def array(
        self, name: str, dtype: DTypeLike, shape: tuple[int, ...] | None = None
    ) -> NDArray[Any]:
        """One of them; any shape will do where none is given."""
        if name not in self.arrays:
            raise CovisError(f"{self.complaint} ({name} is missing).")
        found = self.arrays[name]
        if found.dtype != dtype or shape not in (None, found.shape):
            raise CovisError(f"{self.complaint} ({name} is {found.dtype} {found.shape}).")
        return found

    def optional(
        self, name: str, dtype: DTypeLike, shape: tuple[int, ...] | None = None
    ) -> NDArray[Any] | None:
        return self.array(name, dtype, shape) if name in self.arrays else None

    def text(self, name: str) -> str:
        if name not in self.arrays or self.arrays[name].dtype.kind != "U":
            raise CovisError(f"{self.complaint} ({name} is missing).")
        return str(self.arrays[name])

    def attempts(self) -> tuple[Attempt, ...]:
        if "attempts" not in self.arrays:
            return ()
        try:
            return tuple(Attempt(**each) for each in json.loads(self.text("attempts")))
        except (ValueError, TypeError):
            raise CovisError(f"{self.complaint} (attempts are no list of them).") from None

    def choice(self, name: str, choices: tuple[str, ...]) -> Any:
        if self.text(name) not in choices:
            raise CovisError(f"{self.complaint} ({name} is '{self.text(name)}').")
        return self.text(name)


def _present(fields: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    return {name: np.asarray(value) for name, value in fields.items() if value is not None}


def _listed(matrix: Matrix | None) -> list[Any] | None:
    return None if matrix is None else matrix.tolist()
