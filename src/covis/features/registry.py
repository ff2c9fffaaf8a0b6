"""What there is to find local features with, and what each one must give.

A network has its row in `covis.runtime.architectures`; a method without weights has it here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from covis.types import Features, Image


class LocalFeatures(Protocol):
    """A network's class for one bundle, made of (bundle, runtime), or a method without weights.

    THRESHOLD: the threshold where nobody asks for another. BYTES: memory that a pixel takes, of
    one that sees even large images as a whole; one that sees them in tiles has none.
    """

    THRESHOLD: float

    def sparse(
        self, images: Sequence[Image], max_keypoints: int, threshold: float
    ) -> list[Features]:
        """The features of each image, as if it were alone: best first, none masked.

        Keypoints are in full-size pixels, the top-left pixel's centre at (0.5, 0.5); descriptors
        have unit length. threshold: on the method's own scale, what a keypoint must be above.
        An image without texture has none, and its arrays are empty.
        """


class OneByOne(ABC):
    """`LocalFeatures` of what takes one image after the other."""

    def sparse(
        self, images: Sequence[Image], max_keypoints: int, threshold: float
    ) -> list[Features]:
        """See `LocalFeatures`."""
        return [self.extract(image, max_keypoints, threshold) for image in images]

    @abstractmethod
    def extract(self, image: Image, max_keypoints: int, threshold: float) -> Features:
        """The features of one image, as `LocalFeatures` asks for them."""


@runtime_checkable
class SemiDenseFeatures(Protocol):
    """One that has features for the matcher "semi-dense" as well."""

    def semi_dense(self, image: Image, max_keypoints: int) -> Features:
        """Features with `pixel_sizes`, best first, to be matched and then refined."""


@dataclass(frozen=True, kw_only=True)
class Handcrafted:
    """A method without weights.

    finds: its class as "module:name", a `LocalFeatures` made of no arguments.
    licence: the terms of its code. ratio: Lowe's, without which its nearest neighbours are mostly
        wrong; None where they are not.
    """

    finds: str
    licence: str
    ratio: float | None = None


HANDCRAFTED: dict[str, Handcrafted] = {
    "sift": Handcrafted(
        finds="covis.features.sift:Sift", licence="Apache-2.0 (OpenCV's SIFT)", ratio=0.8
    ),
}
"""By the name that `Extractor` takes, which is the model's name in `Features.model`."""


def ratio_of(model: str) -> float | None:
    """Lowe's ratio for the nearest neighbours of features; None where they need none."""
    return HANDCRAFTED[model].ratio if model in HANDCRAFTED else None
