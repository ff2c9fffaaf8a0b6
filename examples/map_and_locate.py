"""A map of photos, and where another photo was taken; needs pycolmap, the extra "map":

python map_and_locate.py photos/ new.jpg model/
"""

import sys
from pathlib import Path

from covis.sfm import Map, build_map, locate


def main(photos: Path, query: Path, model: Path) -> None:
    summary = build_map(photos, model)  # COLMAP's own programs open the result
    print(f"{summary.registered} of {summary.photos} photos placed, {summary.points} points")
    made = Map.open(model)
    for image in made.reconstruction.images.values():
        print(image.name, image.projection_center())
    found = locate(query, made)
    if found.estimate.pose is None:
        print(f"{query}: {found.estimate.note}")
    else:
        print(f"{query}: camera at {found.estimate.pose.position}")
        print(f"confidence {found.estimate.confidence:.3f}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:4]))
