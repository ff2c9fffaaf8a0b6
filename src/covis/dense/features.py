"""Image -> descriptors on a grid, finer by a LiFT (ECCV 2024) than the backbone gives them.

The backbone sees the image at its own size, padded to what it takes by repeating the last row
and column. Cell (row, column) of a map with one cell every s pixels of that input describes the
place ((column + 0.5) s, (row + 0.5) s), where the centre of the top-left pixel is (0.5, 0.5):
for XFeat this was measured, by comparing the maps of mirrored images. Lifting halves s and keeps
the outer edge.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from math import ceil
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from covis.errors import ArgumentError, BundleError
from covis.images.decode import load_image
from covis.options import (
    AUTO_DENSE,
    DEFAULT_DENSE,
    DEFAULT_DEVICE,
    DEFAULT_MAX_SIZE,
    FINE_DENSE,
    VIT_MAX_SIZE,
    Device,
    RuntimeOptions,
    size_limit,
)
from covis.runtime.bundle import KIND, Bundle, find_bundle, installed_bundle
from covis.runtime.onnx import open_graphs
from covis.types import FloatArray, Image, Source

Task = Literal["match", "propagate", "discover", "show"]
VIT = "dinov2-small"
VIT_LIFT = "lift-dinov2-small"
UPSAMPLER = "upsampler-covis"
MOST_CHANNELS = 128
"""Of a picture, in OpenCV 5."""
SMALL_STRIDE = 8
"""Backbones with larger cells are ViTs."""


@dataclass(frozen=True, eq=False)
class DenseFeatures:
    """Descriptors on a grid over one image.

    descriptors: (h, w, D) float32, unit length. step: (x, y), full-size pixels from a cell to
    the next. width, height: full size of the image in pixels; the last row and column of cells
    may reach beyond it. model: name of the bundle. doublings: how often the backbone's own
    resolution was doubled, lifted or enlarged. common: whether the cells have a large part in
    common, as those of ViTs have, see `distinct`. backbone: of a ViT's lifted features those that
    it gave by itself, None for others.
    """

    descriptors: FloatArray
    step: tuple[float, float]
    width: int
    height: int
    model: str
    doublings: int = 0
    common: bool = False
    backbone: DenseFeatures | None = None

    @property
    def points(self) -> FloatArray:
        """(h, w, 2) float32: the place (x, y) that each cell describes, in full-size pixels, the
        centre of the top-left pixel at (0.5, 0.5)."""
        rows, columns = self.descriptors.shape[:2]
        x, y = ((np.arange(n) + 0.5) * s for n, s in zip((columns, rows), self.step, strict=True))
        return np.stack(np.meshgrid(x, y), axis=2).astype(np.float32)

    def at(self, points: FloatArray) -> FloatArray:
        """Descriptors of any places (N, 2) in full-size pixels -> (N, D), unit length.

        Bilinear between cells; beyond the outer cells' places the nearest of them.
        """
        rows, columns, _ = self.descriptors.shape
        cells = np.asarray(points, np.float32) / np.array(self.step, np.float32) - np.float32(0.5)
        cells = np.clip(cells, 0, np.array([columns - 1, rows - 1], np.float32))
        first = np.floor(cells).astype(np.intp)
        second = np.minimum(first + 1, (columns - 1, rows - 1))
        across, down = (cells - first).T[:, :, None]
        above, below = (
            self.descriptors[row, first[:, 0]] * (1 - across)
            + self.descriptors[row, second[:, 0]] * across
            for row in (first[:, 1], second[:, 1])
        )
        sampled = above * (1 - down) + below * down
        return sampled / np.maximum(np.linalg.norm(sampled, axis=1, keepdims=True), 1e-12)


def enlarge(features: DenseFeatures, times: int) -> DenseFeatures:
    """The same with twice as many cells each way, `times` times, bilinear between their places:
    what a LiFT has to beat."""
    factor = 2**times
    rows, columns = (factor * side for side in features.descriptors.shape[:2])
    count = -(-features.descriptors.shape[2] // MOST_CHANNELS)
    parts = [
        cv2.resize(part, (columns, rows), interpolation=cv2.INTER_LINEAR)
        for part in np.array_split(features.descriptors, count, axis=2)
    ]
    large = np.concatenate([np.atleast_3d(part) for part in parts], axis=2)
    step = features.step[0] / factor, features.step[1] / factor
    # Fewer where the image's last cell ends beyond it; a rounding error begins no cell.
    rows, columns = (
        ceil(side / cell - 1e-6)
        for side, cell in ((features.height, step[1]), (features.width, step[0]))
    )
    large = large[:rows, :columns]
    lengths = np.maximum(np.linalg.norm(large, axis=2, keepdims=True), 1e-12)
    doublings = features.doublings + times
    return replace(
        features, descriptors=large / lengths, step=step, doublings=doublings, backbone=None
    )


def distinct(features: DenseFeatures) -> DenseFeatures:
    """The same without what its cells have in common, their mean, which says nothing of the place;
    unit length again. Features without such a part are as they were."""
    if not features.common:
        return features
    rest = features.descriptors - features.descriptors.mean(axis=(0, 1))
    rest /= np.maximum(np.linalg.norm(rest, axis=2, keepdims=True), 1e-12)
    return replace(features, descriptors=rest, common=False)


def dense_bundle(model: str) -> Bundle:
    """The bundle for dense features of that name, or in that folder.

    Raises BundleError when there is none, ArgumentError when it is for something else.
    """
    bundle = find_bundle(_parts(model)[1], ("lift",))
    if bundle.architecture != "lift":
        raise ArgumentError(
            f"'{bundle.name}' is a bundle for {bundle.architecture}, not for dense features."
        )
    return bundle


def _parts(model: str) -> tuple[str, str]:
    """The backbone that "BACKBONE+LIFT" names, "" where `model` is a single name or a folder, and
    what is left."""
    if "+" not in model or Path(model).is_dir():
        return "", model
    backbone, _, lift = model.rpartition("+")
    return backbone, lift


def has_lift(bundle: Bundle) -> bool:
    """Whether its features can be lifted."""
    return "lift" in bundle.graphs


def serves_any(bundle: Bundle) -> bool:
    """Whether it lifts the features of any backbone."""
    return has_lift(bundle) and "backbone" not in bundle.graphs and KIND not in bundle.settings


def choose_model(task: Task = "match") -> tuple[str, str]:
    """The model that "auto" stands for, the best that is installed for a task, and what to install
    for a better one: a line, "" where there is none.

    Objects and alike parts are told apart by a ViT; outlines are followed by XFeat's finer cells,
    and ten times as fast.
    """
    if task == "propagate":
        return FINE_DENSE, ""
    if installed_bundle(VIT) is not None:
        return (VIT if task == "discover" else VIT_LIFT), ""
    better = f"'covis weights get {VIT}' brings a model that tells things apart better."
    return (FINE_DENSE if task == "show" else DEFAULT_DENSE), better


def with_backbone(bundle: Bundle, named: str = "") -> Bundle:
    """The bundle that makes the features, which is the same one unless it holds a LiFT alone.

    named: the one that was asked for, "" for none. An upsampler that serves any takes that, else
    the best that is installed.

    Raises BundleError when there is no such bundle, or it makes other features than those that the
    LiFT was trained on; ArgumentError when another one was asked for.
    """
    if serves_any(bundle):
        found = find_bundle(named or (DEFAULT_DENSE if installed_bundle(VIT) is None else VIT))
        if found.architecture != "lift" or "backbone" not in found.graphs:
            raise ArgumentError(f"'{found.name}' makes no dense features that could be enlarged.")
        return found
    if named and named != bundle.settings.get(KIND, {}).get("backbone"):
        raise ArgumentError(
            f"'{bundle.name}' lifts features of its own backbone, not of '{named}'."
        )
    if "backbone" in bundle.graphs:
        return bundle
    wanted = bundle.settings.get(KIND, {})
    name = wanted.get("backbone", "")
    backbone = installed_bundle(name)
    if backbone is None:
        raise BundleError(
            f"'{bundle.name}' lifts the features of {name}, which is not here: 'covis weights get "
            f"{name}'."
        )
    made = backbone.settings.get(KIND, {})
    if "backbone" not in backbone.graphs or any(
        made.get(what) != wanted.get(what) for what in ("fingerprint", "layer", "facet")
    ):
        raise BundleError(
            f"'{bundle.name}' lifts the features of {name} as 'covis weights get {name}' makes "
            f"them; the model in {backbone.folder} gives others. Get it again, with --force."
        )
    return backbone


class DenseExtractor:
    """Describes every place of images.

    stride: pixels of the network's input that a cell of the backbone covers, each way.

    >>> describe = DenseExtractor(lifts=1)
    >>> features = describe("photo.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        model: str = DEFAULT_DENSE,
        *,
        lifts: int | None = None,
        max_size: int | None = None,
        threads: int | None = None,
        device: Device = DEFAULT_DEVICE,
    ) -> None:
        """Load the model.

        model: the name or the folder of a bundle for dense features; "auto" for that of
            `choose_model`; "BACKBONE+upsampler-covis" for the features of any other one, enlarged.
        lifts: how often the resolution is doubled: a descriptor every 8, 4 or 2 pixels for 0, 1
            or 2, of XFeat. By default 1, or 0 where the model has no LiFT.
        max_size: larger images are shrunk to this longest side, in pixels, 960 by default, 448
            for a ViT; 0 for full size.
        threads: processor threads; all by default.
        device: where networks run, "auto" by default; see `RuntimeOptions`.

        Raises ArgumentError on a value out of range, or lifts without a LiFT; BundleError when
        the model is not there.
        """
        if lifts is not None and lifts < 0:
            raise ArgumentError(f"lifts must be 0 or more, not {lifts}.")
        size_limit(max_size)
        runtime = RuntimeOptions(threads=threads, device=device)
        model = choose_model()[0] if model == AUTO_DENSE else model
        bundle = dense_bundle(model)
        if lifts and not has_lift(bundle):
            raise ArgumentError(
                f"'{bundle.name}' has no LiFT, so its features cannot be lifted: take 0 lifts, or "
                "make the model again by 'covis weights import' with --lift FILE. 'covis train "
                "lift' trains one."
            )
        self.lifts = int(has_lift(bundle)) if lifts is None else lifts
        base = with_backbone(bundle, _parts(model)[0])
        self.model, self.licence = bundle.name, bundle.licence
        if serves_any(bundle):
            self.model = f"{base.name}+{bundle.name}" if self.lifts else base.name
        if base is not bundle:
            self.licence += f" (LiFT); {base.licence} (backbone)"
        self.stride: int = base.settings["stride"]
        usual = DEFAULT_MAX_SIZE if self.stride <= SMALL_STRIDE else VIT_MAX_SIZE
        self.max_size = size_limit(max_size, usual)
        self._base = base
        self._cell: int = bundle.settings.get("cell", self.stride)
        self._unit = base.settings.get("unit", True) and not serves_any(bundle)
        self._backbone = open_graphs(base, ("backbone",), runtime)["backbone"]
        self._lift = open_graphs(bundle, ("lift",), runtime)["lift"] if self.lifts else None

    def __call__(self, image: Source) -> DenseFeatures:
        """The dense features of one image: a path, an array, a PIL image or an `Image`.

        Raises ImageError as `load_image` does.
        """
        loaded = load_image(image, max_size=self.max_size)
        padded = pad(loaded.pixels, self._base.settings["multiple"])
        seen, own = self._backbone(["image", "features"], pixels=padded)
        features = own
        for _ in range(self.lifts):
            assert self._lift is not None
            fitting = resized(seen, *(self._cell * side for side in features.shape[2:]))
            (features,) = self._lift(["lifted"], image=fitting, features=features)
        describe = partial(
            described, image=loaded, backbone=self._base, model=self.model, unit=self._unit
        )
        found = describe(features, doublings=self.lifts)
        if self.lifts and found.common:
            return replace(found, backbone=describe(own, doublings=0))
        return found


def described(
    features: FloatArray,
    image: Image,
    backbone: Bundle,
    *,
    doublings: int,
    model: str = "",
    unit: bool = False,
) -> DenseFeatures:
    """Features (1, C, h, w) of an image, perhaps padded, as a bundle's backbone gave them and their
    resolution was doubled so often.

    model: its name where it is another one. unit: whether they have unit length already.
    """
    cell = backbone.settings["stride"] / 2**doublings
    height, width = image.pixels.shape[:2]
    rows, columns = (-(-side // cell) for side in (height, width))
    cropped = features[0, :, : int(rows), : int(columns)]
    descriptors = np.ascontiguousarray(cropped.transpose(1, 2, 0))
    if not unit:
        descriptors /= np.maximum(np.linalg.norm(descriptors, axis=2, keepdims=True), 1e-12)
    return DenseFeatures(
        descriptors=descriptors,
        step=(cell * image.width / width, cell * image.height / height),
        width=image.width,
        height=image.height,
        model=model or backbone.name,
        doublings=doublings,
        common=not backbone.settings.get("unit", True),
    )


def pad(pixels: NDArray[np.uint8], multiple: int) -> NDArray[np.uint8]:
    """Repeat the last row and column of (h, w, 3) up to multiples of `multiple`."""
    down, right = (-side % multiple for side in pixels.shape[:2])
    return np.pad(pixels, ((0, down), (0, right), (0, 0)), mode="edge")


def resized(image: FloatArray, height: int, width: int) -> FloatArray:
    """(1, 3, H, W) -> (1, 3, height, width), bilinear."""
    if image.shape[2:] == (height, width):
        return image
    channels = [
        cv2.resize(channel, (width, height), interpolation=cv2.INTER_LINEAR) for channel in image[0]
    ]
    return np.stack(channels)[None]
