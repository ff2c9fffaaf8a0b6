"""LightGlue beside kornia's, with the same weights, and what it finds beside nearest neighbours.

    python benchmarks/lightglue.py [--parts speed,adaptive,memory,quality] [--rounds 9]

Needs `pip install '.[train]' kornia`. speed: full depth and width, random weights and points; the
sides take turns, and the figures are medians. adaptive: the matcher in the package on easy pairs
of ../shared/data, stopping and pruning against full depth. memory: the peak of 4096 x 4096
points. quality: homographies and poses on all of ../shared/data with 2048 keypoints.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from side_by_side import PEAK, Contest, race

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared"
XFEAT = SHARED / "weights" / "xfeat" / "xfeat.safetensors"
LIGHTERGLUE = SHARED / "weights" / "lighterglue" / "lighterglue.safetensors"
SHIPPED = "lightglue-xfeat-covis"

FULL = (256, {"dim": 256, "layers": 9, "heads": 4})
LIGHT = (64, {"dim": 96, "layers": 6, "heads": 1})
SPEED = ((FULL, 512, 1.3), (FULL, 1024, 1.3), (FULL, 2048, 1.6), (LIGHT, 2048, 1.6))
"""Input dimension and sizes, keypoints an image, how many times as fast it must be."""
EASY = ("bikes", "leuven", "Herz-Jesus-P8", "fountain-P11")
HARD = ("7scenes", "scannet-sample")
KEYPOINTS = 2048

MEASURED_PAIR = """
import sys
from pathlib import Path
import numpy as np
from covis.export.lightglue import made_up_pair
from covis.matching.lightglue import LightGlue
from covis.nets import lightglue
from covis.runtime.bundle import Bundle
net = lightglue.LightGlue(256)
pair = made_up_pair(net, (4096, 4096), np.random.default_rng(0))
print("before", re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1], "kB")
match = LightGlue.open(Bundle.read(Path(sys.argv[1])), full=True, threads=2)
match(*pair)
"""


def speed(rounds: int, threads: int, folder: Path) -> None:
    """Full depth against kornia, several sizes."""
    import numpy as np
    import torch
    from kornia.feature import LightGlue as Kornia

    from covis.export.lightglue import export_lightglue, made_up_pair
    from covis.matching.lightglue import LightGlue
    from covis.nets.lightglue import LightGlue as Net

    contests = []
    for (input_dim, sizes), points, target in SPEED:
        torch.manual_seed(0)
        net = Net(input_dim, **sizes).eval()
        name = f"{sizes['layers']}x{sizes['dim']}x{sizes['heads']}"
        peer = Kornia(
            None,
            input_dim=input_dim,
            descriptor_dim=sizes["dim"],
            n_layers=sizes["layers"],
            num_heads=sizes["heads"],
            depth_confidence=-1,
            width_confidence=-1,
        ).eval()
        missing = peer.load_state_dict(net.state_dict(), strict=False)
        assert missing.missing_keys == ["confidence_thresholds"]
        assert not missing.unexpected_keys
        bundle = export_lightglue(
            net, folder / name, name=name, licence="-", source="random", features=""
        )
        match = LightGlue.open(bundle, full=True, threads=threads)
        pair = [
            # kornia refuses points outside the image.
            replace(f, keypoints=f.keypoints.clip(0, np.float32([f.width, f.height])))
            for f in made_up_pair(net, (points, points), np.random.default_rng(0))
        ]
        inputs = {
            f"image{i}": {
                "keypoints": torch.from_numpy(features.keypoints)[None],
                "descriptors": torch.from_numpy(features.descriptors)[None],
                "image_size": torch.tensor([[features.width, features.height]]),
            }
            for i, features in enumerate(pair)
        }
        layer = 76 * points * net.dim**2 + 16 * points**2 * net.dim
        contests.append(
            Contest(
                f"{name}, {points} keypoints",
                "kornia LightGlue",
                functools.partial(match, *pair),
                functools.partial(torch.inference_mode()(peer), inputs),
                net.layers * layer / 1e9,
                target,
            )
        )
    race(contests, rounds, threads)


def adaptive(threads: int) -> None:
    """Stopping and pruning against full depth on easy pairs, each matched both ways in turn."""
    import numpy as np
    from accuracy import find_sets

    from covis import Extractor, Matcher
    from covis.geometry import estimate_geometry
    from covis.matching.lightglue import LightGlue
    from covis.runtime.bundle import find_bundle

    extract = functools.cache(Extractor(max_keypoints=KEYPOINTS, max_size=None, threads=threads))
    matchers = [Matcher(SHIPPED, full_depth=full, threads=threads) for full in (False, True)]
    loop = LightGlue.open(find_bundle(SHIPPED), threads=threads)
    print("| pairs | layers run | points pruned | time | times as fast | inliers kept |")
    print("| --- | --- | --- | --- | --- | --- |")
    totals: list[list[float]] = []
    for pairs in find_sets(SHARED / "data", EASY):
        rows = []
        for pair in pairs.pairs:
            features = [extract(pair.path0), extract(pair.path1)]
            taken, inliers = [], []
            for match in matchers:
                times = []
                for _ in range(3):
                    began = time.perf_counter()
                    found = match(*features)
                    times.append(time.perf_counter() - began)
                taken.append(statistics.median(times))
                geometry = estimate_geometry(
                    found.points0,
                    found.points1,
                    "homography" if pairs.kind == "homography" else "fundamental",
                    size0=(features[0].width, features[0].height),
                    size1=(features[1].width, features[1].height),
                    scores=found.scores,
                )
                inliers.append(int(geometry.inliers.sum()))
            told = loop(*features)
            lived = np.concatenate([told.layers0, told.layers1])
            rows.append([*taken, *inliers, told.layers, (lived < told.layers).mean()])
        totals += rows
        print(_adaptive_row(f"{pairs.name} ({len(rows)})", rows))
    print(_adaptive_row(f"all ({len(totals)})", totals))
    print("\nAt least 2 times as fast with at least 98 % of the inliers.\n")


def _adaptive_row(name: str, rows: list[list[float]]) -> str:
    times, full, inliers, full_inliers, layers, pruned = zip(*rows, strict=True)
    mine, theirs = statistics.median(times), statistics.median(full)
    return (
        f"| {name} | {statistics.mean(layers):.1f} | {statistics.mean(pruned):.0%} | "
        f"{mine * 1e3:.0f} ms, {theirs * 1e3:.0f} ms at full depth | {theirs / mine:.2f} | "
        f"{sum(inliers) / max(sum(full_inliers), 1):.1%} |"
    )


def memory(folder: Path) -> None:
    """The peak of a process that matches 4096 x 4096 points with the paper's network."""
    import torch

    from covis.export.lightglue import export_lightglue
    from covis.nets.lightglue import LightGlue as Net

    torch.manual_seed(0)
    bundle = export_lightglue(
        Net(256).eval(), folder / "memory", name="m", licence="-", source="random", features=""
    )
    command = [sys.executable, "-c", PEAK + MEASURED_PAIR, str(bundle.folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print("9x256x4, 4096 x 4096 points (one N x N array of all heads is 268 MB):")
    print((done.stdout + done.stderr).strip() + "\n")


def quality(folder: Path) -> None:
    """Nearest neighbours, the shipped matcher and the published one on the same features."""
    from accuracy import find_sets, make_method, table

    from covis.evaluation.metrics.two_view import Setup, TwoViewResult, evaluate_setups, pool
    from covis.export.lightglue import default_settings, export_lightglue
    from covis.nets.lightglue import load_official

    methods = [("xfeat", "nearest", False), ("xfeat", SHIPPED, False), ("xfeat", SHIPPED, True)]
    if LIGHTERGLUE.is_file() and XFEAT.is_file():
        net = load_official(LIGHTERGLUE)
        published = folder / "lighterglue"
        export_lightglue(
            net,
            published,
            name="lighterglue",
            licence="Apache-2.0",
            source=str(LIGHTERGLUE),
            features="",
            settings=default_settings(net),
        )
        methods += [("xfeat", str(published), False)]
        methods += [(str(XFEAT), "nearest", False), (str(XFEAT), str(published), False)]
    results: list[tuple[str, TwoViewResult]] = []
    for features, matcher, full_depth in methods:
        name = "xfeat-covis" if features == "xfeat" else "XFeat, published"
        name += f" + {Path(matcher).name}" + (", full depth" if full_depth else "")
        method = make_method(features, matcher, folder, KEYPOINTS, full_depth)
        setup = Setup("poselib")
        found = [
            evaluate_setups(method.match, pairs, [setup], seeds=range(3))[setup]
            for pairs in find_sets(SHARED / "data", None)
        ]
        groups = {"all homography": [r for r in found if r.kind == "homography"]}
        groups["hard poses"] = [r for r in found if r.name in HARD]
        groups["all pose"] = [r for r in found if r.kind == "pose"]
        found += [pool(members, group) for group, members in groups.items()]
        results += [(name, result) for result in found]
    print(table(results) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default="speed,adaptive,memory,quality")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    # The BLAS behind NumPy reads this when NumPy is first imported.
    os.environ["OPENBLAS_NUM_THREADS"] = str(options.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "speed": lambda: speed(options.rounds, options.threads, folder),
            "adaptive": lambda: adaptive(options.threads),
            "memory": lambda: memory(folder),
            "quality": lambda: quality(folder),
        }
        for part in options.parts.split(","):
            if part not in parts:
                sys.exit(f"No part '{part}'; there are: {', '.join(parts)}.")
            parts[part]()


if __name__ == "__main__":
    main()
