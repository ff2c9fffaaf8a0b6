"""The public extractor: one object for many images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict
from functools import cached_property
from typing import Self

from covis.errors import ArgumentError, ImageError
from covis.features.registry import HANDCRAFTED, LocalFeatures, SemiDenseFeatures
from covis.files.paths import StrPath, listed
from covis.images.decode import load_image
from covis.options import (
    DEFAULT_DEVICE,
    DEFAULT_FEATURES,
    DEFAULT_MAX_KEYPOINTS,
    Device,
    ExtractorOptions,
    RuntimeOptions,
    free_memory,
    size_limit,
)
from covis.runtime.architectures import ARCHITECTURES, load, names
from covis.runtime.bundle import Bundle, find_bundle
from covis.types import Features, Image, MaskSource, Source

ALIASES = {"xfeat": "xfeat-covis"}
"""What names stand for: the weights in the package."""
LARGE = 10_000_000
"""Pixels from which on the memory that features take is looked at, unless tiles bound it."""


def model_name(features: str) -> str:
    """The model of what `Extractor` takes, a name or a folder, as `Extractor.model` will say it.

    Raises BundleError where there is none.
    """
    source = ALIASES.get(features, features)
    return source if source in HANDCRAFTED else find_bundle(source).name


class Extractor:
    """Finds the local features of images.

    >>> extract = Extractor(max_keypoints=2048)
    >>> features = extract("photo.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        features: str | None = None,
        *,
        max_keypoints: int | None = None,
        max_size: int | None = None,
        semi_dense: bool = False,
        threshold: float | None = None,
        threads: int | None = None,
        device: Device = DEFAULT_DEVICE,
    ) -> None:
        """Load the model. None leaves a value to covis.

        features: "xfeat" (by default) for the one in the package, the name or the folder of
            another bundle, or "sift".
        max_keypoints: at most so many features an image, 4096 by default.
        max_size: larger images are shrunk to this longest side, in pixels, 960 by default; 0 for
            full size. Keypoints always refer to the full size.
        semi_dense: XFeat*'s features, for the matcher "semi-dense".
        threshold: least score of a sparse keypoint; the published one of the network by default.
        threads: processor threads; all by default.
        device: where networks run, "auto" by default; see `RuntimeOptions`.

        Raises ArgumentError on a value out of range, BundleError when the model is not there.
        """
        asked = ExtractorOptions(
            features=features,
            max_keypoints=max_keypoints,
            max_size=max_size,
            semi_dense=semi_dense,
            threshold=threshold,
        )
        self.source = asked.features or DEFAULT_FEATURES
        self.source = ALIASES.get(self.source, self.source)
        self.max_keypoints = asked.max_keypoints or DEFAULT_MAX_KEYPOINTS
        self.max_size = size_limit(asked.max_size)
        self.semi_dense = asked.semi_dense
        self._bundle: Bundle | None = None
        self._finds = self._open(RuntimeOptions(threads=threads, device=device))
        if semi_dense and not isinstance(self._finds, SemiDenseFeatures):
            kind = f" ({self._bundle.architecture})" if self._bundle else ""
            raise ArgumentError(
                f"'{self.model}'{kind} has no semi-dense features; use features='xfeat'."
            )
        given = asked.threshold
        self.threshold: float = self._finds.THRESHOLD if given is None else given

    @classmethod
    def from_options(cls, options: ExtractorOptions, runtime: RuntimeOptions | None = None) -> Self:
        """The same from options objects."""
        return cls(**asdict(options), **asdict(runtime or RuntimeOptions()))

    def _open(self, runtime: RuntimeOptions) -> LocalFeatures:
        """Find and load the model; notes its name, licence and bundle."""
        finds: LocalFeatures
        row = HANDCRAFTED.get(self.source)
        if row is not None:
            self.model, self.licence = self.source, row.licence
            finds = load(row.finds)()
            return finds
        networks = names("features")
        bundle = find_bundle(self.source, networks, tuple(HANDCRAFTED))
        if bundle.architecture not in networks:
            raise ArgumentError(
                f"'{bundle.name}' is a bundle for {bundle.architecture}, not for features."
            )
        self._bundle = bundle
        self.model, self.licence = bundle.name, bundle.licence
        finds = load(ARCHITECTURES[bundle.architecture].runs)(bundle, runtime)
        return finds

    @property
    def options(self) -> ExtractorOptions:
        """What it was made with, nothing left to covis: `from_options` makes the same anew."""
        return ExtractorOptions(
            features=self.source,
            max_keypoints=self.max_keypoints,
            max_size=self.max_size,
            semi_dense=self.semi_dense,
            threshold=self.threshold,
        )

    @cached_property
    def weights(self) -> str:
        """`Bundle.digest` of the model; empty for one without weights."""
        return "" if self._bundle is None else self._bundle.digest()

    def __call__(self, image: Source, mask: MaskSource | None = None) -> Features:
        """The features of one image: a path, an array, a PIL image or an `Image`.

        mask: where to find nothing, see `load_image`. Raises ImageError as it does.
        """
        return self.batch([self._load(image, mask)])[0]

    def batch(self, images: StrPath | Sequence[Source]) -> list[Features]:
        """The features of several images; the same as one by one. One path is a list of one.

        Images that the network sees at one size go through it a few together.
        """
        loaded = [self._load(image) for image in listed(images)]
        for image in loaded:
            self._check_memory(image)
        if self.semi_dense:
            assert isinstance(self._finds, SemiDenseFeatures)
            return [self._finds.semi_dense(image, self.max_keypoints) for image in loaded]
        return self._finds.sparse(loaded, self.max_keypoints, self.threshold)

    def _load(self, image: Source, mask: MaskSource | None = None) -> Image:
        return load_image(image, max_size=self.max_size, mask=mask)

    def _check_memory(self, image: Image) -> None:
        """Raise ImageError for an image whose features would take more memory than is free."""
        rows, columns = image.pixels.shape[:2]
        each: int = getattr(self._finds, "BYTES", 0)
        if not each or rows * columns < LARGE or (free := free_memory()) is None:
            return
        if rows * columns * each > free:
            again = ""
            if self._bundle is not None and self._bundle.architecture == "xfeat":
                again = f", or import the weights of '{self.model}' again, to have tiles"
            fits = int(max(rows, columns) * math.sqrt(free / (rows * columns * each)))
            raise ImageError(
                f"{image.name}: features in {columns}x{rows} pixels take some "
                f"{rows * columns * each / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free; "
                f"give a max_size of {fits // 100 * 100} or less{again}."
            )
