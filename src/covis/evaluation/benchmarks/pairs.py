"""Pairs of one's own: every set of pairs in a folder, see `covis.evaluation.datasets.pairs`.

Pictures are taken at their own size unless settings say otherwise; errors and thresholds are in
pixels of the pictures as they are matched. Figures of a homography: AUC and share of pairs at 3, 5
and 7 pixels of corner error; of a pose: at 5, 10 and 20 degrees.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from covis.evaluation.benchmark import Report, Row, Settings
from covis.evaluation.datasets.pairs import PairSet, read_pairs
from covis.evaluation.method import Method
from covis.evaluation.metrics.two_view import TwoViewResult
from covis.evaluation.protocol import Protocol, chosen, counting, measure, sampled

UNITS = {"homography": "px", "pose": "°"}
PROTOCOLS = {
    "homography": Protocol("homography", 4096, ("poselib",), ()),
    "pose": Protocol("relative pose", 4096, ("poselib",), ()),
}
"""By kind of pairs; covis' own thresholds."""


def find_sets(data: Path) -> list[PairSet]:
    """The sets of the folder itself, of the folders in it, and of those in them, by path.

    Raises ArgumentError as `read_pairs` does.
    """
    marks = ("pairs.json", "*/pairs.json", "*/*/pairs.json")
    return [read_pairs(path.parent) for mark in marks for path in sorted(data.glob(mark))]


def run(data: Path, settings: Settings, report: Report) -> list[Row]:
    sets = sampled(find_sets(data), settings)
    tick = counting(report, sum(len(each.pairs) for each in sets))
    rows: list[Row] = []
    for protocol in chosen(list(PROTOCOLS.values()), settings):
        of_kind = [each for each in sets if PROTOCOLS[each.kind].name == protocol.name]
        if of_kind:
            if of_kind[0].kind == "pose":
                robust = tuple(name for name in protocol.estimators if name != "dlt")
                protocol = dataclasses.replace(protocol, estimators=robust)
            method = Method(settings, protocol.max_keypoints)
            rows += measure(protocol, method, of_kind, figures, settings, tick)
    return rows


def figures(result: TwoViewResult) -> dict[str, float]:
    """Areas and shares in percent, and the mean counts of matches and of inliers."""
    unit = UNITS[result.kind]
    found = {f"AUC@{t}{unit}": 100 * value for t, value in result.auc.items()}
    found |= {f"share@{t}{unit}": 100 * value for t, value in result.share.items()}
    found["matches"] = float(result.matches.mean())
    found["inliers"] = float(result.inliers.mean())
    return found
