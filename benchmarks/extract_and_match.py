"""Time covis against kornia and PyTorch on one machine, in one run, with the same weights.

    python benchmarks/extract_and_match.py [--rounds 15] [--threads 2]

Needs `pip install '.[train]' kornia` and the official weights in ../shared/weights. The sides
take turns, round by round; the figures are medians. Beside each stands how far covis is from
the machine's own limit: the floating-point work over the rate of a large matrix product,
measured in the same rounds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from side_by_side import PEAK, Contest, race

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = ROOT.parent / "shared" / "weights" / "xfeat" / "xfeat.safetensors"
NETWORK_GFLOP = 2.62
"""XFeat at 640x480, all heads."""
REFINEMENT_GFLOP = 2 * (128 * 512 + 3 * 512 * 512 + 512 * 64) / 1e9
"""The refinement of one semi-dense match."""

MEASURED_MATCH = PEAK + "from covis.cli import app; app()"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    # The BLAS behind NumPy reads this when NumPy is first imported.
    os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
    if not WEIGHTS.is_file():
        sys.exit(f"{WEIGHTS} is not there: both sides need the official XFeat weights.")

    with tempfile.TemporaryDirectory() as folder:
        race(prepare(options.threads, Path(folder)), options.rounds, options.threads)
    photos()


def prepare(threads: int, folder: Path) -> list[Contest]:
    """Load both sides and their inputs."""
    import cv2
    import numpy as np
    import torch
    from kornia.feature import XFeat
    from safetensors.torch import load_file

    from covis import Extractor, Matcher, load_image
    from covis.demo import render_demo
    from covis.export.xfeat import export_xfeat
    from covis.matching.nearest import mutual_nearest
    from covis.nets.xfeat import load_official

    torch.set_num_threads(threads)
    export_xfeat(
        load_official(WEIGHTS),
        folder / "official",
        name="official",
        licence="Apache-2.0",
        source=str(WEIGHTS),
    )
    kornia = XFeat().eval()
    kornia.load_state_dict({f"net.{k}": v for k, v in load_file(WEIGHTS).items()}, strict=True)

    data = ROOT.parent / "shared" / "data" / "homography" / "graf"
    if data.is_dir():
        pictures = [load_image(data / f"{n}.jpg").pixels for n in (1, 2)]
        print("pictures: graf 1 and 2, resized to 640x480")
    else:
        demo = render_demo((640, 480))
        pictures = [demo.image0, demo.image1]
        print("pictures: the rendered demo pair, 640x480")
    pictures = [cv2.resize(p, (640, 480), interpolation=cv2.INTER_AREA) for p in pictures]
    images = [load_image(p) for p in pictures]
    tensors = [torch.from_numpy(p.copy()).permute(2, 0, 1)[None].float() / 255 for p in pictures]

    name = str(folder / "official")
    sparse = Extractor(name, max_keypoints=4096, threads=threads)
    dense = Extractor(name, max_keypoints=10_000, semi_dense=True, threads=threads)
    nearest = Matcher("nearest", threads=threads)
    refined = Matcher("semi-dense", features=name, threads=threads)

    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((2, 4096, 64)).astype(np.float32)
    vectors[1] = vectors[0][rng.permutation(4096)] + 0.7 * vectors[1]
    vectors /= np.linalg.norm(vectors, axis=2, keepdims=True)
    x, y = (torch.from_numpy(v) for v in vectors)

    def two_products() -> object:
        best0, best1 = (x @ y.T).max(dim=1).indices, (y @ x.T).max(dim=1).indices
        index = torch.arange(len(x))
        mutual = best1[best0] == index
        return index[mutual], best0[mutual]

    @torch.inference_mode()
    def peer_sparse() -> object:
        return kornia.match_xfeat(*tensors, top_k=4096)

    @torch.inference_mode()
    def peer_dense() -> object:
        return kornia.match_xfeat_star(*tensors, top_k=10_000)

    found = [len(sparse(image)) for image in images]
    cells = [len(dense(image)) for image in images]
    refinements = len(mutual_nearest(*(dense(image).descriptors for image in images))[0])
    print(f"sparse features: {found}; semi-dense: {cells}, {refinements} matches refined")
    product = 2 * 64 / 1e9
    # The two scales of the semi-dense extraction, 0.6 and 1.3.
    dense_networks = 2 * NETWORK_GFLOP * (0.6**2 + 1.3**2)
    return [
        Contest(
            "extract, 640x480, 4096 keypoints",
            "kornia XFeat",
            lambda: sparse(images[0]),
            lambda: kornia.detectAndCompute(tensors[0], top_k=4096),
            NETWORK_GFLOP,
            2.3,
        ),
        Contest(
            "match 4096 x 4096 x 64",
            "two products in PyTorch",
            lambda: mutual_nearest(*vectors),
            two_products,
            product * 4096 * 4096,
            3.0,
        ),
        Contest(
            "two photos, sparse",
            "kornia match_xfeat",
            lambda: nearest(*sparse.batch(images)),
            peer_sparse,
            2 * NETWORK_GFLOP + product * found[0] * found[1],
            2.5,
        ),
        Contest(
            "two photos, semi-dense, 10,000 points",
            "kornia match_xfeat_star",
            lambda: refined(*dense.batch(images)),
            peer_dense,
            dense_networks + product * cells[0] * cells[1] + REFINEMENT_GFLOP * refinements,
            2.8,
        ),
    ]


def photos() -> None:
    """Peak memory of `covis match` on two 12-megapixel JPEGs, and what reduced decoding saves."""
    import cv2

    from covis.demo import render_demo
    from covis.features.extractor import DEFAULT_MAX_SIZE
    from covis.images.decode import load_image

    with tempfile.TemporaryDirectory() as folder:
        demo = render_demo((4000, 3000))
        paths = [Path(folder) / f"{name}.jpg" for name in "ab"]
        for path, picture in zip(paths, (demo.image0, demo.image1), strict=True):
            cv2.imwrite(str(path), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])
        times: dict[int | None, list[float]] = {None: [], DEFAULT_MAX_SIZE: []}
        for _ in range(7):
            for max_size, values in times.items():
                began = time.perf_counter()
                load_image(paths[0], max_size=max_size)
                values.append(time.perf_counter() - began)
        full, reduced = (statistics.median(values) * 1e3 for values in times.values())
        command = [sys.executable, "-c", MEASURED_MATCH, "match", *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        print("covis match, two 12-megapixel JPEGs, defaults (peak under 600 MB):")
        print((done.stdout + done.stderr).strip())
        print(
            f"decoding a 12-megapixel JPEG: {full:.0f} ms whole, {reduced:.0f} ms for "
            f"{DEFAULT_MAX_SIZE} pixels: {1 - reduced / full:.0%} less (at least 50 %)"
        )


if __name__ == "__main__":
    main()
