"""A descriptor at every place of an image, and what it is good for. Needs no PyTorch."""

from covis.dense.features import DenseExtractor, DenseFeatures, choose_model, distinct, enlarge
from covis.dense.frames import Frames, ahead
from covis.dense.keypoint_transfer import Transfer, match, pck, salient, transfer
from covis.dense.mask_propagation import Carried, Carrying, carry, carry_through, propagate
from covis.dense.masks import (
    contour_accuracy,
    read_mask,
    read_objects,
    region_similarity,
    write_mask,
)
from covis.dense.object_discovery import Discovery, FoundObject, discover, discover_objects
from covis.dense.visualise import likeness, pca_colours

__all__ = [
    "Carried",
    "Carrying",
    "DenseExtractor",
    "DenseFeatures",
    "Discovery",
    "FoundObject",
    "Frames",
    "Transfer",
    "ahead",
    "carry",
    "carry_through",
    "choose_model",
    "contour_accuracy",
    "discover",
    "discover_objects",
    "distinct",
    "enlarge",
    "likeness",
    "match",
    "pca_colours",
    "pck",
    "propagate",
    "read_mask",
    "read_objects",
    "region_similarity",
    "salient",
    "transfer",
    "write_mask",
]
