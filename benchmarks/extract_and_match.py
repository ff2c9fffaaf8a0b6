"""Time covis against kornia and PyTorch on one machine, in one run, with the same weights.

    python benchmarks/extract_and_match.py [--rounds 15] [--threads 2]

Needs `pip install '.[train]' kornia` and the official weights in ../shared/weights. The sides
take turns, round by round; the figures are medians. Beside each stands how far covis is from
the machine's own limit: the floating-point work over the rate of a large matrix product,
measured in the same rounds.
"""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
from common import DATA, XFEAT, Contest, race

from covis.errors import ArgumentError

if TYPE_CHECKING:
    from covis.types import Image, Matches

NETWORK_GFLOP = 2.62
"""XFeat at 640x480, all heads."""
REFINEMENT_GFLOP = 2 * (128 * 512 + 3 * 512 * 512 + 512 * 64) / 1e9
"""The refinement of one semi-dense match."""
PRODUCT_GFLOP = 2 * 64 / 1e9
"""The similarity of two descriptors."""
DENSE_NETWORKS_GFLOP = 2 * NETWORK_GFLOP * (0.6**2 + 1.3**2)
"""Of two photos at the two scales of the semi-dense extraction."""


def run(options: argparse.Namespace) -> None:
    if not XFEAT.is_file():
        raise ArgumentError(f"{XFEAT} is not there: both sides need the official XFeat weights.")
    import torch

    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        model = export(Path(folder))
        images = load_pictures()
        contests = [
            *photo_contests(model, images, options.threads),
            *semi_dense_contests(model, images, options.threads),
            nearest_contest(),
        ]
        race(contests, options.rounds, options.threads)
    photos()


def main() -> int:
    options = common.parser(__doc__)
    options.add_argument("--rounds", type=int, default=15)
    options.add_argument("--threads", type=int, default=2)
    return common.main(run, options)


def export(folder: Path) -> str:
    """The official weights as a bundle; its folder."""
    from covis.export.xfeat import export_xfeat
    from covis.nets.xfeat import load_official

    export_xfeat(
        load_official(XFEAT),
        folder / "official",
        name="official",
        licence="Apache-2.0",
        source=str(XFEAT),
    )
    return str(folder / "official")


def load_pictures() -> list[Image]:
    """Two of 640x480 pixels."""
    import cv2

    from covis import load_image
    from covis.demo import render_demo

    graf = DATA / "homography" / "graf"
    if graf.is_dir():
        pictures = [load_image(graf / f"{number}.jpg").pixels for number in (1, 2)]
        print("pictures: graf 1 and 2, resized to 640x480")
    else:
        demo = render_demo((640, 480))
        pictures = [demo.image0, demo.image1]
        print("pictures: the rendered demo pair, 640x480")
    return [
        load_image(cv2.resize(picture, (640, 480), interpolation=cv2.INTER_AREA))
        for picture in pictures
    ]


def photo_contests(model: str, images: list[Image], threads: int) -> list[Contest]:
    """Photos described, and two of them matched, beside kornia with the same weights."""
    import torch

    import covis
    from covis import Extractor, Matcher

    kornia, tensors = peer_of(images)
    sparse = Extractor(model, max_keypoints=4096, threads=threads)
    nearest = Matcher("nearest", threads=threads)
    arrays = [image.pixels for image in images]
    shipped = Extractor(max_keypoints=4096, threads=threads)
    first = Extractor("edgepoint-covis", max_keypoints=4096, threads=threads)
    lean = Extractor("edgepoint-covis-fast", max_keypoints=4096, threads=threads)
    peer_sparse = torch.inference_mode()(kornia.match_xfeat)

    found = [len(sparse(image)) for image in images]
    print(f"sparse features: {found}")

    def peer_extract() -> object:
        return kornia.detectAndCompute(tensors[0], top_k=4096)

    def peer_match() -> object:
        return peer_sparse(*tensors, top_k=4096)

    def by_one_call(features: str) -> Matches:
        return covis.match(
            *arrays, features=features, matcher="nearest", geometry="none", threads=threads
        )

    match_gflop = 2 * NETWORK_GFLOP + PRODUCT_GFLOP * found[0] * found[1]
    task, peer = "extract, 640x480, 4096 keypoints", "kornia XFeat"
    return [
        Contest(
            f"{task}: published weights",
            peer,
            lambda: sparse(images[0]),
            peer_extract,
            NETWORK_GFLOP,
            1.6,
        ),
        Contest(f"{task}: xfeat-covis", peer, lambda: shipped(images[0]), peer_extract, 0, 2.5),
        Contest(f"{task}: edgepoint-covis", peer, lambda: first(images[0]), peer_extract, 0, 2.5),
        Contest(
            f"{task}: edgepoint-covis-fast", peer, lambda: lean(images[0]), peer_extract, 0, 2.5
        ),
        Contest(
            "two photos, sparse, published weights",
            "kornia match_xfeat",
            lambda: nearest(*sparse.batch(images)),
            peer_match,
            match_gflop,
            2.5,
        ),
        Contest(
            "the same by covis.match on arrays",
            "kornia match_xfeat",
            lambda: by_one_call(model),
            peer_match,
            match_gflop,
            2.5,
        ),
        Contest(
            "covis.match on arrays, xfeat-covis",
            "kornia match_xfeat",
            lambda: by_one_call("xfeat"),
            peer_match,
            0,
            2.5,
        ),
    ]


def peer_of(images: list[Image]) -> tuple[Any, list[Any]]:
    """kornia's XFeat with the official weights, and the images as it takes them."""
    import torch
    from kornia.feature import XFeat
    from safetensors.torch import load_file

    kornia = XFeat().eval()
    kornia.load_state_dict({f"net.{k}": v for k, v in load_file(XFEAT).items()}, strict=True)
    tensors = [
        torch.from_numpy(image.pixels.copy()).permute(2, 0, 1)[None].float() / 255
        for image in images
    ]
    return kornia, tensors


def semi_dense_contests(model: str, images: list[Image], threads: int) -> list[Contest]:
    """Two photos matched by XFeat*, beside kornia."""
    import torch

    from covis import Extractor, Matcher
    from covis.matching.nearest import mutual_nearest

    kornia, tensors = peer_of(images)
    dense = Extractor(model, max_keypoints=10_000, semi_dense=True, threads=threads)
    refined = Matcher("semi-dense", features=model, threads=threads)
    shipped_dense = Extractor(max_keypoints=10_000, semi_dense=True, threads=threads)
    shipped_refined = Matcher("semi-dense", threads=threads)
    peer_dense = torch.inference_mode()(kornia.match_xfeat_star)
    cells = [len(dense(image)) for image in images]
    refinements = len(mutual_nearest(*(dense(image).descriptors for image in images))[0])
    print(f"semi-dense features: {cells}, {refinements} matches refined")
    return [
        Contest(
            "two photos, semi-dense, 10,000 points, published weights",
            "kornia match_xfeat_star",
            lambda: refined(*dense.batch(images)),
            lambda: peer_dense(*tensors, top_k=10_000),
            DENSE_NETWORKS_GFLOP
            + PRODUCT_GFLOP * cells[0] * cells[1]
            + REFINEMENT_GFLOP * refinements,
            4.0,
        ),
        Contest(
            "the same with xfeat-covis",
            "kornia match_xfeat_star",
            lambda: shipped_refined(*shipped_dense.batch(images)),
            lambda: peer_dense(*tensors, top_k=10_000),
            0,
            4.0,
        ),
    ]


def nearest_contest() -> Contest:
    """Mutual nearest neighbours of made-up descriptors, beside two products in PyTorch."""
    import numpy as np
    import torch

    from covis.matching.nearest import mutual_nearest

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, 4096, 64)).astype(np.float32)
    vectors[1] = vectors[0][rng.permutation(4096)] + 0.7 * vectors[1]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    tensor0, tensor1 = (torch.from_numpy(each) for each in vectors)

    def two_products() -> object:
        best0 = (tensor0 @ tensor1.T).max(dim=1).indices
        best1 = (tensor1 @ tensor0.T).max(dim=1).indices
        index = torch.arange(len(tensor0))
        mutual = best1[best0] == index
        return index[mutual], best0[mutual]

    return Contest(
        "match 4096 x 4096 x 64",
        "two products in PyTorch",
        lambda: mutual_nearest(*vectors),
        two_products,
        PRODUCT_GFLOP * 4096 * 4096,
        3.0,
    )


def photos() -> None:
    """Peak memory of `covis match` on two 12-megapixel JPEGs, and what reduced decoding saves."""
    import cv2

    from covis.demo import render_demo
    from covis.images.decode import load_image
    from covis.options import DEFAULT_MAX_SIZE

    with tempfile.TemporaryDirectory() as folder:
        demo = render_demo((4000, 3000))
        paths = [Path(folder) / f"{name}.jpg" for name in "01"]
        for path, picture in zip(paths, (demo.image0, demo.image1), strict=True):
            cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        sizes = (None, DEFAULT_MAX_SIZE)
        loads = [functools.partial(load_image, paths[0], max_size=size) for size in sizes]
        full, reduced = common.medians(7, *loads)
        print("covis match, two 12-megapixel JPEGs, defaults (peak under 600 MB):")
        common.print_of_process("from covis.cli import app; app()", "match", *paths)
        print(
            f"decoding a 12-megapixel JPEG: {full * 1e3:.0f} ms whole, {reduced * 1e3:.0f} ms for "
            f"{DEFAULT_MAX_SIZE} pixels: {1 - reduced / full:.0%} less (at least 50 %)"
        )


if __name__ == "__main__":
    sys.exit(main())
