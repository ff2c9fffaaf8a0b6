"""The public extractor: one object for many images."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

from covis.errors import ArgumentError
from covis.features.aliked import Aliked
from covis.features.delg import Delg
from covis.features.edgepoint import EdgePoint
from covis.features.sift import extract_sift
from covis.features.superpoint import SuperPoint
from covis.features.xfeat import XFeat
from covis.images.decode import MaskSource, Source, load_image
from covis.runtime.bundle import Bundle, find_bundle
from covis.types import Features, Image

DEFAULT_FEATURES = "xfeat-covis"
DEFAULT_MAX_SIZE = 960
"""Longest side images are shrunk to, in pixels. A 12-megapixel photo (4000 or 4032 pixels
wide) is just above four times that, so its JPEG decodes at a quarter of its size."""

SIFT_LICENCE = "Apache-2.0 (OpenCV's SIFT)"

NETWORKS: dict[
    str, type[XFeat] | type[EdgePoint] | type[Aliked] | type[SuperPoint] | type[Delg]
] = {
    "xfeat": XFeat,
    "edgepoint": EdgePoint,
    "aliked": Aliked,
    "superpoint": SuperPoint,
    "delg": Delg,
}
"""By the architecture of a bundle."""


class Extractor:
    """Finds the local features of images.

    >>> extract = Extractor(max_keypoints=2048)
    >>> features = extract("photo.jpg")  # doctest: +SKIP
    """

    def __init__(
        self,
        features: str = "xfeat",
        *,
        max_keypoints: int = 4096,
        max_size: int | None = DEFAULT_MAX_SIZE,
        semi_dense: bool = False,
        threshold: float | None = None,
        threads: int | None = None,
    ) -> None:
        """Load the model.

        features: "xfeat" for the one in the package, the name or the folder of another bundle,
            or "sift".
        max_keypoints: at most so many features an image.
        max_size: larger images are shrunk to this longest side, in pixels; None for never.
            Keypoints always refer to the full size.
        semi_dense: XFeat*'s features, for the matcher "semi-dense".
        threshold: least score of a sparse keypoint; the published one of the network by default.
        threads: processor threads; all by default.

        Raises ArgumentError on a value out of range, BundleError when the model is not there.
        """
        if max_keypoints < 1:
            raise ArgumentError(f"max_keypoints must be 1 or more, not {max_keypoints}.")
        if max_size is not None and max_size < 1:
            raise ArgumentError(f"max_size must be 1 or more, not {max_size}.")
        self.max_keypoints, self.max_size = max_keypoints, max_size
        self.semi_dense = semi_dense
        self._net: XFeat | EdgePoint | Aliked | SuperPoint | Delg | None = None
        self._bundle: Bundle | None = None
        if features == "sift":
            if semi_dense:
                raise ArgumentError("SIFT has no semi-dense features; use features='xfeat'.")
            self.source, self.model, self.licence = "sift", "sift", SIFT_LICENCE
            return
        self.source = DEFAULT_FEATURES if features == "xfeat" else features
        bundle = find_bundle(self.source, NETWORKS, ("sift",))
        if bundle.architecture not in NETWORKS:
            raise ArgumentError(
                f"'{bundle.name}' is a bundle for {bundle.architecture}, not for features."
            )
        self._bundle = bundle
        self._net = NETWORKS[bundle.architecture](bundle, threads)
        if semi_dense and not isinstance(self._net, XFeat):
            raise ArgumentError(
                f"'{bundle.name}' ({bundle.architecture}) has no semi-dense features; "
                "use features='xfeat'."
            )
        self._threshold = self._net.THRESHOLD if threshold is None else threshold
        self.model, self.licence = bundle.name, bundle.licence

    @cached_property
    def weights(self) -> str:
        """`Bundle.digest` of the model; empty for one without weights."""
        return "" if self._bundle is None else self._bundle.digest()

    def __call__(self, image: Source, mask: MaskSource | None = None) -> Features:
        """The features of one image: a path, an array, a PIL image or an `Image`.

        mask: where to find nothing, see `load_image`. Raises ImageError as it does.
        """
        return self.batch([self._load(image, mask)])[0]

    def batch(self, images: Sequence[Source]) -> list[Features]:
        """The features of several images; the same as one by one.

        Images that the network sees at one size go through it a few together.
        """
        loaded = [self._load(image) for image in images]
        if self._net is None:
            return [extract_sift(image, self.max_keypoints) for image in loaded]
        if self.semi_dense:
            assert isinstance(self._net, XFeat)
            return [self._net.semi_dense(image, self.max_keypoints) for image in loaded]
        return self._net.sparse(loaded, self.max_keypoints, self._threshold)

    def _load(self, image: Source, mask: MaskSource | None = None) -> Image:
        return load_image(image, max_size=self.max_size, mask=mask)
