"""LightGlue beside kornia's, with the same weights, and what it finds beside nearest neighbours.

    python benchmarks/lightglue.py [--parts speed,adaptive,memory,quality,published] [--rounds 9]

Needs `pip install '.[train]' kornia`. speed: full depth and width, random weights and points; the
sides take turns, and the figures are medians. adaptive: the matcher in the package on easy pairs
of ../shared/data, stopping and pruning against full depth. memory: the peak of 4096 x 4096
points. quality: homographies and poses on all of ../shared/data with 2048 keypoints. published:
features and LightGlue of each `covis weights get` at hand, both sides given the same features of
real pairs: whether they stop, prune and match alike.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import common
from common import DATA, SHARED, XFEAT, Contest, race

from covis.evaluation.tables import markdown

if TYPE_CHECKING:
    from covis.matching.lightglue import LightGlue
    from covis.runtime.bundle import Bundle
    from covis.types import Features

LIGHTERGLUE = SHARED / "weights" / "lighterglue" / "lighterglue.safetensors"
SHIPPED = "lightglue-xfeat-covis"

FULL = (256, {"dim": 256, "layers": 9, "heads": 4})
LIGHT = (64, {"dim": 96, "layers": 6, "heads": 1})
SPEED = ((FULL, 512, 1.3), (FULL, 1024, 1.3), (FULL, 2048, 1.6), (LIGHT, 2048, 1.6))
"""Input dimension and sizes, keypoints an image, how many times as fast it must be."""
EASY = ("bikes", "leuven", "Herz-Jesus-P8", "fountain-P11")
HARD = ("7scenes", "scannet-sample")
KEYPOINTS = 2048

PUBLISHED = (
    ("aliked-n16", "lightglue-aliked"),
    ("disk", "lightglue-disk"),
    ("xfeat-official", "lighterglue"),
    ("superpoint", "lightglue-superpoint"),
)
PUBLISHED_KEYPOINTS = 1024

MEASURED_PAIR = """
import sys
from pathlib import Path
import numpy as np
from covis.export.lightglue import made_up_pair
from covis.matching.lightglue import LightGlue
from covis.nets import lightglue
from covis.options import RuntimeOptions
from covis.runtime.bundle import Bundle
net = lightglue.LightGlue(256)
pair = made_up_pair(net, (4096, 4096), np.random.default_rng(0))
print("before", re.search(r"VmRSS:\\s+(\\d+)", open("/proc/self/status").read())[1], "kB")
match = LightGlue.open(Bundle.read(Path(sys.argv[1])), full=True, runtime=RuntimeOptions(threads=2))
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
    from covis.options import RuntimeOptions

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
        match = LightGlue.open(bundle, full=True, runtime=RuntimeOptions(threads=threads))
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
    from covis.options import RuntimeOptions
    from covis.runtime.bundle import find_bundle

    extract = functools.cache(Extractor(max_keypoints=KEYPOINTS, max_size=0, threads=threads))
    matchers = [Matcher(SHIPPED, full_depth=full, threads=threads) for full in (False, True)]
    loop = LightGlue.open(find_bundle(SHIPPED), runtime=RuntimeOptions(threads=threads))
    table = []
    totals: list[list[float]] = []
    for pairs in find_sets(DATA, EASY):
        rows = []
        for pair in pairs.pairs:
            features = [extract(pair.path0), extract(pair.path1)]
            calls = [functools.partial(match, *features) for match in matchers]
            taken, inliers = common.medians(3, *calls), []
            for call in calls:
                found = call()
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
        table.append(_adaptive_row(f"{pairs.name} ({len(rows)})", rows))
    table.append(_adaptive_row(f"all ({len(totals)})", totals))
    header = ["pairs", "layers run", "points pruned", "time", "times as fast", "inliers kept"]
    print(markdown(header, table))
    print("\nAt least 2 times as fast with at least 98 % of the inliers.\n")


def published(threads: int, every: int) -> None:
    """The weights that people have, beside kornia: the same features in, what comes out."""
    import torch
    from accuracy import find_sets

    from covis import Extractor
    from covis.runtime.bundle import installed_bundle

    torch.set_num_threads(threads)
    pairs = [pair for each in find_sets(DATA, None) for pair in each.pairs[::every]]
    table = []
    for features, matcher in PUBLISHED:
        bundle = installed_bundle(matcher)
        if bundle is None or installed_bundle(features) is None:
            print(f"left out: {features} + {matcher}; 'covis weights get' gets them\n")
            continue
        extract = functools.cache(
            Extractor(features, max_keypoints=PUBLISHED_KEYPOINTS, threads=threads)
        )
        mine, theirs = _matchers(bundle, threads)
        found = [
            _compared(mine, theirs, extract(pair.path0), extract(pair.path1)) for pair in pairs
        ]
        table.append([f"{features} + {matcher}", *_published_row(found)])
        print(table[-1], file=sys.stderr, flush=True)
    header = ["weights", "pairs", "matches", "kornia's", "same matches", "scores differ by"]
    header += ["same last layer", "points of other layers", "points pruned", "times as fast"]
    print(markdown(header, table))
    print(f"\n{PUBLISHED_KEYPOINTS} keypoints at most, threads: {threads}.\n")


def _matchers(bundle: Bundle, threads: int) -> tuple[LightGlue, Any]:
    """Ours and kornia's, with the same weights and settings."""
    from kornia.feature import LightGlue as Kornia

    from covis.export.lightglue import official_state_dict
    from covis.matching.lightglue import LightGlue
    from covis.options import RuntimeOptions

    mine = LightGlue.open(bundle, runtime=RuntimeOptions(threads=threads))
    settings = mine.settings
    theirs = Kornia(
        None,
        input_dim=settings.input_dim,
        descriptor_dim=bundle.settings["dim"],
        n_layers=settings.layers,
        num_heads=bundle.settings["heads"],
        add_scale_ori=settings.scale_orientation,
        depth_confidence=settings.depth_confidence or -1,
        width_confidence=settings.width_confidence or -1,
        filter_threshold=settings.threshold,
    ).eval()
    missing = theirs.load_state_dict(official_state_dict(bundle), strict=False)
    assert set(missing.missing_keys) <= {"confidence_thresholds"}
    assert not missing.unexpected_keys
    return mine, theirs


def _compared(mine: LightGlue, theirs: Any, *features: Features) -> dict[str, Any]:
    """Both on one pair, in turn."""
    import numpy as np
    import torch

    inputs = {
        f"image{i}": {
            "keypoints": torch.from_numpy(each.keypoints)[None],
            "descriptors": torch.from_numpy(each.descriptors)[None],
            "image_size": torch.tensor([[each.width, each.height]]),
        }
        for i, each in enumerate(features)
    }
    results: list[Any] = [None, None]

    def match() -> None:
        results[0] = mine(*features)

    @torch.inference_mode()
    def match_by_kornia() -> None:
        results[1] = theirs(inputs)

    seconds = common.medians(1, match, match_by_kornia)
    found, other = results
    scores = dict(zip(map(tuple, found.indices.tolist()), found.scores, strict=True))
    matches = map(tuple, other["matches"][0].tolist())
    others = dict(zip(matches, other["scores"][0].tolist(), strict=True))
    common_matches = scores.keys() & others.keys()
    lived = np.concatenate([found.layers0, found.layers1])
    lived_other = torch.cat([other["prune0"][0], other["prune1"][0]]).numpy()
    return {
        "matches": len(scores),
        "theirs": len(others),
        "common": len(common_matches),
        "difference": max((abs(scores[m] - others[m]) for m in common_matches), default=0.0),
        "layers": found.layers == int(other["stop"]),
        "lived": np.count_nonzero(lived != lived_other),
        "pruned": (lived < found.layers).mean(),
        "faster": seconds[1] / seconds[0],
    }


def _published_row(found: list[dict[str, Any]]) -> list[str]:
    each = {name: [row[name] for row in found] for name in found[0]}
    matches, theirs, shared = (sum(each[name]) for name in ("matches", "theirs", "common"))
    return [
        str(len(found)),
        str(matches),
        str(theirs),
        f"{shared / max(matches + theirs - shared, 1):.2%}",
        f"{max(each['difference']):.1e}",
        f"{sum(each['layers'])} of {len(found)}",
        str(sum(each["lived"])),
        f"{statistics.mean(each['pruned']):.0%}",
        f"{statistics.median(each['faster']):.2f}",
    ]


def _adaptive_row(name: str, rows: list[list[float]]) -> list[str]:
    times, full, inliers, full_inliers, layers, pruned = zip(*rows, strict=True)
    mine, theirs = statistics.median(times), statistics.median(full)
    return [
        name,
        f"{statistics.mean(layers):.1f}",
        f"{statistics.mean(pruned):.0%}",
        f"{mine * 1e3:.0f} ms, {theirs * 1e3:.0f} ms at full depth",
        f"{theirs / mine:.2f}",
        f"{sum(inliers) / max(sum(full_inliers), 1):.1%}",
    ]


def memory(folder: Path) -> None:
    """The peak of a process that matches 4096 x 4096 points with the paper's network."""
    import torch

    from covis.export.lightglue import export_lightglue
    from covis.nets.lightglue import LightGlue as Net

    torch.manual_seed(0)
    bundle = export_lightglue(
        Net(256).eval(), folder / "memory", name="m", licence="-", source="random", features=""
    )
    print("9x256x4, 4096 x 4096 points (one N x N array of all heads is 268 MB):")
    common.print_of_process(MEASURED_PAIR, bundle.folder)
    print()


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
            for pairs in find_sets(DATA, None)
        ]
        groups = {"all homography": [r for r in found if r.kind == "homography"]}
        groups["hard poses"] = [r for r in found if r.name in HARD]
        groups["all pose"] = [r for r in found if r.kind == "pose"]
        found += [pool(members, group) for group, members in groups.items()]
        results += [(name, result) for result in found]
    print(table(results) + "\n")


PARTS = {
    "speed": lambda options, folder: speed(options.rounds, options.threads, folder),
    "adaptive": lambda options, _: adaptive(options.threads),
    "memory": lambda _, folder: memory(folder),
    "quality": lambda _, folder: quality(folder),
    "published": lambda options, _: published(options.threads, options.every),
}


def run(options: argparse.Namespace) -> None:
    common.check_known("part", options.parts, PARTS)
    with tempfile.TemporaryDirectory() as folder:
        for part in options.parts:
            PARTS[part](options, Path(folder))


def main() -> int:
    options = common.parser(__doc__)
    options.add_argument("--parts", type=common.names, default=list(PARTS))
    options.add_argument("--rounds", type=int, default=9)
    options.add_argument("--threads", type=int, default=2)
    options.add_argument("--every", type=int, default=20, help="published: each so many-th pair")
    return common.main(run, options)


if __name__ == "__main__":
    sys.exit(main())
