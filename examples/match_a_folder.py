"""Features of many photos, found once and kept, and the matches of all pairs of them:

python match_a_folder.py photos/ out/
"""

import sys
from itertools import combinations
from pathlib import Path

import covis


def main(photos: Path, out: Path) -> None:
    extract = covis.Extractor(max_keypoints=2048)  # loads its model once
    match = covis.Matcher("auto")
    out.mkdir(exist_ok=True)
    features = {}
    for photo in sorted(photos.glob("*.png")) + sorted(photos.glob("*.jpg")):
        features[photo.stem] = extract(photo)
        features[photo.stem].save(out / f"{photo.stem}.npz")
    for name0, name1 in combinations(features, 2):
        found = match(features[name0], features[name1])
        found = covis.verify(found, features[name0], features[name1], "fundamental")
        found.save(out / f"{name0}--{name1}.npz")
        again = covis.Matches.load(out / f"{name0}--{name1}.npz")
        print(f"{name0}, {name1}: {len(again)} matches, {again.inliers.sum()} inliers")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
