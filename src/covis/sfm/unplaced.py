"""Why photos have no place in a map, as far as their matches tell, and what was not tried yet."""

from __future__ import annotations

from covis.errors import CovisError
from covis.geometry import estimate_geometry
from covis.matching import Matcher
from covis.options import Effort
from covis.sfm.database import Database
from covis.sfm.map import Settings

FLAT_SHARE = 0.8
"""Of a pair's verified matches: with more that agree with a homography it shows no depth; COLMAP's
share."""
MANY_KEYPOINTS = 8192


def count_flat(database: Database) -> int:
    """How many verified pairs show no depth: one plane, or views from one spot."""
    cameras, flat = database.cameras(), 0
    keypoints = {name: database.keypoints(name) for name in database.images}
    for pair, indices in database.verified_matches():
        first, second = (keypoints[name] for name in pair)
        if first is None or second is None:
            continue
        camera0, camera1 = (cameras[database.camera_id(name)] for name in pair)
        found = estimate_geometry(
            first[indices[:, 0]],
            second[indices[:, 1]],
            "homography",
            size0=(camera0.width, camera0.height),
            size1=(camera1.width, camera1.height),
        )
        flat += found.inliers.mean() > FLAT_SHARE
    return int(flat)


def untried(settings: Settings, every_pair: bool, effort: Effort) -> list[str]:
    """Options that may place more photos and are not in use. every_pair: whether all were
    matched."""
    options = [] if every_pair else ["--pairs exhaustive"]
    if effort != "thorough" and not settings.semi_dense:
        options.append("--effort thorough")
    if settings.matcher not in ("auto", "lightglue") and _has_lightglue(settings.features):
        options.append("--matcher lightglue (a new folder)")
    if settings.max_keypoints < MANY_KEYPOINTS:
        options.append(f"--max-keypoints {MANY_KEYPOINTS} (a new folder)")
    return options


def _has_lightglue(features: str) -> bool:
    try:
        Matcher("lightglue", features=features)
    except CovisError:
        return False
    return True
